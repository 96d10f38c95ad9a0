"""Footprint: what a cluster takes of the machine while it has nothing to do. Read in a contender's own program."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from stoker.bench.parts import CLIENT, Parts, Seen, plan_parts, read_processes
from stoker.system.usage import read_usage

__all__ = ["measure_footprint", "plan_footprint", "share_of_core", "wait_until_calm"]

_PROC = Path("/proc")
_POLL = 0.1
_CALM = 0.5
"""Seconds at a time in which it is seen whether the cluster is still at work."""

_BUSY = 0.2
"""More than this share of a core: it still is."""

_PATIENCE = 10.0
"""Seconds that its engines have to be there and it has to calm down; whatever it does then is measured."""


def measure_footprint(
    is_engine: Callable[[Seen], bool], *, engines: int, idle: float = 0.0, with_program: bool = False
) -> dict[str, float]:
    """Measure the memory of the cluster that this program started, and what it does while there is nothing to do.

    Args:
        is_engine: Says of a process whether it is an engine, or one that only engines descend from.
        engines: How many there should be.
        idle: Seconds over which CPU is counted; 0: it is not.
        with_program: Whether parts of the cluster live in this program, so that it counts with the others.

    Returns:
        ``memory`` (PSS for each engine, in MB), ``overhead`` (PSS of the rest, in MB), and, if asked for, ``idle``
        (CPU of all, in percent of a core); nothing where the system does not tell.
    """
    if read_usage(os.getpid()).pss is None:
        return {}

    def look() -> Parts:
        return plan_footprint(read_processes(), is_engine, program=os.getpid(), with_program=with_program)

    parts = _wait_for_engines(look, engines)
    if len(parts["engines"]) < engines:
        raise SystemExit(f"{len(parts['engines'])} processes of engines were found where {engines} engines should be")
    figures = {"memory": _read_memory(parts["engines"]) / engines, "overhead": _read_memory(parts["others"])}
    if idle:
        figures["idle"] = _measure_cpu(look, idle) * 100
    return figures


def plan_footprint(
    processes: Collection[Seen], is_engine: Callable[[Seen], bool], *, program: int, with_program: bool
) -> Parts:
    """Decide which processes are ``engines``, with what serves one of them alone, and which are the ``others``."""

    def name_part(seen: Seen, above: str | None) -> str:
        return "engines" if above == "engines" or is_engine(seen) else "others"

    parts = {
        "engines": frozenset[int](),
        "others": frozenset[int](),
        **plan_parts(processes, name_part, program=program),
    }
    client = parts.pop(CLIENT)
    return parts | {"others": parts["others"] | client} if with_program else parts


def wait_until_calm(look: Callable[[], Parts], *, deadline: float | None = None) -> Parts:
    """Wait until a cluster is no longer at work, but not for ever, and give its parts.

    Args:
        look: Gives its parts as they are now.
        deadline: On the monotonic clock; None: ten seconds from now.
    """
    if deadline is None:
        deadline = time.monotonic() + _PATIENCE
    while _measure_cpu(look, _CALM) > _BUSY and time.monotonic() < deadline:
        pass
    return look()


def share_of_core(before: Mapping[int, float], after: Mapping[int, float], seconds: float) -> float:
    """Give the share of a core that processes used, of the CPU seconds of each.

    Who is new used all that it has; what ended in between is not known.
    """
    return sum(used - before.get(pid, 0.0) for pid, used in after.items()) / seconds


def _read_memory(pids: Iterable[int]) -> float:
    return sum(read_usage(pid).pss or 0 for pid in pids) / 1e6


def _read_cpu(parts: Parts) -> dict[int, float]:
    pids = frozenset[int]().union(*parts.values())
    return {pid: cpu for pid in pids if (cpu := _read_seconds(pid)) is not None}


def _read_seconds(pid: int) -> float | None:
    # A process that idles uses less than one of the clock ticks in which proc_pid_stat(5) counts; this is in ns.
    try:
        threads = [(task / "schedstat").read_text() for task in (_PROC / str(pid) / "task").iterdir()]
    except OSError:
        return read_usage(pid).cpu
    return sum(int(text.split()[0]) for text in threads) / 1e9


def _measure_cpu(look: Callable[[], Parts], seconds: float) -> float:
    begin, before = time.perf_counter(), _read_cpu(look())
    # Nothing is waited for: it is what happens meanwhile that counts.
    time.sleep(seconds)
    taken = time.perf_counter() - begin
    return share_of_core(before, _read_cpu(look()), taken)


def _wait_for_engines(look: Callable[[], Parts], engines: int) -> Parts:
    deadline = time.monotonic() + _PATIENCE
    while len(look()["engines"]) < engines and time.monotonic() < deadline:
        time.sleep(_POLL)
    return wait_until_calm(look, deadline=deadline)
