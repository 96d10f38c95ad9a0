"""Sources: the items of a call, taken in order, as many at a time as wanted, and not before."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, cast

__all__ = ["Columns", "Source", "open_source", "open_star_source"]

Columns = tuple[Sequence[Any], ...]
"""The values of each argument of the function, all of one length."""


class Source(Protocol):
    """Items that come one after the other."""

    @property
    def left(self) -> int | None:
        """How many are left; None where nobody knows."""

    @property
    def whole(self) -> Columns | None:
        """All items at once, those that were taken among them; None where they have to be read."""

    def take(self, count: int) -> Columns | None:
        """Take up to ``count`` items; None where none are left."""


def open_source(sequences: Sequence[Iterable[Any]]) -> Source:
    """Open the items of a map; the shortest sequence ends it, as with the builtin.

    Lists, ranges, strings and arrays are sliced; anything else is read as it is needed.

    Raises:
        TypeError: There is no sequence, or one is not iterable.
    """
    if not sequences:
        raise TypeError("map: at least one sequence of items is needed")
    if all(_can_slice(each) for each in sequences):
        return _Sliced([cast("Sequence[Any]", each) for each in sequences])
    return _Read(zip(*sequences, strict=False), width=len(sequences))


def open_star_source(rows: Iterable[Iterable[Any]]) -> Source:
    """Open the items of a starmap, each of them the arguments of one call."""
    return _Rows(rows)


def _can_slice(items: Iterable[Any]) -> bool:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(items, numpy.ndarray):
        return bool(items.ndim > 0)
    return isinstance(items, list | tuple | range | str | bytes)


class _Sliced:
    def __init__(self, sequences: Sequence[Sequence[Any]]) -> None:
        self._sequences = sequences
        self._next = 0
        self._end = min(len(each) for each in sequences)

    @property
    def left(self) -> int:
        return self._end - self._next

    @property
    def whole(self) -> Columns:
        return tuple(each if len(each) == self._end else each[: self._end] for each in self._sequences)

    def take(self, count: int) -> Columns | None:
        begin, self._next = self._next, min(self._next + count, self._end)
        if begin == self._next:
            return None
        return tuple(each[begin : self._next] for each in self._sequences)


class _Read:
    whole = None

    def __init__(self, rows: Iterator[tuple[Any, ...]], *, width: int) -> None:
        self._rows = rows
        self._width = width
        self._ended = False

    @property
    def left(self) -> int | None:
        return 0 if self._ended else None

    def take(self, count: int) -> Columns | None:
        rows = list(itertools.islice(self._rows, count))
        self._ended = len(rows) < count
        return tuple([row[column] for row in rows] for column in range(self._width)) if rows else None


class _Rows:
    """Rows may differ in length; they travel as one column, and the function is called with each unpacked."""

    whole = None

    def __init__(self, rows: Iterable[Iterable[Any]]) -> None:
        self._rows = iter(rows)
        self._left = len(rows) if isinstance(rows, Sequence) else None

    @property
    def left(self) -> int | None:
        return self._left

    def take(self, count: int) -> Columns | None:
        rows = [tuple(row) for row in itertools.islice(self._rows, count)]
        if self._left is not None:
            self._left -= len(rows)
        if len(rows) < count:
            self._left = 0
        return (rows,) if rows else None
