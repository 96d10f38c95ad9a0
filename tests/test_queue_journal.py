from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from stoker.errors import QueueError
from stoker.queue.journal import Counts, Finished, Journal


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.sqlite")


def _value(number: int, payload: bytes = b"value") -> Finished:
    return Finished(number=number, kind="value", payload=payload, host="here", pid=7, seconds=0.5)


def _died(number: int) -> Finished:
    return Finished(number=number, kind="died", payload=b"its process died", host="here", pid=7, seconds=0.5)


def _lease(journal: Journal, worker: str = "a", want: int = 10) -> tuple[int, list[int]]:
    given = journal.exchange(worker, held=0, attempts=3, want=want)
    return given.lease, [job[0] for job in given.jobs]


def _put(journal: Journal, count: int) -> None:
    journal.put("token", 0, "operator:neg", 0.0, [b""] * count)


def test_the_same_part_put_again_changes_nothing(journal: Journal) -> None:
    first = journal.put("token", 0, "operator:neg", 0.0, [b"a", b"b"])
    again = journal.put("token", 0, "operator:neg", 0.0, [b"a", b"b"])
    other = journal.put("token", 1, "operator:neg", 0.0, [b"c"])

    assert (first, again, other) == ((1, 2), (1, 2), (3, 1))
    assert journal.counts == Counts(put=3, waiting=3, leased=0, done=0, failed=0)


def test_the_first_result_of_a_job_counts(journal: Journal) -> None:
    _put(journal, 1)
    _lease(journal)

    journal.exchange("a", held=0, finished=[_value(1, b"first")], attempts=3, want=0)
    journal.exchange("b", held=0, finished=[_value(1, b"second"), _value(9)], attempts=3, want=0)

    assert [row[3] for row in journal.results(1, 9, 10, in_order=True)] == [b"first"]
    assert journal.counts == Counts(put=1, waiting=0, leased=0, done=1, failed=0)


def test_a_job_that_kills_its_workers_is_given_up_after_the_limit(journal: Journal) -> None:
    _put(journal, 2)

    for _ in range(3):
        lease, (number, *_rest) = _lease(journal)
        assert number == 1
        journal.exchange("a", held=0, lease=lease, died=_died(1), attempts=3, want=0)

    (row,) = journal.results(1, 9, 10, in_order=True)
    assert (row[0], row[2], row[3], row[7]) == (1, "died", b"its process died", 3)
    assert journal.counts == Counts(put=2, waiting=1, leased=0, done=1, failed=1)


def test_a_job_that_killed_a_worker_is_handed_out_alone(journal: Journal) -> None:
    _put(journal, 3)
    lease, _ = _lease(journal)
    journal.exchange("a", held=0, lease=lease, died=_died(2), returned=[3], attempts=3, want=0)

    assert [_lease(journal, worker)[1] for worker in "bcd"] == [[1], [2], [3]]


def test_what_others_have_by_now_is_left_to_them(journal: Journal) -> None:
    _put(journal, 2)
    late, _ = _lease(journal, "late")
    journal.expire(late, cause="silent", attempts=3)
    _lease(journal, "b")
    _lease(journal, "c")

    journal.exchange("late", held=0, lease=late, died=_died(1), returned=[2], attempts=1, want=0)

    assert journal.counts == Counts(put=2, waiting=0, leased=2, done=0, failed=0)


def test_silence_is_the_fault_of_a_job_that_was_alone(journal: Journal) -> None:
    _put(journal, 1)

    for _ in range(2):
        lease, _ = _lease(journal, "node:1/1 token")
        assert journal.expire(lease, cause="was not heard", attempts=2) == (1,)

    (row,) = journal.results(1, 1, 1, in_order=True)
    assert (row[2], row[3], row[5]) == ("died", b"was not heard", "node")


def test_a_worker_that_asks_again_gives_up_what_it_never_heard_of(journal: Journal) -> None:
    _put(journal, 2)
    _lease(journal)

    _, numbers = _lease(journal)

    assert numbers == [1, 2]
    assert journal.counts.leased == 2


def test_results_end_before_the_first_gap_where_order_counts(journal: Journal) -> None:
    _put(journal, 4)
    _lease(journal)
    journal.exchange("a", held=0, finished=[_value(1), _value(2), _value(4)], attempts=3, want=0)

    assert [row[0] for row in journal.results(1, 99, 10, in_order=True)] == [1, 2]
    assert [row[0] for row in journal.results(1, 99, 10, in_order=False)] == [1, 2, 4]
    assert journal.results(3, 99, 10, in_order=True) == []


def test_everything_is_there_when_it_is_opened_again(journal: Journal, tmp_path: Path) -> None:
    _put(journal, 3)
    lease, _ = _lease(journal, want=2)
    journal.exchange("a", held=lease, finished=[_value(1)], attempts=3, want=0)
    journal.close()
    journal.end()

    again = Journal(tmp_path / "journal.sqlite")

    assert again.counts == Counts(put=3, waiting=1, leased=1, done=1, failed=0)
    assert again.leases() == {lease: "a"}
    assert again.closed


def test_another_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE mine (id)")
    before = path.stat().st_size

    with pytest.raises(QueueError, match=r"mine\.sqlite: is not a journal of this version of stoker"):
        Journal(path)

    assert path.stat().st_size == before
