"""The workloads benchmark: the sum, the primes, and items of given lengths, beside a plain loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stoker.bench.contenders import WORKLOADS, Contender
from stoker.bench.measure import run_benchmark
from stoker.bench.record import BenchRecord, Case, Measure, Sample, Skipped
from stoker.bench.trials import WORKS

__all__ = ["measure_workloads", "plan_works"]

_MEASURES = (Measure(name="seconds", unit="s", less_is_better=True),)
_DURATIONS = (0.001, 0.01, 0.1, 1.0)


def measure_workloads(
    *,
    workers: Sequence[int] = (2,),
    works: Sequence[str] = WORKS,
    n: int = 10_000_000,
    times: int = 100,
    count: int = 1000,
    durations: Sequence[float] = _DURATIONS,
    seconds: float = 4.0,
    repeats: int = 1,
    rounds: int = 3,
    timeout: float = 1800.0,
    contenders: Sequence[Contender] = WORKLOADS,
    on_sample: Callable[[Sample], None] = lambda sample: None,
    on_skipped: Callable[[Skipped], None] = lambda skipped: None,
) -> BenchRecord:
    """Measure how long each contender takes for all items of a workload.

    Workers run and have answered before a clock starts. Results are checked, after the clock stopped. Where a
    contender wants a chunk size, it runs with three or four, and its figure is the best of them all; one that wants
    none runs three times, and the best counts, too.

    Args:
        workers: How many workers; each number, with each work, is a case.
        works: As of ``plan_works``, like the five below.
        n: How many numbers each sum adds up.
        times: How many sums.
        count: How many primes.
        durations: CPU seconds that an item takes.
        seconds: CPU seconds of all items of a duration together.
        repeats: How often a program does all that; the least counts.
        rounds: How often each contender runs in each case.
        timeout: Seconds that a contender may take in a round.
        contenders: Who takes turns.
        on_sample: Told each sample as it is taken.
        on_skipped: Told each contender that cannot be measured here.
    """
    planned = plan_works(works, n=n, times=times, count=count, durations=durations, seconds=seconds)
    return run_benchmark(
        "workloads",
        _MEASURES,
        contenders,
        [Case(engines=number, repeats=repeats, **work) for number in dict.fromkeys(workers) for work in planned],
        baseline=WORKLOADS[0].name,
        rounds=rounds,
        timeout=timeout,
        on_sample=on_sample,
        on_skipped=on_skipped,
    )


def plan_works(
    works: Sequence[str], *, n: int, times: int, count: int, durations: Sequence[float], seconds: float
) -> list[dict[str, Any]]:
    """Plan which works there are, as the fields of a case that say which.

    Args:
        works: Which ones, of ``trials.WORKS``, in their order.
        n: How many numbers each sum adds up.
        times: How many sums.
        count: How many primes.
        durations: CPU seconds that an item of ``spin`` takes; each is a work.
        seconds: CPU seconds of all its items together.
    """
    planned = {
        "sum": [{"kind": "sum", "items": times, "numbers": n}],
        "primes": [{"kind": "primes", "items": count}],
        "spin": [
            {"kind": "spin", "items": max(1, round(seconds / duration)), "duration": duration}
            for duration in dict.fromkeys(durations)
        ],
    }
    return [work for name in dict.fromkeys(works) for work in planned[name]]
