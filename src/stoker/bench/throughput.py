"""The throughput benchmark: a trivial function over many items, a list in and a list out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stoker.bench.contenders import THROUGHPUT, Contender
from stoker.bench.measure import run_benchmark
from stoker.bench.record import BenchRecord, Case, Measure, Sample, Skipped
from stoker.bench.trials import INPUTS

__all__ = ["measure_throughput"]

_MEASURES = (
    Measure(name="best", unit="items/s", less_is_better=False),
    Measure(name="median", unit="items/s", less_is_better=False),
)


def measure_throughput(
    *,
    workers: Sequence[int] = (2,),
    items: Sequence[int] = (20_000, 1_000_000),
    inputs: Sequence[str] = INPUTS,
    repeats: int = 3,
    rounds: int = 3,
    timeout: float = 600.0,
    contenders: Sequence[Contender] = THROUGHPUT,
    on_sample: Callable[[Sample], None] = lambda sample: None,
    on_skipped: Callable[[Skipped], None] = lambda skipped: None,
) -> BenchRecord:
    """Measure how many items a second each contender carries to its workers and back.

    Workers run and have answered before a clock starts. Results are checked, after the clock stopped. Those who send
    each item in a message of its own are left out where there are more than 20,000.

    Args:
        workers: How many workers; each number, with each of the two below, is a case.
        items: How many items.
        inputs: Which items, of ``trials.INPUTS``.
        repeats: How often a program sends all of them; the figures are the best and the median.
        rounds: How often each contender runs in each case.
        timeout: Seconds that a contender may take in a round.
        contenders: Who takes turns.
        on_sample: Told each sample as it is taken.
        on_skipped: Told each contender that cannot be measured here.
    """
    cases = [
        Case(engines=number, kind=kind, items=count, repeats=repeats)
        for number in dict.fromkeys(workers)
        for count in dict.fromkeys(items)
        for kind in dict.fromkeys(inputs)
    ]
    return run_benchmark(
        "throughput",
        _MEASURES,
        contenders,
        cases,
        baseline=THROUGHPUT[0].name,
        rounds=rounds,
        timeout=timeout,
        on_sample=on_sample,
        on_skipped=on_skipped,
    )
