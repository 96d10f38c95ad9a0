"""The start benchmark: from the first import to the first result, what the cluster then takes, and its stop."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from stoker.bench.contenders import BASELINE, START, Contender
from stoker.bench.measure import run_benchmark
from stoker.bench.record import BenchRecord, Case, Measure, Sample, Skipped
from stoker.system.usage import read_usage

__all__ = ["measure_start"]

_MEASURES = (
    Measure(name="start", unit="s", less_is_better=True),
    Measure(name="stop", unit="s", less_is_better=True),
)
_MEMORY = (
    Measure(name="memory", unit="MB/engine", less_is_better=True, comparison="times as small as"),
    Measure(name="overhead", unit="MB", less_is_better=True, comparison="times as small as"),
)
_IDLE = Measure(name="idle", unit="% of a core", less_is_better=True, comparison="times as quiet as")


def measure_start(
    *,
    engines: Sequence[int] = (2,),
    rounds: int = 5,
    timeout: float = 120.0,
    idle: float = 0.0,
    contenders: Sequence[Contender] = START,
    on_sample: Callable[[Sample], None] = lambda sample: None,
    on_skipped: Callable[[Skipped], None] = lambda skipped: None,
) -> BenchRecord:
    """Measure how long each contender takes to a first result, the memory that it then has, and how long to stop.

    The interpreter's own start is not in the figures: a program's clock starts right before its first import of
    what it measures. ``memory`` is that of the engines and what serves them alone (nannies, agents), for each engine;
    ``overhead`` that of the rest of the cluster. Memory is PSS, so it is measured only where the system tells that.

    Args:
        engines: Sizes of cluster; each is a case.
        rounds: How often each contender runs in each case.
        timeout: Seconds that a contender may take, from its first import to the end of its stop.
        idle: Seconds without work over which the CPU of the whole cluster is counted; 0: it is not.
        contenders: Who takes turns.
        on_sample: Told each sample as it is taken.
        on_skipped: Told each contender that cannot be measured here.
    """
    footprint = () if read_usage(os.getpid()).pss is None else (*_MEMORY, *([_IDLE] if idle else []))
    return run_benchmark(
        "start",
        (*_MEASURES, *footprint),
        contenders,
        [Case(engines=number, idle=idle or None) for number in dict.fromkeys(engines)],
        baseline=BASELINE,
        rounds=rounds,
        timeout=timeout,
        on_sample=on_sample,
        on_skipped=on_skipped,
    )
