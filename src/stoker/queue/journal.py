"""The journal: jobs, leases and results in SQLite, so that they outlive the server's own sudden end.

A job is in the table ``jobs`` until it has a result, then in ``results``; never in both. Each method is one
transaction. With its write-ahead log SQLite loses nothing when the process is killed; when the machine loses power, the
last moments may be missing (a job is then run once more), but nothing is damaged (sqlite.org/pragma.html,
"synchronous").
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.errors import QueueError
from stoker.queue.outcome import Kind, Row

__all__ = ["Counts", "Finished", "Given", "Journal"]

_FORMAT = 1
_APPLICATION = 0x53544B51
_SCHEMA = """
CREATE TABLE calls (id INTEGER PRIMARY KEY, function TEXT NOT NULL, time_limit REAL NOT NULL,
    UNIQUE (function, time_limit));
CREATE TABLE puts (token TEXT, part INTEGER, first INTEGER, count INTEGER, PRIMARY KEY (token, part)) WITHOUT ROWID;
CREATE TABLE leases (id INTEGER PRIMARY KEY AUTOINCREMENT, worker TEXT NOT NULL);
CREATE TABLE jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, call INTEGER NOT NULL, arguments BLOB NOT NULL,
    lease INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, alone INTEGER NOT NULL DEFAULT 0);
CREATE INDEX waiting ON jobs (number) WHERE lease = 0;
CREATE INDEX leased ON jobs (lease) WHERE lease > 0;
CREATE TABLE results (number INTEGER PRIMARY KEY, call INTEGER NOT NULL, kind TEXT NOT NULL, payload BLOB NOT NULL,
    arguments BLOB, host TEXT NOT NULL, pid INTEGER NOT NULL, attempt INTEGER NOT NULL, seconds REAL NOT NULL,
    ended REAL NOT NULL);
CREATE INDEX failed ON results (kind) WHERE kind != 'value';
CREATE TABLE closed (since REAL);
"""
_BYTES = 8 << 20
"""Bytes of arguments, or of results, that are handed out at once; one job may have more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a worker says of one job."""

    number: int
    kind: Kind
    payload: bytes
    host: str
    pid: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a worker gets."""

    lease: int
    jobs: tuple[tuple[int, int, bytes], ...]
    """Number, call, arguments; in the order in which they are to be run."""

    calls: dict[int, tuple[str, float]]
    """By call: function, and seconds that it may take; 0 for no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many jobs there are."""

    put: int
    waiting: int
    leased: int
    done: int
    failed: int
    """Of those done, how many gave no value."""


