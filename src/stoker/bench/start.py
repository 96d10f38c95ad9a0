"""The start benchmark: from the first import to the first result, and the stop after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stoker.bench.contenders import BASELINE, START, Contender
from stoker.bench.measure import run_benchmark
from stoker.bench.record import BenchRecord, Case, Measure, Sample, Skipped

__all__ = ["measure_start"]

_MEASURES = (
    Measure(name="start", unit="s", less_is_better=True),
    Measure(name="stop", unit="s", less_is_better=True),
)


def measure_start(
    *,
    engines: Sequence[int] = (2,),
    rounds: int = 5,
    timeout: float = 120.0,
    contenders: Sequence[Contender] = START,
    on_sample: Callable[[Sample], None] = lambda sample: None,
    on_skipped: Callable[[Skipped], None] = lambda skipped: None,
) -> BenchRecord:
    """Measure how long each contender takes to a first result of a load-balanced view, and to stop.

    The interpreter's own start is not in the figures: a program's clock starts right before its first import of
    what it measures.

    Args:
        engines: Sizes of cluster; each is a case.
        rounds: How often each contender runs in each case.
        timeout: Seconds that a contender may take, start and stop together.
        contenders: Who takes turns.
        on_sample: Told each sample as it is taken.
        on_skipped: Told each contender that cannot be measured here.
    """
    return run_benchmark(
        "start",
        _MEASURES,
        contenders,
        [Case(engines=number) for number in dict.fromkeys(engines)],
        baseline=BASELINE,
        rounds=rounds,
        timeout=timeout,
        on_sample=on_sample,
        on_skipped=on_skipped,
    )
