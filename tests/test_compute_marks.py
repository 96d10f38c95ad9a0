"""Marks: what a slot tells of a batch, whoever wrote it."""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.compute import marks as marks_module
from stoker.compute.marks import Mark, Marks

SLOT = struct.Struct("=QQQQQ")
"""As an engine writes it: the batch's number, where it is, when that step began in ns, the process, the engine."""
ENGINE = 2**64 - 5

LOADING = 1 << 20 | (1 << 20) - 1
FINISHED = (1 << 64) - 1


@pytest.fixture
def marks() -> Iterator[Marks]:
    marks = Marks()
    yield marks
    marks.close()


def _write(marks: Marks, number: int, *, where: int, owner: int | None = None, pid: int = 4711) -> None:
    """Do as an engine: through the client's descriptor, not through its object."""
    place = marks.place(number)
    assert place is not None
    _, client, handle, token, offset = place
    with Path(f"/proc/{client}/fd/{handle}").open("r+b") as shared, mmap.mmap(shared.fileno(), 0) as memory:
        assert memory[: len(token)] == token
        SLOT.pack_into(memory, offset, number if owner is None else owner, where, time.monotonic_ns(), pid, ENGINE)


def _tell(mark: Mark | None) -> tuple[int, int, bool, bool, int] | None:
    assert mark is None or mark.engine == ENGINE
    return None if mark is None else (mark.low, mark.high, mark.loading, mark.finished, mark.pid)


def test_of_a_batch_that_has_not_begun_nothing_is_known(marks: Marks) -> None:
    assert [marks.read(number) for number in (1, 2, 2048, 2049)] == [None] * 4


@pytest.mark.parametrize(
    ("where", "low", "high"),
    [
        pytest.param(1 << 20 | 1, 0, 1, id="the first alone"),
        pytest.param(8 << 20 | 1, 7, 8, id="a later one alone"),
        pytest.param(8 << 20 | 1 << 14, 7, 7 + 2**14, id="a step of many"),
        pytest.param((10**9 + 1) << 20 | 64, 10**9, 10**9 + 64, id="far into a huge batch"),
    ],
)
def test_a_step_tells_which_items_may_be_running(marks: Marks, where: int, low: int, high: int) -> None:
    _write(marks, 5, where=where)

    assert _tell(marks.read(5)) == (low, high, False, False, 4711)


def test_an_engine_that_still_reads_the_items_may_be_at_any(marks: Marks) -> None:
    _write(marks, 5, where=LOADING)

    assert _tell(marks.read(5)) == (0, (1 << 20) - 1, True, False, 4711)


def test_a_batch_whose_items_have_all_run_is_finished(marks: Marks) -> None:
    _write(marks, 5, where=FINISHED)

    mark = marks.read(5)
    assert mark is not None
    assert (mark.finished, mark.loading) == (True, False)


def test_the_seconds_count_from_the_steps_begin(marks: Marks, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(marks, 5, where=1 << 20 | 1)
    later = time.monotonic_ns() + 3_000_000_000
    monkeypatch.setattr(time, "monotonic_ns", lambda: later)

    mark = marks.read(5)

    assert mark is not None
    assert mark.seconds == pytest.approx(3.0, abs=0.5)


def test_batches_of_one_slot_are_told_apart(marks: Marks) -> None:
    _write(marks, 5, where=1 << 20 | 1)
    _write(marks, 5 + 2048, where=3 << 20 | 1)

    assert marks.read(5) is None
    assert _tell(marks.read(5 + 2048)) == (2, 3, False, False, 4711)


def test_no_two_of_2048_batches_in_a_row_share_a_byte(marks: Marks) -> None:
    places = [marks.place(number) for number in range(7, 7 + 2048)]

    offsets = sorted(place[4] for place in places if place is not None)
    assert len(offsets) == 2048
    assert offsets[0] >= 16
    assert all(after - before >= SLOT.size for before, after in itertools.pairwise(offsets))


def test_the_memory_has_no_name_and_goes_with_its_client() -> None:
    marks = Marks()
    place = marks.place(1)
    assert place is not None
    descriptor = Path(f"/proc/{os.getpid()}/fd/{place[2]}")
    assert str(descriptor.readlink()).startswith("/memfd:stoker-marks")

    marks.close()
    marks.close()

    assert not descriptor.exists()
    assert (marks.place(1), marks.read(1)) == (None, None)


def test_two_clients_have_different_tokens(marks: Marks) -> None:
    other = Marks()
    try:
        places = (marks.place(1), other.place(1))
    finally:
        other.close()

    assert places[0] is not None
    assert places[1] is not None
    assert places[0][3] != places[1][3]


@pytest.mark.parametrize("lacking", ["memfd_create", "boot id"])
def test_a_system_without_such_memory_has_no_marks(monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    if lacking == "memfd_create":
        monkeypatch.delattr(os, "memfd_create")
    else:
        monkeypatch.setattr(marks_module, "read_boot", lambda: "")
    marks = Marks()

    seen = (marks.place(1), marks.read(1))
    marks.close()

    assert seen == (None, None)
