"""The file of a journal: an SQLite database, how it is opened, locked and read."""

from __future__ import annotations

import contextlib
import os
import pickle
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle

from stoker.compute.packing import unpack
from stoker.errors import BusyError, JournalError
from stoker.system.locks import hold_lock

__all__ = [
    "JournalInfo",
    "connect",
    "hold_journal",
    "pack_results",
    "prepare",
    "read_journal",
    "read_journal_info",
    "refuse",
    "transaction",
    "translated",
    "unpack_results",
]

_FORMAT = 1
_APPLICATION = 0x53544B4A
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE checks (count INTEGER PRIMARY KEY, digest TEXT NOT NULL);
CREATE TABLE results (first INTEGER PRIMARY KEY, count INTEGER NOT NULL, packed BLOB NOT NULL);
"""
_TIMEOUT = 10.0
"""Seconds to wait for other processes that look into the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalInfo:
    """What a journal says of itself."""

    path: Path
    function: str
    """Module and name."""

    call: str
    """``map`` or ``starmap``."""

    inputs: str
    total: int | None
    """How many items there are; None while nobody knows."""

    done: int
    """How many have their results here."""

    calls: int
    """How often it was begun or gone on with."""

    begun: float
    """When, in seconds since 1970."""

    written: float
    """When something was last written into it."""

    @property
    def complete(self) -> bool:
        """Whether all results are here."""
        return self.done == self.total


def read_journal_info(path: str | os.PathLike[str]) -> JournalInfo:
    """Read what a journal is of, and how far it has come; also while it is written.

    Raises:
        JournalError: It cannot be read, or is none.
    """
    path = Path(path)
    with _reading(path) as database:
        facts = dict(database.execute("SELECT name, value FROM facts"))
        done = int(database.execute("SELECT coalesce(sum(count), 0) FROM results").fetchone()[0])
    if not facts:
        raise JournalError(path, "has nothing in it yet")
    names = ("call", "inputs", "total", "calls", "begun", "written")
    return JournalInfo(path=path, function=facts["name"], done=done, **{name: facts[name] for name in names})


def read_journal(path: str | os.PathLike[str]) -> Iterator[tuple[int, Any]]:
    """Read the results of a journal; also while it is written.

    They are unpickled, which runs code: read none that you do not trust. Results of classes that a script has defined
    can only be read in that script.

    Returns:
        Indices and results, in the order of the items, without those that are missing.

    Raises:
        JournalError: It cannot be read, or is none.
    """
    path = Path(path)
    with _reading(path) as database:
        for first, packed in database.execute("SELECT first, packed FROM results ORDER BY first"):
            yield from enumerate(unpack_results(path, first, packed), first)


def pack_results(values: Sequence[Any]) -> bytes:
    """Pack results.

    Raises:
        Exception: They cannot be.
    """
    # Classes of the user's script are to be the script's own when it reads them again.
    try:
        return pickle.dumps(values, protocol=5)
    except Exception:
        packed: bytes = cloudpickle.dumps(values, protocol=5)
        return packed


def unpack_results(path: Path, first: int, packed: bytes) -> list[Any]:
    """Unpack results.

    Raises:
        JournalError: They cannot be, here.
    """
    try:
        values: list[Any] = unpack(packed)
    except Exception as error:
        raise JournalError(
            path, f"results from item {first} on cannot be read here: {type(error).__name__}: {error}"
        ) from error
    return values


@contextlib.contextmanager
def hold_journal(path: Path) -> Iterator[None]:
    """Keep other calls away from a journal, as long as this process lives.

    Raises:
        JournalError: Another one is at it, or it cannot be locked.
    """
    if not path.parent.is_dir():
        raise JournalError(path, f"there is no directory {path.parent}")
    path = path.resolve()
    lock = path.with_name(f"{path.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold_lock(lock, wait=0, purpose="another call"))
        except BusyError as error:
            # An iterator that someone holds on to, perhaps.
            own = " or close its iterator," if error.holder.endswith(f"(process {os.getpid()})") else ""
            problem = f"{error.holder} is writing it; wait for its end,{own} or name another file"
            raise JournalError(path, problem) from None
        except OSError as error:
            raise JournalError(path, f"cannot be locked: {error}") from error
        yield


def connect(path: Path, *, write: bool = True) -> sqlite3.Connection:
    """Open a file, or make it where it is to be written.

    Raises:
        JournalError: It is none of ours.
        sqlite3.Error, OSError: It cannot be opened.
    """
    if write:
        path.touch(mode=0o600)
    # Whoever only reads may have to take back, too, what someone was killed at.
    name = f"{path.absolute().as_uri()}?mode=rw"
    database = sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False, timeout=_TIMEOUT)
    try:
        if not write:
            database.execute("PRAGMA query_only = ON")
            return database
        # Before anything is changed of a file that is none of ours.
        _is_journal(path, database, empty=True)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
    except BaseException:
        database.close()
        raise
    return database


def prepare(path: Path, database: sqlite3.Connection) -> None:
    """Make the tables where there are none."""
    if not _is_journal(path, database, empty=True):
        database.executescript(
            f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA application_id = {_APPLICATION};PRAGMA user_version = {_FORMAT};COMMIT"
        )


def _is_journal(path: Path, database: sqlite3.Connection, *, empty: bool = False) -> bool:
    """Tell whether it is a journal, rather than, where that is allowed, a file with nothing in it.

    Raises:
        JournalError: It is neither.
    """
    found = tuple(database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if found == (_APPLICATION, _FORMAT):
        return True
    if any(found) or database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise JournalError(path, "is not a journal of this version of stoker; name another file")
    if not empty:
        raise JournalError(path, "has nothing in it yet")
    return False


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Have all changes of the block made, or none."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def translated(path: Path, what: str) -> Iterator[None]:
    """Turn errors of the database and of the disk into a ``JournalError``."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise refuse(path, what, error) from error


def refuse(path: Path, what: str, error: Exception) -> JournalError:
    """Build the error for what cannot be done with a file."""
    return JournalError(path, f"{what}: {error}")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.is_file():
        raise JournalError(path, "there is no such file")
    with translated(path, "cannot be read"), contextlib.closing(connect(path, write=False)) as database:
        # One state of the file for all that is read of it: its writer may be about to make it.
        database.execute("BEGIN")
        _is_journal(path, database)
        yield database
