"""The start of a cluster: look around, take the lock, begin a supervisor, apply the spec, hear the stages."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stoker.cluster.attach import Beginning, is_supervised, revive_supervisor
from stoker.cluster.planning import render_environment, render_run_plan
from stoker.cluster.record import Record, read_record, record_file, remove_traces
from stoker.cluster.startup_files import read_startup_files
from stoker.cluster.stop import STOP_GRACE
from stoker.cluster.target import Address
from stoker.cluster.update import update_cluster
from stoker.errors import ProfileError, SpecError, StartError, SupervisorError
from stoker.launch import (
    RUN_VARIABLE,
    ConnectionFiles,
    find_faults,
    find_taken_ports,
    is_listening,
    read_connection,
    read_open_ports,
)
from stoker.launch.supervisor_line import ask_supervisor
from stoker.profile import Plan, apply_plan, read_plan, verify_plan
from stoker.profile.catalogue import read_catalogue
from stoker.spec import ClusterSpec
from stoker.system.files import make_directory
from stoker.system.locks import hold_lock
from stoker.system.machine import read_cores
from stoker.system.processes import find_marked, stop

__all__ = ["Started", "start_cluster"]

_PORT_CLASHES = 2
_CLASH = "Address already in use"
_HELLO = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What ``up`` did."""

    address: Address
    record: Record
    new: bool
    """False: it ran already."""

    changes: tuple[str, ...]
    """What was changed of one that ran already."""

    plan: Plan
    """What was applied to the profile."""

    seconds: float
    notices: tuple[str, ...]
    """What the user should know about it."""

    open_ports: tuple[int, ...] = ()
    """The controller's that other machines can reach, as far as no firewall is in the way."""

    hindrances: Mapping[str, str] = field(default_factory=dict)
    """Why agents, by name, start interpreters where they should fork engines; empty of those that fork."""


