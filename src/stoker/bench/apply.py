"""The apply benchmark: applying an unchanged spec, beside the bare interpreter's start."""

from __future__ import annotations

from collections.abc import Callable

from stoker.bench.contenders import APPLY
from stoker.bench.measure import run_benchmark
from stoker.bench.record import BenchRecord, Case, Measure, Sample

__all__ = ["measure_apply"]

_MEASURES = (Measure(name="wall", unit="ms", less_is_better=True),)


def measure_apply(
    *, rounds: int = 3, timeout: float = 120.0, on_sample: Callable[[Sample], None] = lambda sample: None
) -> BenchRecord:
    """Measure ``stoker apply`` where nothing has changed, and the interpreter alone, as whole processes.

    Args:
        rounds: How often each takes its turn; a turn is the fastest of several runs.
        timeout: Seconds that a turn may take.
        on_sample: Told each sample as it is taken.
    """
    return run_benchmark(
        "apply",
        _MEASURES,
        APPLY,
        [Case(engines=1)],
        baseline=APPLY[0].name,
        rounds=rounds,
        timeout=timeout,
        on_sample=on_sample,
    )
