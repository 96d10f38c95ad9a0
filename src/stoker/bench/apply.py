"""The apply benchmark: applying an unchanged spec, beside the bare interpreter's start."""

from __future__ import annotations

from collections.abc import Callable

from stoker.bench.contenders import APPLY
from stoker.bench.machine import read_machine
from stoker.bench.measure import measure
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
    machine = read_machine()
    taken = measure(APPLY, [Case(engines=1)], rounds=rounds, timeout=timeout, on_sample=on_sample)
    return BenchRecord(
        benchmark="apply",
        measures=_MEASURES,
        baseline=APPLY[0].name,
        about={contender.name: contender.about for contender in APPLY},
        rounds=rounds,
        timeout=timeout,
        machine=machine,
        samples=taken.samples,
        skipped=taken.skipped,
    )