class Journal:
    """One queue's journal. Not for several threads at once."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it.

        Raises:
            QueueError: It cannot be used, or is none.
        """
        self._path = path
        try:
            path.touch(mode=0o600)
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise QueueError(f"{path}: cannot be used as a journal: {error}") from error
        self._recount()

    @property
    def counts(self) -> Counts:
        """How many jobs there are, as of the last transaction."""
        return self._counts

    @property
    def closed(self) -> bool:
        """Whether no more jobs come."""
        return bool(self._one("SELECT count(*) FROM closed"))

    def close(self) -> None:
        """Take no more jobs."""
        with self._change():
            if not self.closed:
                self._database.execute("INSERT INTO closed VALUES (?)", (time.time(),))

    def put(
        self, token: str, part: int, function: str, time_limit: float, arguments: Sequence[bytes]
    ) -> tuple[int, int]:
        """Add jobs; the same part of the same put again changes nothing.

        Returns:
            The first number and how many.
        """
        with self._change():
            row = self._database.execute(
                "SELECT first, count FROM puts WHERE token = ? AND part = ?", (token, part)
            ).fetchone()
            if row is not None:
                return row[0], row[1]
            self._database.execute(
                "INSERT OR IGNORE INTO calls (function, time_limit) VALUES (?, ?)", (function, time_limit)
            )
            call = self._one("SELECT id FROM calls WHERE function = ? AND time_limit = ?", function, time_limit)
            first = self._last_number() + 1
            self._database.executemany(
                "INSERT INTO jobs (number, call, arguments) VALUES (?, ?, ?)",
                ((first + offset, call, item) for offset, item in enumerate(arguments)),
            )
            self._database.execute("INSERT INTO puts VALUES (?, ?, ?, ?)", (token, part, first, len(arguments)))
            return first, len(arguments)

    def exchange(
        self,
        worker: str,
        *,
        held: int,
        lease: int = 0,
        finished: Sequence[Finished] = (),
        returned: Sequence[int] = (),
        died: Finished | None = None,
        final: bool = False,
        attempts: int,
        want: int,
    ) -> Given:
        """Take what a worker brings, and give it what it wants.

        Args:
            worker: Who it is.
            held: The lease that it still works at; its others are void. 0 for none.
            lease: The one that ``returned`` and ``died`` are of. Jobs that others have by now are left alone.
            finished: Results. The first result of a job counts; what comes later is dropped.
            returned: Jobs of its lease that it did not begin.
            died: The job at which its process died, with the cause.
            final: Whether that one is given up at once.
            attempts: How many workers a job may kill.
            want: How many jobs it wants at the most.
        """
        with self._change():
            for one in finished:
                self._record(one)
            if died is not None:
                self._blame(died, lease=lease, attempts=1 if final else attempts)
            self._free([(number, lease) for number in returned], "number = ? AND lease = ?")
            self._free([(worker, held)], "lease IN (SELECT id FROM leases WHERE worker = ? AND id != ?)")
            self._database.execute("DELETE FROM leases WHERE worker = ? AND id != ?", (worker, held))
            return self._lease(worker, want) if want else Given(lease=held, jobs=(), calls={})

    def expire(self, lease: int, *, cause: str, attempts: int) -> tuple[int, ...]:
        """Take back the jobs of a worker that was silent for too long.

        A job that was the only one left of its lease was at fault for all we know. Otherwise nobody knows which one
        it was, and each goes to its next worker alone.

        Returns:
            The jobs' numbers.
        """
        with self._change():
            numbers = [row[0] for row in self._database.execute("SELECT number FROM jobs WHERE lease = ?", (lease,))]
            if len(numbers) == 1:
                host = self._one("SELECT worker FROM leases WHERE id = ?", lease).partition(":")[0]
                blamed = Finished(number=numbers[0], kind="died", payload=cause.encode(), host=host, pid=0, seconds=0.0)
                self._blame(blamed, lease=lease, attempts=attempts)
            self._database.execute("UPDATE jobs SET lease = 0, alone = 1 WHERE lease = ?", (lease,))
            self._database.execute("DELETE FROM leases WHERE id = ?", (lease,))
            return tuple(numbers)

    def leases(self) -> dict[int, str]:
        """Give the worker of each lease."""
        return dict(self._database.execute("SELECT id, worker FROM leases"))

    def leased_to(self, lease: int) -> int:
        """Count the jobs of a lease."""
        return int(self._one("SELECT count(*) FROM jobs WHERE lease = ?", lease))

    def results(self, first: int, last: int, limit: int, *, in_order: bool) -> list[Row]:
        """Give results in the order of their jobs.

        Args:
            first: From this job on.
            last: Up to this job.
            limit: How many at the most; there may be fewer where they are large.
            in_order: Whether to end before the first job that has no result.
        """
        rows: list[Row] = []
        size = 0
        query = (
            "SELECT number, function, kind, payload, arguments, host, pid, attempt, seconds, ended FROM results "
            "JOIN calls ON calls.id = results.call WHERE number BETWEEN ? AND ? ORDER BY number LIMIT ?"
        )
        for row in self._database.execute(query, (first, last, limit)):
            size += len(row[3]) + len(row[4] or b"")
            if (in_order and row[0] != first + len(rows)) or (rows and size > _BYTES):
                break
            rows.append(row)
        return rows

    def end(self) -> None:
        """Close the file."""
        with contextlib.suppress(sqlite3.Error):
            self._database.close()

    def _prepare(self) -> None:
        application, version = self._one("PRAGMA application_id"), self._one("PRAGMA user_version")
        if (application, version) == (_APPLICATION, _FORMAT):
            return
        if application or version or self._one("SELECT count(*) FROM sqlite_master"):
            raise QueueError(f"{self._path}: is not a journal of this version of stoker; serve with --new, or move it")
        self._database.executescript(
            f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA application_id = {_APPLICATION};PRAGMA user_version = {_FORMAT};COMMIT"
        )

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._counts = self._count()
            self._database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
                self._recount()
            raise

    def _recount(self) -> None:
        self._done = int(self._one("SELECT count(*) FROM results"))
        self._failed = int(self._one("SELECT count(*) FROM results WHERE kind != 'value'"))
        self._counts = self._count()

    def _count(self) -> Counts:
        # Only the leased ones, who are few, are counted each time: SQLite goes through all it counts.
        put = self._last_number()
        leased = int(self._one("SELECT count(*) FROM jobs WHERE lease > 0"))
        waiting = put - self._done - leased
        return Counts(put=put, waiting=waiting, leased=leased, done=self._done, failed=self._failed)

    def _record(self, one: Finished) -> None:
        # Only where the job has none yet: what comes second finds no job.
        new = self._database.execute(
            "INSERT INTO results SELECT number, call, ?, ?, CASE ? WHEN 'value' THEN NULL ELSE arguments END, ?, ?, "
            "attempts + 1, ?, ? FROM jobs WHERE number = ?",
            (one.kind, one.payload, one.kind, one.host, one.pid, one.seconds, time.time(), one.number),
        ).rowcount
        self._done += new
        self._failed += new * (one.kind != "value")
        self._database.execute("DELETE FROM jobs WHERE number = ?", (one.number,))

    def _blame(self, died: Finished, *, lease: int, attempts: int) -> None:
        before = self._database.execute(
            "SELECT attempts FROM jobs WHERE number = ? AND lease = ?", (died.number, lease)
        ).fetchone()
        if before is None:
            return
        if before[0] + 1 >= attempts:
            self._record(died)
        else:
            self._database.execute(
                "UPDATE jobs SET lease = 0, alone = 1, attempts = attempts + 1 WHERE number = ?", (died.number,)
            )

    def _free(self, values: Iterable[tuple[object, ...]], condition: str) -> None:
        self._database.executemany(f"UPDATE jobs SET lease = 0 WHERE {condition}", values)  # noqa: S608 - our own text

    def _lease(self, worker: str, want: int) -> Given:
        jobs: list[tuple[int, int, bytes]] = []
        size = 0
        query = "SELECT number, call, arguments, alone FROM jobs WHERE lease = 0 ORDER BY number LIMIT ?"
        for number, call, arguments, alone in self._database.execute(query, (want,)):
            size += len(arguments)
            if jobs and (alone or size > _BYTES):
                break
            jobs.append((number, call, arguments))
            if alone:
                break
        if not jobs:
            return Given(lease=0, jobs=(), calls={})
        lease = int(self._database.execute("INSERT INTO leases (worker) VALUES (?)", (worker,)).lastrowid or 0)
        self._database.executemany("UPDATE jobs SET lease = ? WHERE number = ?", ((lease, job[0]) for job in jobs))
        calls = {}
        for call in {job[1] for job in jobs}:
            calls[call] = self._database.execute(
                "SELECT function, time_limit FROM calls WHERE id = ?", (call,)
            ).fetchone()
        return Given(lease=lease, jobs=tuple(jobs), calls=calls)

    def _one(self, query: str, *values: object) -> Any:
        row = self._database.execute(query, values).fetchone()
        return None if row is None else row[0]

    def _last_number(self) -> int:
        # The table of AUTOINCREMENT remembers the highest number ever given.
        return int(self._one("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'") or 0)
