"""The ledger of a call: which items are where, which have to go again, and which are given up. It touches nothing.

A batch that is lost goes again, except for what is known to have come home. Items that may have been running when their
engine died are suspects: they go again alone, so that one that kills engines takes no other with it.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stoker.compute.source import Columns, Source

__all__ = ["GivenUp", "Ledger", "Piece"]

_SPLIT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Items in a row that travel together."""

    first: int
    """The index of the first of them in the call."""

    columns: Columns
    """Their values, for each argument of the function."""

    deaths: int = 0
    """How many engines died while it may have been running."""

    errors: int = 0
    """How often it failed and was tried again."""

    exact: bool = False
    """Whether the engine is to note each item, not steps of several."""

    @property
    def count(self) -> int:
        """How many items these are."""
        return len(self.columns[0])

    @property
    def attempt(self) -> int:
        """Which try of them this is, from 1."""
        return self.deaths + self.errors + 1

    def cut(self, low: int, high: int) -> Piece:
        """Take the items from ``low`` up to, not including, ``high``."""
        if low == 0 and high >= self.count:
            return self
        return replace(self, first=self.first + low, columns=tuple(column[low:high] for column in self.columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """An item that killed an engine each time it was tried."""

    piece: Piece
    """It alone; ``deaths`` counts the last one too."""


class Ledger:
    """Where the items of a call are."""

    def __init__(self, source: Source, *, retries: int) -> None:
        self._source = source
        self._retries = retries
        self._again: collections.deque[Piece] = collections.deque()
        self._next = 0
        self._flying: dict[int, Piece] = {}
        self.settled = 0
        """How many items have a result, an error, or were given up."""

    @property
    def left(self) -> int | None:
        """How many items are still to be sent; None where nobody knows."""
        left = self._source.left
        return None if left is None else left + sum(piece.count for piece in self._again)

    @property
    def taken(self) -> int:
        """How many items were ever taken."""
        return self._next

    @property
    def flying(self) -> int:
        """How many batches are under way."""
        return len(self._flying)

    @property
    def urgent(self) -> bool:
        """Whether something waits to go again."""
        return bool(self._again)

    def take(self, size: int) -> Piece | None:
        """Take the next items to be sent, up to ``size`` of them; None where none are left."""
        if self._again:
            return self.shorten(self._again.popleft(), size)
        columns = self._source.take(size)
        if columns is None:
            return None
        piece = Piece(first=self._next, columns=columns)
        self._next += piece.count
        return piece

    def shorten(self, piece: Piece, size: int) -> Piece:
        """Cut taken items to ``size`` of them; the others are taken next."""
        if piece.count <= size:
            return piece
        self._again.appendleft(piece.cut(size, piece.count))
        return piece.cut(0, size)

    def depart(self, piece: Piece, number: int) -> None:
        """Note that a batch is under way, under a number that no other has."""
        self._flying[number] = piece

    def look(self, number: int) -> Piece | None:
        """Give a batch that is under way; None where it is not, or no more."""
        return self._flying.get(number)

    def numbers(self) -> list[int]:
        """Give the numbers of the batches that are under way."""
        return list(self._flying)

    def come_home(self, number: int, count: int, *, again: Sequence[int] = ()) -> Piece | None:
        """Note that a batch has come home.

        Args:
            number: The batch.
            count: How many of its items have run, from the first; the others go again.
            again: Which of those failed and are to be tried again, counted within the batch.

        Returns:
            The items that have run; None where the batch is a late twin.
        """
        piece = self._flying.pop(number, None)
        if piece is None:
            return None
        if count < piece.count:
            self._again.append(piece.cut(count, piece.count))
        for position in again:
            self._again.append(replace(piece.cut(position, position + 1), errors=piece.errors + 1))
        self.settled += count - len(again)
        return piece.cut(0, count)

    def return_unrun(self, number: int) -> None:
        """Note that a batch was not run at all, and has to go again."""
        if (piece := self._flying.pop(number, None)) is not None:
            self._again.appendleft(piece)

    def drop(self, number: int) -> None:
        """Take no more interest in a batch: its items are under way, or have come home, under another number."""
        self._flying.pop(number, None)

    def lose(self, number: int, low: int, high: int, *, known: bool, last: bool = False) -> GivenUp | None:
        """Note that a batch was lost with its engine.

        Args:
            number: The batch.
            low: The first item that may have been running, counted within the batch.
            high: The first after those.
            known: Whether the engine's marks say so, rather than that it may have been any.
            last: Whether a single suspect is not to be tried again.

        Returns:
            The item, if it was the only suspect and has no more tries.
        """
        piece = self._flying.pop(number, None)
        if piece is None:
            return None
        high = min(high, piece.count)
        low = min(low, high)
        suspects = piece.cut(low, high)
        if known or suspects.count == 1:
            suspects = replace(suspects, deaths=suspects.deaths + 1, exact=True)
        if suspects.count == 1 and (last or suspects.deaths > self._retries):
            self.settled += 1
            self._return([piece.cut(0, low), piece.cut(high, piece.count)])
            return GivenUp(piece=suspects)
        self._return([piece.cut(0, low), *([suspects] if known else _split(suspects)), piece.cut(high, piece.count)])
        return None

    def _return(self, parts: Sequence[Piece]) -> None:
        self._again.extend(part for part in parts if part.count)


def _split(suspects: Piece) -> list[Piece]:
    """Cut suspects so that each death tells more of which it was."""
    step = -(-suspects.count // _SPLIT)
    suspects = replace(suspects, exact=True)
    return [suspects.cut(at, min(at + step, suspects.count)) for at in range(0, suspects.count, step)]
