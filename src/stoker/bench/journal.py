"""The journal benchmark: what it costs a map to keep what is finished in a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stoker.bench.contenders import JOURNAL
from stoker.bench.measure import run_benchmark
from stoker.bench.record import BenchRecord, Case, Measure, Sample

__all__ = ["measure_journal"]

_MEASURES = (
    Measure(name="kept", unit="%", less_is_better=False),
    Measure(name="plain", unit="items/s", less_is_better=False),
    Measure(name="journal", unit="items/s", less_is_better=False),
)


def measure_journal(
    *,
    workers: Sequence[int] = (2,),
    durations: Sequence[float] = (0.001,),
    seconds: float = 4.0,
    repeats: int = 10,
    rounds: int = 3,
    timeout: float = 600.0,
    on_sample: Callable[[Sample], None] = lambda sample: None,
) -> BenchRecord:
    """Measure how many items a second a map does without a journal and with one, in turn, on the same engines.

    ``kept`` is what a map with a journal keeps of the throughput of the one beside it: the median of all pairs.

    Args:
        workers: How many engines; each number, with each duration, is a case.
        durations: CPU seconds that an item takes.
        seconds: CPU seconds of all items together.
        repeats: How many pairs of maps a program does; each journal is a new one.
        rounds: How many programs there are in each case.
        timeout: Seconds that a program may take.
        on_sample: Told each sample as it is taken.
    """
    cases = [
        Case(engines=number, kind="spin", items=max(1, round(seconds / duration)), duration=duration, repeats=repeats)
        for number in dict.fromkeys(workers)
        for duration in dict.fromkeys(durations)
    ]
    return run_benchmark(
        "journal",
        _MEASURES,
        JOURNAL,
        cases,
        baseline=JOURNAL[0].name,
        rounds=rounds,
        timeout=timeout,
        on_sample=on_sample,
    )
