"""The ways to run a task function on items: here, one after the other, or on a view, as the tutorial shows."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from stoker.compute import PendingMap, Standing, parallel, portable
from stoker.errors import StokerError, UnfinishedError
from stoker.workloads.work import Work

__all__ = ["VIAS", "run_way"]

VIAS = ("serial", "map", "parallel", "call", "stoker")
"""A plain loop in this process; the view's own ``map``; a function decorated with ``stoker.compute.parallel``,
through its ``map``; the same function, called; and ``stoker.map``, which sends batches."""

# The shortest time that the clock can tell from nothing: a run never takes 0 seconds.
_TICK = time.get_clock_info("perf_counter").resolution


def run_way(
    work: Work, via: str, view: Any, *, timeout: float, journal: Path | None = None
) -> tuple[list[object], float]:
    """Run a workload in one way.

    Args:
        work: The workload.
        via: The way.
        view: An ipyparallel view.
        timeout: Seconds that it may take.
        journal: Keeps what is finished, if the way is ``stoker``.

    Returns:
        The results, in the order of the items, and the seconds it took.

    Raises:
        UnfinishedError: It did not finish within ``timeout`` seconds.
        StokerError: The view refused the items, or the task function raised on an engine, or an engine died.
    """
    start = time.perf_counter()
    run: Callable[..., list[object]]
    run = _run_here if via == "serial" else functools.partial(_run_on_view, via=via)
    if via == "stoker":
        run = functools.partial(_run_in_batches, journal=journal)
    results = run(work, view=view, timeout=timeout)
    return results, max(time.perf_counter() - start, _TICK)


def _run_here(work: Work, *, view: Any, timeout: float) -> list[object]:
    deadline = time.perf_counter() + timeout
    results: list[object] = []
    for item in work.serial_items:
        if time.perf_counter() >= deadline:
            raise UnfinishedError(work.name, "serial", done=len(results), items=len(work.serial_items), timeout=timeout)
        results.append(work.task(item))
    return results


def _run_in_batches(work: Work, *, view: Any, timeout: float, journal: Path | None) -> list[object]:
    from stoker.compute import map as map_on

    def watch(standing: Standing) -> None:
        if standing.seconds >= timeout:
            raise UnfinishedError(work.name, "stoker", done=standing.done, items=len(work.items), timeout=timeout)

    try:
        return map_on(view, portable(work.task), work.items, progress=watch, journal=journal)
    except StokerError:
        raise
    except Exception as error:
        raise StokerError(f"{work.name} via stoker: failed on the engines: {error}") from error


def _run_on_view(work: Work, *, via: str, view: Any, timeout: float) -> list[object]:
    deadline = time.perf_counter() + timeout
    try:
        pending = _submit(work, via, view)
    except Exception as error:
        raise StokerError(
            f"{work.name} via {via}: the view did not take the items: {type(error).__name__}: {error}"
        ) from error
    try:
        # A negative time would mean for ever.
        finished = pending.wait(max(deadline - time.perf_counter(), 0))
    except BaseException:
        _abandon(pending, view)
        raise
    if not finished:
        done = pending.progress
        unasked = _abandon(pending, view)
        raise UnfinishedError(work.name, via, done=done, items=len(work.items), timeout=timeout) from unasked
    try:
        return list(pending.get(0))
    except Exception as error:
        raise StokerError(f"{work.name} via {via}: failed on the engines: {error}") from error


def _submit(work: Work, via: str, view: Any) -> PendingMap[int]:
    if via == "map":
        return cast("PendingMap[int]", view.map(portable(work.task), work.items, block=False))
    decorated = parallel(view, block=False)(work.task)
    return decorated.map(work.items) if via == "parallel" else decorated(work.items)


def _abandon(pending: PendingMap[int], view: Any) -> Exception | None:
    """Ask the engines to drop what they have not started, without awaiting their answers; tell why they were not."""
    # AsyncMapResult.abort waits for every engine's answer, without limit: a frozen engine would hold us for ever.
    try:
        view.abort(pending, block=False)
    except Exception as error:
        return error
    return None
