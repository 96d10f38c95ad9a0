"""Bounds: what a record of memory comes to for each message and item, and whether the controller stays within bounds.

The controller, hub and schedulers together, may grow with messages, and only so much; it may not grow with items.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from stoker.bench.record import BenchRecord, Case, Sample

__all__ = ["ITEM", "MESSAGE", "Bounds"]

MESSAGE = 2000
"""Bytes that the controller may keep of each message."""

ITEM = 5
"""Bytes for each item from which on items would seem to be kept: a pickled int has as many. Below it are the buffers
for the messages under way, which are there once, however many items follow."""

FEWEST = 10e6
"""Bytes that a first use and buffers may cost: where a bound comes to less in all, nobody can tell whether it holds."""

_PARTS = ("client", "hub", "scheduler", "engine", "others")
_CONTROLLER = ("hub", "scheduler")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a record of memory says of each contender in each case: a line. False: nothing."""

    record: BenchRecord

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines, in the record's order. Parts are medians of all rounds; each round has to be within the bound."""
        return tuple(
            f"{summary.case}: {summary.contender}: {self._render(summary.case, summary.contender)}"
            for summary in self.record.summaries
            if summary.spreads
        )

    def __bool__(self) -> bool:
        return bool(self.lines)

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def _render(self, case: Case, contender: str) -> str:
        samples = [
            sample
            for sample in self.record.samples
            if (sample.case, sample.contender) == (case, contender) and sample.figures
        ]
        one, bound = ("item", ITEM) if case.batch is None else ("message", MESSAGE)
        parts = [f"{part} {_figure(statistics.median(_share(samples, one, part)))}" for part in _PARTS]
        most = max(_share(samples, one, *_CONTROLLER))
        sent = statistics.median(sample.figures["messages"] for sample in samples)
        verdict = _judge(most, bound, sent if one == "message" else case.items or 1)
        return (
            f"{sent:,.0f} message{'' if sent == 1 else 's'}; bytes for each {one}: {', '.join(parts)}; "
            f"{' and '.join(_CONTROLLER)} {_figure(most)}, under {bound:,}: {verdict}"
        )


def _judge(most: float, bound: int, number: float) -> str:
    if most < bound:
        return "pass"
    return "FAIL" if bound * number > FEWEST else "too few to tell"


def _share(samples: Sequence[Sample], one: str, *parts: str) -> list[float]:
    """Give the bytes by which parts have grown together, for each message or item, round by round."""
    numbers = [sample.figures["messages"] if one == "message" else sample.case.items or 1 for sample in samples]
    grown = [sum(sample.figures[part] for part in parts) * 1e6 for sample in samples]
    return [size / number for size, number in zip(grown, numbers, strict=True)]


def _figure(value: float) -> str:
    return f"{value:z,.1f}"
