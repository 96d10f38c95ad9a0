"""Journals: what is recorded stays, is never run again, and serves no other call."""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from stoker.compute import MapOptions, journal_file, read_journal, read_journal_info
from stoker.compute import journal as journal_module
from stoker.compute.call import Settled
from stoker.compute.fingerprint import describe_function
from stoker.compute.journal import Begun, Journal
from stoker.compute.ledger import Ledger, Piece
from stoker.compute.mapping import _iterate, _list_parts, iterate_lists
from stoker.compute.resume import JournalledCall
from stoker.compute.source import Source, open_source, open_star_source
from stoker.errors import JournalError, StokerError


class CrashError(Exception):
    """The end of a client in the middle of a call."""


def square(item: int) -> int:
    return item * item


@dataclass
class Engines:
    """Run batches of random sizes, and give them back in a random order; items fail at random."""

    chance: random.Random
    life: int | None = None
    """After so many batches all ends."""

    failing: float = 0.0
    """How many of the items fail."""

    ran: list[int] = field(default_factory=list)
    """The items that have run and did not fail."""

    earlier: int = 0
    total: int | None = None
    stopped: bool = False

    def stop(self) -> None:
        self.stopped = True

    def make_call(self, source: Source, *, earlier: int, number: Callable[[int], int]) -> Any:
        self.earlier, self.total = earlier, source.left
        self._ledger = Ledger(source, retries=0)
        self._number = number
        return self

    def hold(self, parts: int) -> None:
        pass

    def run(self) -> Iterator[Settled]:
        flying: dict[int, Piece] = {}
        for batch in itertools.count():
            while len(flying) < 3 and self._ledger.left != 0:
                piece = self._ledger.take(self.chance.choice((1, 2, 7, 40)))
                if piece is None:
                    break
                flying[len(self.ran) + 1000 * batch + len(flying)] = piece
            if not flying or self.stopped:
                return
            if self.life is not None and batch >= self.life:
                raise CrashError
            piece = flying.pop(self.chance.choice(sorted(flying)))
            yield self._settle(piece)

    def _settle(self, piece: Piece) -> Settled:
        values: list[Any] = []
        errors: dict[int, BaseException] = {}
        for position, row in enumerate(zip(*piece.columns, strict=True)):
            if self.chance.random() < self.failing:
                errors[position] = ValueError(self._number(piece.first + position))
                values.append(None)
            else:
                self.ran.append(row[0])
                values.append(square(row[0]))
        self._ledger.settled += len(values)
        return Settled(first=piece.first, values=values, errors=errors)


def _call(path: Path, items: Any, engines: Engines, function: Callable[..., Any] = square) -> JournalledCall:
    make = engines.make_call
    return JournalledCall(function, open_source([items]), [items], path, star=False, make_call=make)


def _run(path: Path, items: Any, engines: Engines, *, on_error: Any = "return") -> list[Any]:
    parts = _list_parts(_call(path, items, engines), MapOptions(on_error=on_error))
    return list(itertools.chain.from_iterable(values for _, values in sorted(parts, key=lambda part: part[0])))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal"


@pytest.fixture
def engines() -> Engines:
    return Engines(random.Random(1))


SOURCES: dict[str, Callable[[int], Any]] = {
    "range": range,
    "list": lambda count: list(range(count)),
    "generator": lambda count: (item for item in range(count)),
}


# However often a call is ended.


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("ordered", [None, True, False], ids=["map", "imap", "imap without order"])
@settings(max_examples=examples(25), deadline=None)
@given(
    count=st.integers(0, 300),
    lives=st.lists(st.integers(0, 12), max_size=4),
    failing=st.sampled_from([0.0, 0.05, 0.6]),
    seed=st.integers(0, 1000),
)
def test_all_results_come_once_and_nothing_that_was_recorded_is_run_again(
    kind: str, ordered: bool | None, count: int, lives: list[int], failing: float, seed: int
) -> None:
    chance = random.Random(seed)
    ran: list[int] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.journal"
        for life in lives:
            engines = Engines(chance, life=life, failing=failing, ran=ran)
            before = len(ran)
            try:
                _run(path, SOURCES[kind](count), engines)
            except CrashError:
                pass
            else:
                assert len(ran) - before + engines.earlier <= count
            assert read_journal_info(path).done == len(ran)
        last = Engines(chance, ran=ran)

        if ordered is None:
            results = _run(path, SOURCES[kind](count), last)
        else:
            given_back = _iterate(iterate_lists(_call(path, SOURCES[kind](count), last), MapOptions(), ordered=ordered))
            results = list(given_back) if ordered else sorted(given_back)

        assert results == [square(item) for item in range(count)]
        assert sorted(ran) == list(range(count))
        assert dict(read_journal(path)) == dict(enumerate(results))
        assert read_journal_info(path).complete


