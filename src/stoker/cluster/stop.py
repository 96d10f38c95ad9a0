"""The end of a cluster: everything that belongs to it ends, whatever died before."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from stoker.cluster.record import read_record, record_file, remove_traces
from stoker.cluster.target import Address
from stoker.errors import NotRunningError
from stoker.system.locks import hold_lock
from stoker.system.processes import stop

__all__ = ["STOP_GRACE", "Stopped", "stop_cluster"]

STOP_GRACE = 5.0
"""Seconds that processes have to end by themselves before they are killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """What ``down`` did."""

    address: Address
    processes: int
    """How many were running."""

    killed: int
    """How many of them had to be killed."""


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
        processes = len(record.processes())
        killed = stop(record.processes, grace=STOP_GRACE)
        remove_traces(address.directory, address.cluster_id)
    return Stopped(address=address, processes=processes, killed=killed)
