"""The memory benchmark: by how much client, hub, schedulers and engines grow with items, and with messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stoker.bench.contenders import MEMORY, Contender
from stoker.bench.measure import run_benchmark
from stoker.bench.record import BenchRecord, Case, Measure, Sample, Skipped

__all__ = ["measure_memory"]

_SMALL = "times as small as"
_PARTS = ("scheduler", "hub", "client", "engine", "others")
_MEASURES = (
    *(Measure(name=part, unit="MB", less_is_better=True, comparison=_SMALL) for part in _PARTS),
    Measure(name="messages", unit="sent", less_is_better=True, comparison="times as few as"),
)


def measure_memory(
    *,
    workers: Sequence[int] = (2,),
    items: Sequence[int] = (5_000_000,),
    messages: Sequence[int] = (50_000,),
    rounds: int = 1,
    timeout: float = 1800.0,
    contenders: Sequence[Contender] = MEMORY,
    on_sample: Callable[[Sample], None] = lambda sample: None,
    on_skipped: Callable[[Skipped], None] = lambda skipped: None,
) -> BenchRecord:
    """Measure how much more memory each part of a cluster has after a map whose results nobody keeps.

    Args:
        workers: How many engines; each number, with each of the two below, is a case.
        items: How many items travel in batches of the contender's own choice.
        messages: How many items travel in a message of their own.
        rounds: How often each contender runs in each case, on a new cluster each time.
        timeout: Seconds that a contender may take in a round.
        contenders: Who takes turns; one that has no batches is left out where there are too many items for it.
        on_sample: Told each sample as it is taken.
        on_skipped: Told each contender that cannot be measured here.
    """
    kinds = [(count, None) for count in dict.fromkeys(items)] + [(count, 1) for count in dict.fromkeys(messages)]
    return run_benchmark(
        "memory",
        _MEASURES,
        contenders,
        [
            Case(engines=number, kind="range", items=count, batch=batch)
            for number in dict.fromkeys(workers)
            for count, batch in kinds
        ],
        baseline=MEMORY[0].name,
        rounds=rounds,
        timeout=timeout,
        on_sample=on_sample,
        on_skipped=on_skipped,
    )
