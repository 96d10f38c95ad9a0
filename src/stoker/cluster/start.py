"""The start of a cluster: look around, take the lock, apply the spec, go through the stages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stoker.cluster.record import Record, read_record, record_file, remove_traces
from stoker.cluster.stages import Start
from stoker.cluster.stop import STOP_GRACE
from stoker.cluster.target import Address
from stoker.errors import ProfileError, SpecError, StartError
from stoker.launch import ConnectionFiles, find_faults, is_listening, read_connection
from stoker.profile import Plan, apply_plan, read_plan, verify_plan
from stoker.spec import ClusterSpec
from stoker.system.files import make_directory
from stoker.system.locks import hold_lock
from stoker.system.processes import is_running, stop

__all__ = ["Started", "start_cluster"]

_PORT_CLASHES = 2
_CLASH = "Address already in use"
_CHANGED = "the spec has changed since it was started; what runs is as before: stoker down, then stoker up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What ``up`` did."""

    address: Address
    record: Record
    new: bool
    """False: it ran already, and nothing was changed."""

    plan: Plan
    """What was applied to the profile; for a cluster that ran already, what would be applied."""

    seconds: float
    notices: tuple[str, ...]
    """What the user should know about it."""


def start_cluster(
    spec: ClusterSpec,
    *,
    source: str = "spec",
    wait: float = 120.0,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Started:
    """Make a spec's cluster run: apply it, start controller and engines, wait until every engine answers.

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
    read_plan(spec, source=source)  # finds what is wrong with [settings] before anything is touched
    address = Address.of(spec)
    on_stage("profile")
    with contextlib.ExitStack() as stack:
        with _as_stage("profile"):
            make_directory(address.directory.pid)
            file = record_file(address.directory, address.cluster_id)
            stack.enter_context(hold_lock(file.with_suffix(".lock"), wait=wait, purpose="stoker up"))
            plan = read_plan(spec, source=source)
        notices = spec.notices
        record = read_record(file)
        new = record is None or not _is_up(record)
        if record is None or new:
            with _as_stage("profile"):
                _clear_the_way(address, record, on_stage)
                apply_plan(plan)
                notices += tuple(str(finding) for finding in verify_plan(plan))
            record = _run_start(spec, address, source=source, on_stage=on_stage)
        elif plan:
            notices += (_CHANGED,)
    seconds = time.monotonic() - begin
    return Started(address=address, record=record, new=new, plan=plan, seconds=seconds, notices=notices)


def _run_start(spec: ClusterSpec, address: Address, *, source: str, on_stage: Callable[[str], None]) -> Record:
    deadline = time.monotonic() + spec.cluster.start_timeout
    for _ in range(_PORT_CLASHES):
        try:
            return Start(spec, address, source=source, deadline=deadline, on_stage=on_stage).run()
        except StartError as error:
            # ipcontroller looks for free ports, gives them back, and binds them later: another may be faster.
            if spec.controller.ports is not None or not any(_CLASH in line for line in error.lines):
                raise
            on_stage("a port was taken by another program meanwhile: once more")
    return Start(spec, address, source=source, deadline=deadline, on_stage=on_stage).run()


def _is_up(record: Record) -> bool:
    # We hold the lock: a record that says "starting" is of a start that was killed.
    return record.state == "running" and record.controller is not None and is_running(record.controller)


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
