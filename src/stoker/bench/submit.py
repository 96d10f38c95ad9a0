"""The submit benchmark: one call a future, from the first submitted to the last result, and one call there and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stoker.bench.contenders import SUBMIT, Contender
from stoker.bench.measure import run_benchmark
from stoker.bench.record import BenchRecord, Case, Measure, Sample, Skipped

__all__ = ["measure_submit"]

_MEASURES = (
    Measure(name="rate", unit="calls/s", less_is_better=False),
    Measure(name="trip", unit="ms", less_is_better=True),
)


def measure_submit(
    *,
    workers: Sequence[int] = (2,),
    calls: int = 20_000,
    repeats: int = 3,
    rounds: int = 3,
    timeout: float = 600.0,
    contenders: Sequence[Contender] = SUBMIT,
    on_sample: Callable[[Sample], None] = lambda sample: None,
    on_skipped: Callable[[Skipped], None] = lambda skipped: None,
) -> BenchRecord:
    """Measure how many calls of a trivial function a second are submitted, run and collected, each with its future.

    Workers run and have answered before a clock starts. ``trip`` is the median of single calls, each submitted when
    the one before it has come home.

    Args:
        workers: How many workers; each number is a case.
        calls: How many calls.
        repeats: How often a program submits all of them; ``rate`` is the median.
        rounds: How often each contender runs in each case.
        timeout: Seconds that a contender may take in a round.
        contenders: Who takes turns.
        on_sample: Told each sample as it is taken.
        on_skipped: Told each contender that cannot be measured here.
    """
    return run_benchmark(
        "submit",
        _MEASURES,
        contenders,
        [Case(engines=number, kind="range", items=calls, repeats=repeats) for number in dict.fromkeys(workers)],
        baseline=SUBMIT[0].name,
        rounds=rounds,
        timeout=timeout,
        on_sample=on_sample,
        on_skipped=on_skipped,
    )
