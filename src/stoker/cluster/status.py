"""How a cluster is: what should run, what does, and whether it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stoker.cluster.record import Record, read_record, record_file
from stoker.cluster.target import Address, find_running
from stoker.errors import ConnectError
from stoker.launch import ConnectionFiles, cluster_file, is_listening, read_connection
from stoker.system.processes import is_running, read_age

__all__ = ["ClusterStatus", "EngineStatus", "read_status", "read_statuses"]

_ANSWER = 5.0
"""Seconds that a controller has to answer; a healthy one needs hundredths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """One engine."""

    number: int
    """The number under which clients know it."""

    group: int
    """Its group's place in the spec."""

    pid: int
    state: Literal["ready", "running", "ended"]
    """``running``: its process is there, but the hub does not (yet) know it or was not asked."""

    seconds: float | None
    """Since its process started; None where it has ended."""

    log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """One cluster."""

    name: str
    """The profile's name, with the cluster id where there is one."""

    directory: str
    state: Literal["running", "starting", "broken", "stopped", "foreign"]
    """``broken``: the controller is dead or silent, others may live. ``foreign``: a controller that stoker
    did not start listens here."""

    detail: str
    """What to know about the state, and what to do; empty where nothing."""

    encrypted: bool | None
    """None where nothing runs."""

    client_address: str
    engine_address: str
    scheduler: str
    controller_pid: int | None
    seconds: float | None
    """Since the controller started."""

    engines: tuple[EngineStatus, ...]
    connection_file: str
    """What a client on another machine needs; holds keys."""

    controller_log: str
    source: str
    """Where the spec came from."""


def read_statuses(*, ipython_dir: Path | None = None) -> tuple[ClusterStatus, ...]:
    """Read the status of every cluster that stoker started and that was not taken down."""
    return tuple(read_status(address) for address in find_running(ipython_dir=ipython_dir))


def read_status(address: Address) -> ClusterStatus:
    """Read the status of one cluster; takes about 5 s at the most, where the controller is silent."""
    files = ConnectionFiles.of(address.directory, address.cluster_id)
    record = read_record(record_file(address.directory, address.cluster_id))
    if record is None or not record.processes():
        connection = read_connection(files)
        if connection is not None and is_listening(connection, timeout=1.0):
            return _describe(address, None, "foreign", "not started by stoker: ipcluster stop ends it")
        return _describe(address, None, "stopped", "")
    if _was_ended_by_ipcluster(address, record):
        return _describe(address, None, "stopped", "ended by ipcluster")
    if record.controller is None or not is_running(record.controller):
        state: Literal["starting", "broken"] = "starting" if record.controller is None else "broken"
        detail = "" if state == "starting" else "the controller died: stoker up starts anew, stoker down cleans up"
        return _describe(address, record, state, detail)
    if record.state == "starting":
        return _describe(address, record, "starting", "")
    try:
        numbers = _ask(address)
    except ConnectError as error:
        return _describe(address, record, "broken", f"{error}; stoker down ends it")
    ended = [engine.number for engine in record.engines if not is_running(engine.process)]
    detail = f"ended: engine {', '.join(map(str, ended))}; stoker down, then stoker up" if ended else ""
    return _describe(address, record, "running", detail, numbers)


def _was_ended_by_ipcluster(address: Address, record: Record) -> bool:
    """Say whether ipcluster, which removes its file, has ended it; nannies go on for a few seconds."""
    leaders = [record.controller, *(engine.process for engine in record.engines)]
    gone = not any(leader is not None and is_running(leader) for leader in leaders)
    return record.state == "running" and gone and not cluster_file(address.directory, address.cluster_id).exists()


def _ask(address: Address) -> tuple[int, ...]:
    from stoker.cluster.client import connect_client, read_engine_numbers

    client = connect_client(address.directory, address.cluster_id, timeout=_ANSWER)
    try:
        return read_engine_numbers(client)
    finally:
        client.close()


def _describe(
    address: Address,
    record: Record | None,
    state: Literal["running", "starting", "broken", "stopped", "foreign"],
    detail: str,
    ready: tuple[int, ...] = (),
) -> ClusterStatus:
    controller = None if record is None else record.controller
    return ClusterStatus(
        name=address.name,
        directory=str(address.directory.path),
        state=state,
        detail=detail,
        encrypted=None if record is None else record.encrypted,
        client_address="" if record is None else record.client_address,
        engine_address="" if record is None else record.engine_address,
        scheduler="" if record is None else record.scheduler,
        controller_pid=None if controller is None else controller.pid,
        seconds=None if controller is None or not is_running(controller) else read_age(controller),
        engines=() if record is None else tuple(_describe_engines(record, ready)),
        connection_file=str(ConnectionFiles.of(address.directory, address.cluster_id).client),
        controller_log="" if record is None else record.controller_log,
        source="" if record is None else record.source,
    )


def _describe_engines(record: Record, ready: tuple[int, ...]) -> list[EngineStatus]:
    found = []
    for engine in record.engines:
        runs = is_running(engine.process)
        found.append(
            EngineStatus(
                number=engine.number,
                group=engine.group,
                pid=engine.process.pid,
                state="ended" if not runs else "ready" if engine.number in ready else "running",
                seconds=read_age(engine.process) if runs else None,
                log=engine.log,
            )
        )
    return found
