"""Going on with a call that an earlier one has begun: only what its journal lacks is run, the rest comes from there.

The engines' call numbers the items that are left without gaps; here they get their own indices back. Results of the
journal are given out only after the items that they are of were found to be the same.
"""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from stoker.compute.call import Call, Settled
from stoker.compute.fingerprint import Chain, describe_function, digest
from stoker.compute.journal import Begun, Check, Journal, Row
from stoker.compute.source import Columns, Source
from stoker.errors import JournalError

__all__ = ["JournalledCall", "Remainder"]

_STEP = 10_000
"""Items that are read at once where results are there already, and how many that lack them may wait then."""


class JournalledCall:
    """A call whose results go into a journal, or come from it."""

    def __init__(
        self,
        function: Callable[..., Any],
        source: Source,
        iterables: Iterable[object],
        path: Path,
        *,
        star: bool,
        make_call: Callable[..., Call],
    ) -> None:
        """Prepare it; the journal is opened when it is run.

        Args:
            function: As the user gave it.
            source: All items.
            iterables: What they come from.
            path: The journal's file.
            star: Whether each item holds the arguments of one call.
            make_call: Makes the call for the items that are left: gets their source and keywords of ``Call``.
        """
        self._function = function
        self._source = source
        self._inputs = ", ".join(type(each).__name__ for each in iterables)
        # A program may go elsewhere before it asks for the first result.
        self._path = path.absolute()
        self._star = star
        self._make_call = make_call
        self._call: Call | None = None
        self._stopped = False

    def hold(self, parts: int) -> None:
        """Do as the call's ``hold``."""
        if self._call is not None:
            self._call.hold(parts)

    def stop(self) -> None:
        """Do as the call's ``stop``."""
        self._stopped = True
        if (call := self._call) is not None:
            call.stop()

    def run(self) -> Generator[Settled, None, None]:
        """Do as the call's ``run``, with what an earlier one has done, and the indices of all items.

        Raises:
            JournalError: The journal is of another function or other inputs, is in use, or cannot be read or written;
                or what is read now turns out not to be what was read then.
        """
        whole = self._source.whole
        by_item = whole is None or any(isinstance(each, list | tuple) for each in whole)
        begun = Begun(
            function=describe_function(self._function),
            call="starmap" if self._star else "map",
            inputs=self._inputs,
            digest=None if by_item else digest(whole),
            total=None if whole is None else self._source.left,
        )
        with Journal(self._path, begun) as journal:
            items = Remainder(self._source, journal, by_item=by_item)
            stored = _Stored(journal)
            while not self._stopped and items.look_ahead():
                yield from stored.take(items.checked)
            self._call = self._make_call(items, earlier=sum(count for _, count in journal.rows), number=items.number)
            if self._stopped:
                self._call.stop()
            run = self._call.run()
            try:
                for settled in run:
                    yield from stored.take(items.checked)
                    check = items.check
                    for part in items.place(settled):
                        _record(journal, part, check)
                        yield part
            finally:
                run.close()
            if self._stopped:
                # Nobody wants the rest, which may have no end.
                return
            while items.read_on(_STEP):
                yield from stored.take(items.checked)
            yield from stored.take(items.checked)
            journal.finish(items.read, items.check)


