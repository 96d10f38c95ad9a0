"""The journal of a map: a file in which finished items survive the death of everything else.

SQLite with a write-ahead log, synchronized to disk at each commit: what is in it survives kill -9 and power cuts
(sqlite.org/wal.html). A thread of its own writes, a few times a second, so that a map does not wait for the disk.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stoker.compute.journal_file import (
    connect,
    hold_journal,
    pack_results,
    prepare,
    refuse,
    transaction,
    translated,
    unpack_results,
)
from stoker.errors import JournalError

__all__ = ["Begun", "Check", "Journal", "Row"]

_PERIOD = 0.25
"""Seconds between two commits, unless so many bytes wait:"""
_BYTES = 8 << 20
_MOST_BYTES = 64 << 20
"""Bytes that may wait for the disk; beyond them the map waits."""
_PATIENCE = 60.0
"""Seconds that the disk has to take what waits."""

Row = tuple[int, int]
"""Items in a row: the index of the first, and how many."""
Check = tuple[int, str]
"""The digest of the first so many items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What a journal is of."""

    function: Mapping[str, str]
    """The parts of its function, digested; see ``describe_function``."""

    call: str
    """``map`` or ``starmap``."""

    inputs: str
    """What items come from, such as ``list`` or ``range``."""

    digest: str | None
    """Of all inputs, where they have one; None where each item counts: see ``checks``."""

    total: int | None
    """How many items there are; None while nobody knows."""


class Journal:
    """A journal that a map writes. Its lock ends with its process, however that dies.

    As a context manager it is closed at the end, with all that was recorded on disk.
    """

    def __init__(self, path: Path, begun: Begun) -> None:
        """Begin it, or go on with it.

        Raises:
            JournalError: It is of another function or other inputs, is in use, or cannot be used.
        """
        self.path = path
        self._rest = contextlib.ExitStack()
        try:
            self._rest.enter_context(hold_journal(path))
            with translated(path, "cannot be used as a journal"):
                self._database = self._rest.enter_context(contextlib.closing(connect(path)))
                prepare(path, self._database)
                self._reader = self._rest.enter_context(contextlib.closing(connect(path, write=False)))
            self._begin(begun)
        except BaseException:
            self._rest.close()
            raise
        self._writer = _Writer(path, self._database)

    def _begin(self, begun: Begun) -> None:
        with translated(self.path, "cannot be read"):
            facts = dict(self._database.execute("SELECT name, value FROM facts"))
            rows = self._database.execute("SELECT first, count FROM results ORDER BY first").fetchall()
            checks = self._database.execute("SELECT count, digest FROM checks ORDER BY count").fetchall()
        if not rows:
            # Nothing would be lost.
            facts, checks = {}, []
        elif problem := _compare(facts, begun):
            done = sum(count for _, count in rows)
            raise JournalError(
                self.path,
                f"is the journal of another call: {problem}; it has {done} results of {facts['name']}. Call that "
                "again to go on, or name another file",
            )
        self.rows: list[Row] = rows
        self.checks: list[Check] = checks
        self.total: int | None = begun.total if begun.total is not None else facts.get("total")
        facts = {"begun": time.time(), "calls": 0} | facts
        facts |= {
            "name": begun.function["name"],
            "function": json.dumps(dict(begun.function)),
            "call": begun.call,
            "inputs": begun.inputs,
            "digest": begun.digest,
            "total": self.total,
            "calls": facts["calls"] + 1,
            "written": time.time(),
        }
        with translated(self.path, "cannot be written (what is in it is safe)"), transaction(self._database):
            if not rows:
                self._database.execute("DELETE FROM facts")
                self._database.execute("DELETE FROM checks")
            self._database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())

    def record(self, first: int, values: Sequence[Any], check: Check | None) -> None:
        """Have the results of items in a row written soon.

        Args:
            first: The index of the first item.
            values: The results; they may change as soon as this returns.
            check: The digest of all items up to now.

        Raises:
            JournalError: They cannot be packed, or written; nothing that is in the journal is lost.
        """
        try:
            packed = pack_results(values)
        except Exception as error:
            problem = f"results of items {first} to {first + len(values) - 1} cannot be packed"
            raise JournalError(self.path, f"{problem}: {type(error).__name__}: {error}") from error
        self._writer.put((first, len(values), packed), check)

    def finish(self, total: int, check: Check | None) -> None:
        """Note that this is how many items there are."""
        self._writer.put(None, check, total=total)

    def load(self, first: int) -> list[Any]:
        """Give the results of items in a row that an earlier call recorded.

        Raises:
            JournalError: They cannot be read.
        """
        with translated(self.path, "cannot be read"):
            row = self._reader.execute("SELECT packed FROM results WHERE first = ?", (first,)).fetchone()
        return unpack_results(self.path, first, row[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            problem = self._writer.close()
        finally:
            # What its thread is at must not be closed: that would end the interpreter (sqlite3 of Python 3.11).
            self._writer.leave(self._rest)
        if problem is None or error is problem:
            return
        if error is None or isinstance(error, GeneratorExit):
            raise problem
        error.add_note(str(problem))


class _Writer:
    """Writes what is put, in a thread of its own, and keeps what goes wrong for whoever puts next."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self._path = path
        self._database = database
        self._rows: list[tuple[int, int, bytes]] = []
        self._facts: dict[str, object] = {}
        self._check: Check | None = None
        self._bytes = 0
        self._closing = False
        self._done = False
        self._problem: JournalError | None = None
        self._rest: contextlib.ExitStack | None = None
        self._changed = threading.Condition()
        # Whoever leaves an iterator behind at the end of a program is not to wait for it.
        self._thread = threading.Thread(target=self._run, name=f"journal {path.name}", daemon=True)
        self._thread.start()

    def put(self, row: tuple[int, int, bytes] | None, check: Check | None, *, total: int | None = None) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._problem or self._bytes < _MOST_BYTES, _PATIENCE):
                self._problem = JournalError(self._path, f"the disk takes nothing since {_PATIENCE:.0f} s")
            if self._problem is not None:
                raise self._problem
            if row is not None:
                self._rows.append(row)
                self._bytes += len(row[2])
            if total is not None:
                self._facts["total"] = total
            self._check = check or self._check
            self._changed.notify_all()

    def leave(self, rest: contextlib.ExitStack) -> None:
        """Have something closed as soon as its thread has ended."""
        with self._changed:
            if not self._done:
                self._rest = rest
                return
        rest.close()

    def close(self) -> JournalError | None:
        """Have all written that was put, and give what went wrong."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        # The garbage collector, which closes iterators that were left behind, runs in whichever thread.
        if threading.current_thread() is self._thread:
            return None
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            return JournalError(self._path, f"the disk takes nothing since {_PATIENCE:.0f} s")
        return self._problem

    def _run(self) -> None:
        try:
            self._write_all()
        finally:
            with self._changed:
                self._done = True
            if self._rest is not None:
                self._rest.close()

    def _write_all(self) -> None:
        due = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._rows or self._facts)
                self._changed.wait_for(lambda: self._closing or self._bytes > _BYTES, max(0.0, due - time.monotonic()))
                rows, facts, check = self._rows, self._facts, self._check
                self._rows, self._facts, self._check, self._bytes = [], {}, None, 0
                closing = self._closing
                self._changed.notify_all()
            due = time.monotonic() + _PERIOD
            try:
                if rows or facts:
                    self._write(rows, facts, check)
            except Exception as error:
                with self._changed:
                    self._problem = refuse(self._path, "cannot be written (what is in it is safe)", error)
                    self._changed.notify_all()
                return
            if closing:
                return

    def _write(self, rows: Sequence[tuple[int, int, bytes]], facts: dict[str, object], check: Check | None) -> None:
        with transaction(self._database):
            self._database.executemany("INSERT INTO results VALUES (?, ?, ?)", rows)
            if check is not None:
                self._database.execute("INSERT OR IGNORE INTO checks VALUES (?, ?)", check)
            facts = {**facts, "written": time.time()}
            self._database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())


def _compare(facts: Mapping[str, Any], begun: Begun) -> str:
    """Say what differs between what a journal is of and what it is wanted for; empty where nothing does."""
    if facts["name"] != begun.function["name"]:
        return f"its function is {facts['name']}, not {begun.function['name']}"
    before = json.loads(facts["function"])
    names = [name for name in {**before, **begun.function} if before.get(name) != begun.function.get(name)]
    if names:
        return f"{facts['name']} is not what it was: {', '.join(names)} changed"
    if facts["call"] != begun.call:
        return f"it is of a {facts['call']}, not of a {begun.call}"
    if (facts["digest"] is None) != (begun.digest is None):
        return f"its items come from a {facts['inputs']}, not from a {begun.inputs}"
    if None not in (facts["total"], begun.total) and facts["total"] != begun.total:
        return f"it is of {facts['total']} items, not of {begun.total}"
    if facts["digest"] != begun.digest:
        return "its items are others"
    return ""
