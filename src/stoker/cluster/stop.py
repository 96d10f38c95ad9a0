"""The end of a cluster: everything that belongs to it ends, whatever died before."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from stoker.cluster.attach import is_supervised, revive_supervisor
from stoker.cluster.record import Record, read_record, record_file, remove_traces
from stoker.cluster.target import Address
from stoker.errors import NotRunningError, StartError, SupervisorError
from stoker.launch.supervisor_line import ask_supervisor
from stoker.system.locks import hold_lock
from stoker.system.processes import is_running, stop
from stoker.system.usage import read_state

__all__ = ["STOP_GRACE", "Stopped", "stop_cluster"]

STOP_GRACE = 5.0
"""Seconds that processes have to end by themselves before they are killed."""

_ANSWER = 15.0
"""Seconds that a supervisor has to end everything; a sound one needs tenths, and twice the grace at the most."""

_TAKE_OVER = 10.0
"""Seconds that another supervisor has to reach hosts again whose own was killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """What ``down`` did."""

    address: Address
    processes: int
    """How many were running."""

    killed: int
    """How many of them had to be killed."""

    unreached: tuple[str, ...] = ()
    """Hosts that could not be told: their agents and engines leave by themselves after the lease."""


def stop_cluster(address: Address, *, wait: float = 120.0) -> Stopped:
    """End every process of a cluster and remove what only a running one leaves on disk.

    Args:
        address: Which cluster.
        wait: Seconds to wait for another process that starts or stops it.

    Raises:
        NotRunningError: No cluster that stoker started runs there.
        BusyError: Another process is still at it.
        StopError: Some processes outlived SIGKILL.
    """
    file = record_file(address.directory, address.cluster_id)
    nothing = NotRunningError(f"{address.name}: no cluster that stoker started runs under this profile")
    if read_record(file) is None:
        raise nothing
    with contextlib.ExitStack() as stack:
        stack.enter_context(hold_lock(file.with_suffix(".lock"), wait=wait, purpose="stoker down"))
        record = read_record(file)
        if record is None:
            raise nothing
        if record.plan.hosts and not _has_supervisor(record):
            # Only a supervisor can tell agents on other hosts to leave; without, they do so after their lease.
            with contextlib.suppress(StartError, SupervisorError):
                revive_supervisor(address, within=_TAKE_OVER)
            record = read_record(file) or record
        processes, killed, unreached = _ask(record)
        # What a dead or frozen supervisor could not end.
        left = len(record.processes())
        killed += stop(record.processes, grace=STOP_GRACE)
        remove_traces(address.directory, address.cluster_id)
    return Stopped(address=address, processes=processes or left, killed=killed, unreached=unreached)


def _has_supervisor(record: Record) -> bool:
    try:
        return is_supervised(record)
    except SupervisorError:
        # It is there, and does not answer.
        return True


def _ask(record: Record) -> tuple[int, int, tuple[str, ...]]:
    nothing = 0, 0, tuple(record.plan.hosts)
    if record.supervisor is None or not is_running(record.supervisor):
        return nothing
    if read_state(record.supervisor.pid) == "T":
        # One that is stopped (SIGSTOP) would not answer.
        return nothing
    try:
        answer = ask_supervisor(record.plan.control_socket, "down", timeout=_ANSWER)
    except SupervisorError:
        return nothing
    return answer["processes"], answer["killed"], tuple(answer["unreached"])