class Remainder:
    """The items of a source that a journal has no results of: a source, too."""

    whole = None

    def __init__(self, source: Source, journal: Journal, *, by_item: bool) -> None:
        """Take what is left of a source.

        Args:
            source: All items.
            journal: What is done.
            by_item: Whether the journal tells items by their own digests; otherwise they are known to be the same.

        Raises:
            JournalError: The source has all items at once, and they are not the same.
        """
        self._source = source
        self._path = journal.path
        self._total = journal.total
        self._done = deque(journal.rows)
        self._left_out = sum(count for _, count in journal.rows)
        self._checks = deque(journal.checks)
        self._chain = Chain() if by_item else None
        self._kept: deque[tuple[int, Columns]] = deque()
        """Items that were read and are left, with the index of the first."""
        self._waiting = 0
        self._taken = 0
        self._places: tuple[list[int], list[int]] = ([], [])
        """Where gaps end: the running index of an item that was taken, and its own."""
        self._ended = False
        self.read = 0
        """How many items were read."""
        self.checked = 0
        """So many of the first items are the same as those that the journal is of."""
        self._last: Check | None = None
        if (whole := source.whole) is not None:
            self._check_whole(whole)

    @property
    def left(self) -> int | None:
        """How many are still to be taken; None where nobody knows."""
        left = 0 if self._ended else self._source.left
        return None if left is None else max(0, left - self._left_out) + self._waiting

    @property
    def check(self) -> Check | None:
        """The digest of all items that were read, or of more; None where the journal needs none."""
        if self._last is not None or self._chain is None:
            return self._last
        return self._chain.count, self._chain.read()

    def number(self, index: int) -> int:
        """Give the index in the source of an item by its running index here."""
        here, there = self._places
        at = bisect.bisect_right(here, index) - 1
        return index if at < 0 else there[at] + index - here[at]

    def take(self, count: int) -> Columns | None:
        """Take up to ``count`` items.

        Raises:
            JournalError: Those that were read on the way are not the same.
        """
        while self._waiting < count and self.read_on(count - self._waiting):
            pass
        parts: list[Columns] = []
        while self._kept and count:
            first, columns = self._kept.popleft()
            size = len(columns[0])
            if size > count:
                self._kept.appendleft((first + count, tuple(column[count:] for column in columns)))
                columns, size = tuple(column[:count] for column in columns), count
            self._note_place(first)
            self._taken += size
            self._waiting -= size
            count -= size
            parts.append(columns)
        if len(parts) < 2:
            return parts[0] if parts else None
        return tuple(list(itertools.chain.from_iterable(column)) for column in zip(*parts, strict=True))

    def look_ahead(self) -> bool:
        """Read on where results are there already; give whether there may be more of them to read."""
        if not self._done or self._waiting > _STEP:
            return False
        return self.read_on(1)

    def read_on(self, count: int) -> bool:
        """Read up to ``count`` items, or more where results are there already, and keep those that are left.

        Returns:
            Whether there may be more to read.

        Raises:
            JournalError: They are not the same.
        """
        goal = self.read + (max(count, _STEP) if self._done else count)
        if self._chain is not None and self._checks:
            # Nothing of what the next digest is of is given out before it was compared.
            goal = self._checks[0][0]
        while self.read < goal and not self._ended:
            columns = self._source.take(min(goal - self.read, max(count, _STEP)))
            self._ended = columns is None or self._source.left == 0
            if columns is not None:
                if self._chain is not None and self._last is None:
                    self._chain.feed(columns)
                self._keep(columns)
        self._compare()
        return not self._ended

    def place(self, settled: Settled) -> Iterator[Settled]:
        """Cut settled items where they have others between them in the source, and give them their own indices."""
        size = len(settled.values)
        here = self._places[0]
        low, high = bisect.bisect_right(here, settled.first), bisect.bisect_left(here, settled.first + size)
        cuts = [0, *(index - settled.first for index in here[low:high]), size]
        for begin, end in itertools.pairwise(cuts):
            yield replace(
                settled,
                first=self.number(settled.first + begin),
                values=settled.values[begin:end] if len(cuts) > 2 else settled.values,
                errors={at - begin: error for at, error in settled.errors.items() if begin <= at < end},
                again=frozenset(at - begin for at in settled.again if begin <= at < end),
            )

    def _check_whole(self, whole: Columns) -> None:
        total = len(whole[0])
        if self._chain is not None:
            for end in sorted({count for count, _ in self._checks if count <= total} | {total}):
                self._chain.feed(tuple(column[self._chain.count : end] for column in whole))
                self.read = end
                self._compare()
            self._last = self._chain.count, self._chain.read()
            if self._checks:
                raise self._refuse(f"it is of {self._checks[0][0]} items at least, not of {total}")
        self.read = 0
        self.checked = total

    def _compare(self) -> None:
        """Compare what was read with what the journal is of."""
        if self._chain is not None and self._last is None:
            while self._checks and self._checks[0][0] == self.read:
                if self._checks.popleft()[1] != self._chain.read():
                    raise self._refuse(f"not all items from {self.checked} to {self.read - 1} are what they were")
                self.checked = self.read
            if self._ended and self._checks:
                raise self._refuse(f"it is of {self._checks[-1][0]} items at least, now there are {self.read}")
        if self._total is not None and (self.read > self._total or (self._ended and self.read < self._total)):
            found = f"now there are {'more' if self.read > self._total else self.read}"
            raise self._refuse(f"it is of {self._total} items, {found}")

    def _keep(self, columns: Columns) -> None:
        begin, size = self.read, len(columns[0])
        self.read += size
        position = begin
        while position < self.read:
            first, count = self._done[0] if self._done else (self.read, 0)
            if first > position:
                end = min(first, self.read)
                part = tuple(column[position - begin : end - begin] for column in columns)
                self._kept.append((position, columns if len(part[0]) == size else part))
                self._waiting += end - position
                position = end
                continue
            end = min(first + count, self.read)
            self._left_out -= end - position
            position = end
            if position == first + count:
                self._done.popleft()

    def _note_place(self, first: int) -> None:
        here, there = self._places
        if self.number(self._taken) != first:
            here.append(self._taken)
            there.append(first)

    def _refuse(self, problem: str) -> JournalError:
        return JournalError(
            self._path,
            f"is the journal of other inputs: {problem}. Give the same ones to go on, or name another file",
        )


class _Stored:
    """What an earlier call has done, in the order of the items."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._rows = deque(journal.rows)

    def take(self, checked: int) -> Iterator[Settled]:
        """Take the results of the first so many items, but for those that were taken."""
        while self._rows and sum(self._rows[0]) <= checked:
            row = self._rows.popleft()
            yield Settled(first=row[0], values=_Values(self._journal, row), errors={}, stored=True)


class _Values(Sequence[Any]):
    """Results in a row of a journal, read when they are wanted: it may have more than memory holds."""

    def __init__(self, journal: Journal, row: Row) -> None:
        self._journal = journal
        self._first, self._count = row

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return iter(self._journal.load(self._first))

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._journal.load(self._first)[index]


def _record(journal: Journal, settled: Settled, check: Check | None) -> None:
    """Record what has a result. An item that failed has none: the next call tries it again."""
    begin = 0
    for end in sorted({*settled.errors, *settled.again, len(settled.values)}):
        if end > begin:
            journal.record(settled.first + begin, settled.values[begin:end], check)
        begin = end + 1
