"""How many items the next message to the engines should carry; decides only, and never sends, waits or reads a clock.

A batch is an engine's share of what is left, as in guided self-scheduling (Polychronopoulos and Kuck, 1987), but
measured in seconds of work instead of items, and bounded on both sides: after small ones, which tell the pace, large
ones, and smaller ones at the end, so that all engines finish together. What an item takes is a guess from what came
home, and before that there is none; so each batch has a limit of time, too, after which its engine gives back what it
has not begun. A wrong guess costs a message.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from typing import NamedTuple

__all__ = ["DEPTH", "FIRST_BYTES", "MAX_BYTES", "TARGET", "Load", "Pace", "size_batch"]

DEPTH = 2
"""Batches in flight per engine: one runs, one waits at the scheduler, so that no engine waits for the client."""

TARGET = 1.0
"""Seconds of work in a batch at most: beyond it a message costs next to nothing, and progress would come in jumps."""

MAX_BYTES = 4 * 2**20
"""Bytes of inputs and results in a batch at most; a single item may be larger."""

WINDOW = 32
"""How many of the batches that came home last make up the pace."""

LAST = 4
"""How many of them say what the next items may take at the most; costs that rise are noticed at once."""

GROWTH = 16
"""How many times the largest batch that came home the next may be where nobody knows how many items there are, and how
many times all that came home may be in flight: no more than that is read ahead."""

LEAP = 256
"""How many times the largest batch that came home any other may be: clocks are coarse, and sizes may differ."""

FIRST = 4096
"""Items of a first batch at most: enough to tell the pace of the quickest."""

FIRST_BYTES = 2**18
"""Bytes of inputs of a first batch at most; a single item may be larger."""

FIRST_SHARES = 16
"""A first batch takes at most this fraction (one in so many) of an engine's share."""

STRETCH = 1.5
"""How many times the seconds that a batch may take an engine goes on with it; the rest it gives back."""

SURE = 0.25
"""Seconds of work in a batch that may be the whole of an engine's share: a guess that far wrong is soon made good."""

SHARES = 2
"""A larger one takes at most this fraction (one in so many) of it."""

LEAST = 0.01
"""Seconds that an engine goes on with any batch but a first one: costs that rise would else take many messages."""

MESSAGE = 0.005
"""Seconds of work that justify a message: about what one costs in all, client to engine and back."""

FEED = 0.001
"""Seconds the client is busy with one message, during which it cannot feed another engine."""


class Load(NamedTuple):
    """What a batch carries."""

    items: int
    """How many; 0: there is to be no batch."""

    seconds: float
    """After so many, its engine begins no further item and gives the rest back."""


NOTHING = Load(0, 0.0)


class Pace:
    """The measured pace of one map call: how long its items take, and how large they are."""

    __slots__ = ("_bytes", "_home", "_items", "_largest", "_recent", "_seconds")

    def __init__(self) -> None:
        self._recent: deque[tuple[int, float, int]] = deque()
        self._items = 0
        self._seconds = 0.0
        self._bytes = 0
        self._largest = 0
        self._home = 0

    def note(self, *, count: int, seconds: float, size_bytes: int = 0) -> None:
        """Take in a batch that came home.

        Engines of all speeds count alike: the client cannot choose among them, and the fast ones, coming home more
        often, have their right weight already.

        Args:
            count: Its items, at least one.
            seconds: What they took in the function, all together.
            size_bytes: Bytes of its inputs and results.
        """
        assert count > 0, "an empty batch says nothing about the pace"

        # An engine's clock may have been set back meanwhile.
        self._recent.append((count, max(seconds, 0.0), size_bytes))
        if len(self._recent) > WINDOW:
            self._recent.popleft()
        self._items = sum(batch[0] for batch in self._recent)
        self._seconds = sum(batch[1] for batch in self._recent)
        self._bytes = sum(batch[2] for batch in self._recent)
        self._largest = max(self._largest, count)
        self._home += count

    @property
    def seconds_per_item(self) -> float | None:
        """What an item took of late, on an engine of average speed; ``None`` before the first came home."""
        return self._seconds / self._items if self._items else None

    @property
    def slowest(self) -> float:
        """Seconds that an item took in the slowest of the last batches; some came home."""
        return max(seconds / count for count, seconds, _ in itertools.islice(reversed(self._recent), LAST))

    @property
    def bytes_per_item(self) -> float:
        """Bytes of an item and its result of late; 0 before the first came home."""
        return self._bytes / self._items if self._items else 0.0

    @property
    def largest(self) -> int:
        """Items of the largest batch that ever came home; 0 before the first."""
        return self._largest

    @property
    def home(self) -> int:
        """Items that ever came home."""
        return self._home


def size_batch(pace: Pace, *, left: int | None, engines: int, flying: int, fixed: int | None = None) -> Load:
    """Size the next batch.

    Args:
        pace: What came home so far.
        left: Items not yet sent; ``None`` if their number is unknown, as with a generator.
        engines: Engines there are now; may change from call to call.
        flying: Batches sent that have not come home.
        fixed: The size the user wants each batch to have, whatever the pace; ``None`` leaves it to the pace.

    Returns:
        How many items to send, never more than ``left``, and for how long; none says to send nothing now.
    """
    assert fixed is None or fixed > 0, "a fixed batch holds at least one item"

    if left == 0 or flying >= DEPTH * engines:
        return NOTHING
    if fixed is not None:
        return Load(_bound(fixed, left), math.inf)

    per_item = pace.seconds_per_item
    if per_item is None:
        share = 1 if left is None else left / (FIRST_SHARES * engines)
        return Load(_bound(min(FIRST, share), left), MESSAGE) if flying < engines else NOTHING
    seconds = _size_seconds(left, per_item, engines)
    count = _bound(
        min(
            _count(seconds, per_item),
            _count(MAX_BYTES, pace.bytes_per_item),
            LEAP * pace.largest if left is not None else _count_ahead(pace, engines),
        ),
        left,
    )
    return Load(count, max(STRETCH * min(TARGET, count * pace.slowest), LEAST))


def _size_seconds(left: int | None, seconds_per_item: float, engines: int) -> float:
    """Size the next batch in seconds of work."""
    if left is None:
        # The end may be near.
        return TARGET / 2

    remaining = left * seconds_per_item
    # Batches shorter than this would be sent more slowly than the engines use them up. Close to the end, n batches
    # take n * FEED to send and remaining / n to run, which is least for n = sqrt(remaining / FEED).
    feed = min(engines * FEED, math.sqrt(remaining * FEED))
    # While much is left a batch is larger, but never so large that a wrong guess of the pace is felt at the end.
    share = min(remaining / engines, max(SURE, remaining / (SHARES * engines)))
    return min(TARGET, max(share, feed, MESSAGE))


def _count_ahead(pace: Pace, engines: int) -> float:
    """Count the items that may be read ahead after what came home."""
    return GROWTH * min(pace.largest, pace.home / (DEPTH * engines))


def _count(amount: float, per_item: float) -> float:
    """Count the items that make up an amount; infinite if they are too small to be measured."""
    return amount / per_item if per_item else math.inf


def _bound(count: float, left: int | None) -> int:
    """Round a count of items down, to at least one and at most what is left."""
    return max(1, int(count if left is None else min(count, left)))
