"""The one entry: a workload by name, run in the ways that are asked for, measured and checked."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stoker.errors import StokerError
from stoker.system.machine import read_cores
from stoker.workloads.outcome import Outcome, Report
from stoker.workloads.primes import plan_primes
from stoker.workloads.sums import plan_sum
from stoker.workloads.ways import VIAS, run_way
from stoker.workloads.work import Work, check_whole

__all__ = ["WORKLOADS", "run_workload"]

WORKLOADS = ("sum", "primes")
"""The names of the workloads."""

_PLANS: dict[str, Callable[..., Work]] = {"sum": plan_sum, "primes": plan_primes}
_PARAMETERS = {"sum": ("n", "times", "serial_times"), "primes": ("count",)}


def run_workload(
    name: str,
    view: Any,
    *,
    engines: int,
    vias: Sequence[str] = VIAS,
    n: int | None = None,
    times: int | None = None,
    serial_times: int | None = None,
    count: int | None = None,
    timeout: float = 600.0,
    journal: Path | None = None,
    on_outcome: Callable[[Outcome], None] | None = None,
) -> Report:
    """Run a workload in each of the given ways, one after the other, and check every result.

    A wrong result does not raise: its outcome says ``correct=False``.

    Args:
        name: ``sum`` or ``primes``.
        view: An ipyparallel view. The tutorial takes a load-balanced one.
        engines: How many engines the view has.
        vias: Which ways, of ``serial``, ``map``, ``parallel``, ``call`` and ``stoker``. Serial is run first
            wherever it stands, since the others are compared with it.
        n: For the sum: how many numbers are added; None means 10,000,000.
        times: For the sum: how often on the cluster; None means 100.
        serial_times: For the sum: how often in the serial run; None means 10.
        count: For the primes: how many; None means 1000.
        timeout: Seconds for each way.
        journal: Keeps what is finished of the way ``stoker``; its seconds are those of what was missing.
        on_outcome: Called with each outcome as soon as it is there.

    Raises:
        UnfinishedError: A way did not finish within its time.
        JournalError: The journal is of something else, or cannot be used.
        StokerError: An argument is wrong (nothing was run), or something failed on the engines.
    """
    work = _plan(name, {"n": n, "times": times, "serial_times": serial_times, "count": count})
    check_whole(name, "engines", engines, low=1)
    _check_timeout(name, timeout)
    ways = _order(vias)
    if journal is not None and "stoker" not in ways:
        raise StokerError(f"{name}: only the way 'stoker' keeps a journal")
    cores = min(engines, read_cores().logical)

    outcomes: list[Outcome] = []
    serial: float | None = None
    for via in ways:
        results, seconds = run_way(work, via, view, timeout=timeout, journal=journal)
        if via == "serial":
            serial = seconds / len(work.serial_items)
        outcome = _judge(work, via, results, seconds=seconds, serial=serial, cores=cores)
        outcomes.append(outcome)
        if on_outcome is not None:
            on_outcome(outcome)
    return Report(workload=name, parameters=work.parameters, engines=engines, cores=cores, outcomes=tuple(outcomes))


def _plan(name: str, parameters: dict[str, int | None]) -> Work:
    if name not in WORKLOADS:
        raise StokerError(f"unknown workload {name!r}{_meant(name, WORKLOADS)}")
    given = {key: value for key, value in parameters.items() if value is not None}
    foreign = [key for key in given if key not in _PARAMETERS[name]]
    if foreign:
        raise StokerError(
            f"{name}: takes no {' and no '.join(foreign)}; its parameters: {', '.join(_PARAMETERS[name])}"
        )
    return _PLANS[name](**given)


def _check_timeout(name: str, timeout: float) -> None:
    # Also false for NaN. threading cannot wait longer than its own maximum.
    if isinstance(timeout, bool) or not 0 < timeout <= threading.TIMEOUT_MAX:
        raise StokerError(
            f"{name}: timeout must be more than 0 s and at most {threading.TIMEOUT_MAX:.0f} s, got {timeout!r}"
        )


def _order(vias: Sequence[str]) -> list[str]:
    """Check the ways, and put serial first."""
    ways = [vias] if isinstance(vias, str) else list(vias)
    if not ways:
        raise StokerError(f"no way to run is named; there are: {', '.join(VIAS)}")
    for position, via in enumerate(ways):
        if via not in VIAS:
            raise StokerError(f"unknown way {via!r}{_meant(via, VIAS)}")
        if via in ways[:position]:
            raise StokerError(f"the way {via!r} is named twice")
    return sorted(ways, key=lambda via: via != "serial")


def _meant(word: str, words: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(words)}"


def _judge(work: Work, via: str, results: list[object], *, seconds: float, serial: float | None, cores: int) -> Outcome:
    items = work.serial_items if via == "serial" else work.items
    verdict = work.judge(items, results)
    speedup = None if serial is None else serial / (seconds / len(items))
    busy = 1 if via == "serial" else cores
    return Outcome(
        workload=work.name,
        via=via,
        items=len(items),
        seconds=seconds,
        speedup=speedup,
        efficiency=None if speedup is None else speedup / busy,
        correct=verdict.correct,
        figures=verdict.figures,
    )