def test_an_error_has_the_index_that_its_item_has_in_the_call(path: Path) -> None:
    chance = random.Random(2)
    first = _run(path, range(200), Engines(chance, failing=0.4))
    failed = [index for index, value in enumerate(first) if isinstance(value, ValueError)]

    again = Engines(chance, failing=0.5)
    second = _run(path, range(200), again)

    assert again.earlier == 200 - len(failed)
    assert again.total == len(failed)
    assert failed
    for index, value in enumerate(second):
        assert value == square(index) or (index in failed and value.args == (index,))


def test_what_came_before_an_error_is_recorded(path: Path) -> None:
    engines = Engines(random.Random(5), failing=0.1)

    with pytest.raises(ValueError, match=r"\d"):
        _run(path, range(200), engines, on_error="raise")

    assert len(engines.ran) > 3
    assert sorted(index for index, _ in read_journal(path)) == sorted(engines.ran)


def test_rows_of_a_starmap_are_told_apart_from_items_of_a_map(path: Path, engines: Engines) -> None:
    rows = [(item,) for item in range(5)]
    make = engines.make_call
    source = open_star_source(rows)
    call = JournalledCall(square, source, [rows], path, star=True, make_call=make)
    with pytest.raises(TypeError):
        list(call.run())  # these engines know no rows; a row has come to them

    assert read_journal_info(path).call == "starmap"


def test_an_iterator_without_end_goes_on_behind_what_was_taken(path: Path) -> None:
    first = Engines(random.Random(1))
    taken = _iterate(iterate_lists(_call(path, itertools.count(), first), MapOptions(), ordered=True))
    assert list(itertools.islice(taken, 50)) == [square(item) for item in range(50)]
    taken.close()

    second = Engines(random.Random(2))
    taken = _iterate(iterate_lists(_call(path, itertools.count(), second), MapOptions(), ordered=True))
    results = list(itertools.islice(taken, 200))
    taken.close()

    assert results == [square(item) for item in range(200)]
    assert not set(first.ran) & set(second.ran)
    info = read_journal_info(path)
    assert (info.total, info.complete, info.inputs, info.calls) == (None, False, "count", 2)


def test_a_call_that_is_stopped_reads_no_rest_that_may_have_no_end(path: Path) -> None:
    read: list[int] = []
    items = (read.append(item) or item for item in itertools.count())
    call = _call(path, items, Engines(random.Random(1), life=9))
    run = call.run()
    next(run)

    call.stop()
    list(run)

    assert len(read) < 1000


def test_results_of_an_earlier_call_are_read_from_disk_only_when_their_turn_comes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(path, range(2000), Engines(random.Random(1)))
    loaded: list[int] = []
    load = Journal.load
    monkeypatch.setattr(Journal, "load", lambda self, first: loaded.append(first) or load(self, first))

    results = _iterate(iterate_lists(_call(path, range(2000), Engines(random.Random(1))), MapOptions(), ordered=True))
    assert next(results) == 0

    assert len(loaded) == 1
    results.close()


