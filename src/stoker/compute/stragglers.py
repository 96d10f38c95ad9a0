"""Stragglers: which batch, at the end of a call, is also given to an idle engine. Decides only.

Backup tasks of MapReduce (Dean and Ghemawat, 2004, section 3.6): when nothing else is left to do, the copy costs
nobody anything, and the first of the two to come home counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["LEAST", "Flight", "choose_straggler"]

LEAST = 1.0
"""Seconds below which nothing is a straggler: engines on a busy machine are not all equally fast."""

_FACTOR = 3.0
"""How many times longer than its peers a batch has to take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """A batch that is under way."""

    number: int

    since: float
    """When it was sent; the batch before it may have had the engine first."""

    expected: float | None
    """Seconds that its items would take at the pace of their peers; None: no peer has come home."""

    twin: bool = False
    """Whether it is one of two already."""


def choose_straggler(flights: Iterable[Flight], *, now: float, longest: float) -> int | None:
    """Choose the batch that an idle engine is to have as well.

    Args:
        flights: The batches that are under way, while no item is left to be sent.
        now: On the clock of ``since``.
        longest: Seconds that the longest batch took that has come home.

    Returns:
        The number of the one that is the farthest beyond its time; None: none is.
    """
    late = [
        ((now - flight.since) / most, flight.number)
        for flight in flights
        if not flight.twin
        and flight.expected is not None
        and now - flight.since > (most := max(LEAST, _FACTOR * max(flight.expected, longest)))
    ]
    return max(late)[1] if late else None