def start_cluster(
    spec: ClusterSpec,
    *,
    source: str = "spec",
    wait: float = 120.0,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Started:
    """Make a spec's cluster run: apply it, start controller and engines, wait until every engine is there.

    One that runs already is changed as far as that can be done while it runs; the rest is named in the notices. Where
    its supervisor died, a new one takes over.

    Args:
        spec: What the cluster should be.
        source: What faults name as the place of the spec.
        wait: Seconds to wait for another process that starts or stops the same cluster.
        on_stage: Told each stage as it begins.

    Raises:
        SpecError: The spec asks for what cannot be started here; nothing was touched.
        BusyError: Another process is still at it.
        StartError: A stage failed; what had been started was ended again.
    """
    begin = time.monotonic()
    faults = find_faults(spec, source=source)
    if faults:
        raise SpecError(faults)
    if spec.settings:
        read_plan(spec, source=source)  # finds what is wrong with them before anything is touched
    address = Address.of(spec)
    on_stage("profile")
    with contextlib.ExitStack() as stack:
        with _as_stage("profile"):
            make_directory(address.directory.pid)
            make_directory(address.directory.log, mode=0o755)
            file = record_file(address.directory, address.cluster_id)
            stack.enter_context(hold_lock(file.with_suffix(".lock"), wait=wait, purpose="stoker up"))
        record = read_record(file)
        notices = spec.notices
        changes: tuple[str, ...] = ()
        new = record is None or not _is_up(record)
        if record is None or new:
            _clear_the_way(address, record, on_stage)
            plan, more = _run_start(spec, address, source=source, on_stage=on_stage)
            notices += more
        else:
            if not is_supervised(record):
                on_stage("supervisor: taking over what runs")
                revive_supervisor(address)
                changes = ("its supervisor had died; a new one has taken over",)
            with _as_stage("profile"):
                plan = read_plan(spec, source=source)
            done, more = update_cluster(spec, address, plan, source=source)
            changes += done
            notices += more
        found = read_record(file)
    if found is None:
        raise StartError("registration", "it came up, and somebody ended it at once")
    return Started(
        address=address,
        record=found,
        new=new,
        changes=changes,
        plan=plan,
        seconds=time.monotonic() - begin,
        notices=notices,
        open_ports=read_open_ports(ConnectionFiles.of(address.directory, address.cluster_id)),
        hindrances=_ask_hindrances(found),
    )


def _ask_hindrances(record: Record) -> dict[str, str]:
    try:
        told = ask_supervisor(record.plan.control_socket, "hello", timeout=_HELLO).get("hindrances", {})
    except SupervisorError:
        # It came up; what became of it since is for the status to say.
        return {}
    return {name: hindrance for name, hindrance in told.items() if hindrance}


def _run_start(
    spec: ClusterSpec, address: Address, *, source: str, on_stage: Callable[[str], None]
) -> tuple[Plan, tuple[str, ...]]:
    for _ in range(_PORT_CLASHES):
        try:
            return _start(spec, address, source=source, on_stage=on_stage)
        except StartError as error:
            # ipcontroller looks for free ports, gives them back, and binds them later: another may be faster.
            if spec.controller.ports is not None or not any(_CLASH in line for line in error.lines):
                raise _name_taken_ports(error, spec) from None
            on_stage("a port was taken by another program meanwhile: once more")
    return _start(spec, address, source=source, on_stage=on_stage)


def _start(
    spec: ClusterSpec, address: Address, *, source: str, on_stage: Callable[[str], None]
) -> tuple[Plan, tuple[str, ...]]:
    run = secrets.token_hex(8)
    run_plan = render_run_plan(
        read_startup_files(spec),
        address.directory,
        run=run,
        source=source,
        cwd=Path.cwd(),
        cores=read_cores(),
        catalogue=read_catalogue() if spec.settings else None,
    )
    logs = [run_plan.engine_log(number) for number in run_plan.slots]
    try:
        with _as_stage("profile"):
            # What is in a log at the end of a start is of this one.
            for log in (*logs, *(Path(agent.log) for agent in run_plan.agents), run_plan.supervisor_log):
                log.unlink(missing_ok=True)
            # Begun first: while this process writes the profile, an agent comes up.
            beginning = Beginning(run_plan, render_environment(os.environ, address.directory, run), do="start")
        with beginning:
            with _as_stage("profile"):
                plan = read_plan(spec, source=source)
                apply_plan(plan)
                notices = tuple(str(finding) for finding in verify_plan(plan))
            beginning.say(do="go")
            notices += beginning.finish(on_stage=on_stage)
    except BaseException:
        # The supervisor has ended what it started, unless it was killed itself.
        stop(lambda: find_marked(RUN_VARIABLE, run), grace=STOP_GRACE)
        remove_traces(address.directory, address.cluster_id)
        raise
    return plan, notices


def _name_taken_ports(error: StartError, spec: ClusterSpec) -> StartError:
    taken = find_taken_ports(spec)
    if not taken:
        return error
    numbers = ", ".join(str(port) for port in taken)
    problem = f"{error.problem}; of its ports (controller.ports) another program uses: {numbers}"
    return StartError(error.stage, problem, log=error.log, lines=error.lines)


def _is_up(record: Record) -> bool:
    # We hold the lock: a record that says "starting" is of a start that was killed.
    return record.state == "running" and bool(record.processes())


def _clear_the_way(address: Address, record: Record | None, on_stage: Callable[[str], None]) -> None:
    """End what an earlier run left, and refuse where a controller runs that is not ours to end."""
    if record is not None and (left := record.processes()):
        on_stage(f"ending {len(left)} processes that an earlier run left")
        stop(record.processes, grace=STOP_GRACE)
    connection = read_connection(ConnectionFiles.of(address.directory, address.cluster_id))
    if connection is not None and is_listening(connection, timeout=1.0):
        more = f" --cluster-id={address.cluster_id}" if address.cluster_id else ""
        raise StartError(
            "profile",
            f"a controller that stoker did not start runs under {address.name} (it listens on port {connection.port}); "
            f"end it first, where it was started or with: ipcluster stop --profile={address.directory.name}{more}",
        )
    remove_traces(address.directory, address.cluster_id)


@contextlib.contextmanager
def _as_stage(stage: str) -> Iterator[None]:
    try:
        yield
    except ProfileError as error:
        raise StartError(stage, str(error)) from error
    except OSError as error:
        raise StartError(stage, f"{error.filename}: {error.strerror}") from error