# What is refused.


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (range(100), range(101), "it is of 100 items, not of 101"),
        (range(100), range(1, 101), "its items are others"),
        (range(100), list(range(100)), "its items come from a range, not from a list"),
        (list(range(100)), list(range(99)), "it is of 100 items, not of 99"),
        (list(range(100)), [*range(99), 7], "not all items from 0 to 99 are what they were"),
        (list(range(100)), iter([*range(99), 7]), "not all items from 0 to 99 are what they were"),
        (list(range(100)), iter(range(50)), "it is of 100 items at least, now there are 50"),
        (list(range(100)), iter(range(101)), "it is of 100 items, now there are more"),
        (iter(range(100)), iter(range(101)), "it is of 100 items, now there are more"),
        (iter(range(100)), list(range(101)), "it is of 100 items, not of 101"),
        (iter(range(100)), iter(["a", *range(99)]), "are what they were"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_other_inputs_are_refused(before: Any, after: Any, problem: str, path: Path) -> None:
    engines = Engines(random.Random(1))
    _run(path, before, engines)
    recorded = list(read_journal(path))
    ran = len(engines.ran)

    with pytest.raises(JournalError, match=problem) as caught:
        _run(path, after, engines)

    assert str(caught.value).startswith(f"{path}: is the journal of ")
    assert str(caught.value).endswith("or name another file")
    # More items than there were are seen only where these end.
    assert len(engines.ran) - ran <= 1
    assert list(read_journal(path)) == recorded


@pytest.mark.parametrize("before", [list, iter], ids=["list", "iterator"])
@pytest.mark.parametrize("after", [list, tuple, iter], ids=["list", "tuple", "iterator"])
def test_the_same_items_may_come_from_another_list_or_iterator(
    before: Callable[[Any], Any], after: Callable[[Any], Any], path: Path, engines: Engines
) -> None:
    _run(path, before(range(100)), Engines(random.Random(1)))

    results = _run(path, after(range(100)), engines)

    assert results == [square(item) for item in range(100)]
    assert engines.ran == []


def test_another_function_is_refused_with_what_differs(path: Path, engines: Engines) -> None:
    _run(path, range(10), engines)
    factor = 3

    def square_(item: int) -> int:
        return item * factor

    square_.__qualname__ = "square"
    with pytest.raises(JournalError) as caught:
        list(_call(path, range(10), engines, square_).run())
    with pytest.raises(JournalError) as other:
        list(_call(path, range(10), engines, max).run())

    name = f"{__name__}.square"
    assert str(caught.value) == (
        f"{path}: is the journal of another call: {name} is not what it was: code, closure variable factor changed; "
        f"it has 10 results of {name}. Call that again to go on, or name another file"
    )
    assert f"its function is {name}, not builtins.max" in str(other.value)
    assert len(engines.ran) == 10


def test_a_journal_without_results_serves_any_call(path: Path, engines: Engines) -> None:
    with pytest.raises(CrashError):
        _run(path, range(7), Engines(random.Random(1), life=0))

    results = _run(path, [3, 4], engines)

    assert results == [9, 16]
    assert read_journal_info(path).total == 2


def test_a_journal_in_use_is_refused_and_can_be_read(path: Path) -> None:
    first = _iterate(iterate_lists(_call(path, range(100), Engines(random.Random(1))), MapOptions(), ordered=True))
    next(first)

    with pytest.raises(
        JournalError, match=r"another call \(process \d+\) is writing it; .* close its iterator"
    ) as caught:
        _run(path, range(100), Engines(random.Random(1)))
    info = read_journal_info(path)
    list(first)

    assert caught.value.path == path
    assert info.function.endswith(".square")
    assert len(list(read_journal(path))) == 100
    assert _run(path, range(100), Engines(random.Random(1))) == [square(item) for item in range(100)]


@pytest.mark.parametrize("journal", [7, "", b"a"], ids=repr)
def test_a_journal_has_the_path_of_a_file(journal: Any) -> None:
    with pytest.raises(StokerError, match="map: journal must be the path of a file, or None, got"):
        MapOptions(journal=journal)


# The file.


def _begun(function: Callable[..., Any] = square, total: int | None = None) -> Begun:
    return Begun(function=describe_function(function), call="map", inputs="list", digest=None, total=total)


def test_what_is_no_journal_is_refused_and_stays_as_it_is(tmp_path: Path, engines: Engines) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("do not lose me\n" * 100)
    database = tmp_path / "other.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = [path.read_bytes() for path in (text, database)]

    for path in (text, database):
        with pytest.raises(JournalError, match=r"is not a journal|not a database"):
            _run(path, range(3), engines)
        with pytest.raises(JournalError, match=r"is not a journal|not a database"):
            read_journal_info(path)

    assert [path.read_bytes() for path in (text, database)] == before
    assert engines.ran == []


def test_a_file_in_a_directory_that_does_not_exist_is_refused(tmp_path: Path, engines: Engines) -> None:
    with pytest.raises(JournalError, match="there is no directory"):
        _run(tmp_path / "no" / "a.journal", range(3), engines)
    with pytest.raises(JournalError, match="there is no such file"):
        read_journal_info(tmp_path / "a.journal")


def test_an_empty_file_becomes_a_journal_that_others_cannot_read(path: Path, engines: Engines) -> None:
    path.touch(mode=0o600)

    assert _run(path, range(3), engines) == [0, 1, 4]

    assert path.stat().st_mode & 0o077 == 0
    assert sorted(each.name for each in path.parent.iterdir() if each.name != "home") == ["a.journal", "a.journal.lock"]


def test_what_was_committed_is_there_although_nobody_closed_the_file(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    with Journal(path, _begun()) as journal:
        journal.record(5, ["five", {"six": 6}], (7, "digest"))
        _wait_until(lambda: read_journal_info(path).done == 2)
        for each in path.parent.glob("a.journal*"):
            shutil.copy(each, copy)

    assert list(read_journal(copy / path.name)) == [(5, "five"), (6, {"six": 6})]
    with Journal(copy / path.name, _begun()) as journal:
        assert (journal.rows, journal.checks) == ([(5, 2)], [(7, "digest")])


def test_a_file_that_someone_was_killed_at_before_it_was_a_journal_serves(
    path: Path, tmp_path: Path, engines: Engines
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        # Half of a change is in the file, and beside it what takes it back.
        database.executescript("PRAGMA cache_size = 1; BEGIN; CREATE TABLE half (x);")
        database.executemany("INSERT INTO half VALUES (?)", [("x" * 1000,)] * 100)
        for each in path.parent.glob("a.journal*"):
            shutil.copy(each, copy)
    assert (copy / path.name).stat().st_size > 10_000
    assert (copy / f"{path.name}-journal").stat().st_size > 0

    with pytest.raises(JournalError, match="has nothing in it yet"):
        read_journal_info(copy / path.name)
    results = _run(copy / path.name, range(3), engines)

    assert results == [0, 1, 4]


def test_a_journal_that_is_made_while_someone_looks_is_one_or_has_nothing_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = journal_file.connect, journal_file.connect(path)
    made: list[str] = []

    def make(statement: str) -> None:
        if "user_version" in statement and not made:
            made.append(statement)
            journal_file.prepare(path, writer)

    def connect(path: Path, *, write: bool) -> sqlite3.Connection:
        database = reader(path, write=write)
        database.set_trace_callback(make)
        return database

    monkeypatch.setattr(journal_file, "connect", connect)
    with contextlib.closing(writer):
        with pytest.raises(JournalError, match="has nothing in it yet"):
            list(read_journal(path))
        seen = list(read_journal(path))

    assert (len(made), seen) == (1, [])


def test_results_of_classes_that_have_no_module_are_kept(path: Path) -> None:
    class Local:
        def __init__(self, value: int) -> None:
            self.value = value

    with Journal(path, _begun()) as journal:
        journal.record(0, [Local(3)], None)
    ((index, found),) = read_journal(path)

    assert (index, found.value) == (0, 3)


def test_a_result_that_cannot_be_packed_is_named(path: Path) -> None:
    with Journal(path, _begun()) as journal, pytest.raises(JournalError, match="items 4 to 5 cannot be packed"):
        journal.record(4, [1, threading.Lock()], None)


def test_a_failure_to_write_comes_with_the_next_result(path: Path) -> None:
    def record_for_ever() -> None:
        with Journal(path, _begun()) as journal:
            journal.record(0, [1], None)
            _wait_until(lambda: read_journal_info(path).done == 1)
            # There is one already.
            journal.record(0, [2], None)
            for number in itertools.count(1):
                journal.record(number, [3], None)

    with pytest.raises(JournalError, match=r"cannot be written \(what is in it is safe\): UNIQUE") as caught:
        record_for_ever()

    assert not hasattr(caught.value, "__notes__")
    assert dict(read_journal(path))[0] == 1


def test_a_failure_to_write_comes_at_the_end_at_the_latest(path: Path) -> None:
    journal = Journal(path, _begun())
    journal.record(0, [1], None)
    journal.record(0, [2], None)

    with pytest.raises(JournalError, match="cannot be written"):
        journal.__exit__(None, None, None)


def test_a_failure_to_write_does_not_hide_what_ended_the_call(path: Path) -> None:
    def crash() -> None:
        with Journal(path, _begun()) as journal:
            journal.record(0, [1], None)
            journal.record(0, [2], None)
            raise CrashError

    with pytest.raises(CrashError) as caught:
        crash()

    assert any("cannot be written" in note for note in caught.value.__notes__)


def test_a_writer_that_hangs_is_not_robbed_of_its_database(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, go_on = journal_module._Writer._write, threading.Event()

    def hang(writer: Any, *arguments: Any) -> None:
        assert go_on.wait(20)
        write(writer, *arguments)

    monkeypatch.setattr(journal_module._Writer, "_write", hang)
    monkeypatch.setattr(journal_module, "_PATIENCE", 0.1)
    journal = Journal(path, _begun())
    journal.record(0, [1], None)

    with pytest.raises(JournalError, match="the disk takes nothing"):
        journal.__exit__(None, None, None)
    with pytest.raises(JournalError, match="is writing it"):
        Journal(path, _begun())
    go_on.set()
    journal._writer._thread.join(20)

    assert dict(read_journal(path)) == {0: 1}


def test_a_journal_that_its_own_writer_closes_is_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As the garbage collector may, in the middle of what that thread does.
    write = journal_module._Writer._write

    def close_and_write(writer: Any, *arguments: Any) -> None:
        journal.__exit__(None, None, None)
        write(writer, *arguments)

    monkeypatch.setattr(journal_module._Writer, "_write", close_and_write)
    journal = Journal(path, _begun())
    journal.record(0, [1], None)
    journal._writer._thread.join(20)

    assert dict(read_journal(path)) == {0: 1}
    with Journal(path, _begun()) as again:
        assert again.rows == [(0, 1)]


def _wait_until(condition: Callable[[], bool]) -> None:
    ended = threading.Event()
    for _ in range(500):
        if condition():
            return
        ended.wait(0.01)
    raise AssertionError("not within 5 s")
