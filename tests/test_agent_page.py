from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from stoker.agent import page as pages_module
from stoker.agent.page import LEAVING, READY, STARTING, EnginePage, Pages, open_nameless, open_page


@pytest.fixture
def page() -> EnginePage:
    return Pages().take()[1]


def test_a_new_page_is_that_of_an_engine_that_starts(page: EnginePage) -> None:
    found = (page.phase, page.uuid, page.number, page.tasks_done, page.busy, page.will)

    assert found == (STARTING, "", None, 0, 0.0, b"")


@pytest.mark.parametrize("uuid", ["", "a" * 64, "1b-2"])
def test_what_is_written_is_read_through_another_mapping_though_the_file_was_closed(uuid: str) -> None:
    handle = open_page()
    written, read = EnginePage.map(handle), EnginePage.map(handle)
    os.close(handle)

    written.phase = LEAVING
    written.uuid = uuid
    written.number = 0
    written.will = b"the last"
    written.begin_task()
    written.end_task()
    written.begin_task()

    assert (read.phase, read.uuid, read.number, read.tasks_done) == (LEAVING, uuid, 0, 1)
    assert read.will == b"the last"
    assert 0 < read.busy < 60


def test_a_shorter_name_leaves_nothing_of_a_longer_one(page: EnginePage) -> None:
    page.uuid = "long name"

    page.uuid = "name"

    assert page.uuid == "name"


@pytest.mark.parametrize(
    ("will", "kept"),
    [
        pytest.param(b"x" * 3000, b"x" * 3000, id="ordinary"),
        pytest.param(b"x" * 5000, b"", id="too long for the page"),
        pytest.param(b"", b"", id="none"),
    ],
)
def test_the_last_will_counts_and_one_that_does_not_fit_is_none(page: EnginePage, will: bytes, kept: bytes) -> None:
    page.will = b"an earlier one"

    page.will = will

    assert page.will == kept


def test_a_page_outlives_a_child_that_was_forked_after_it_and_wrote_it() -> None:
    pages = Pages()
    place, page = pages.take()
    pid = os.fork()
    if pid == 0:
        own = pages.open(place)
        own.phase = READY
        own.begin_task()
        os._exit(0)
    os.waitpid(pid, 0)

    assert page.phase == READY
    assert page.busy > 0


def test_each_engine_has_a_page_of_its_own_and_the_next_that_gets_it_finds_it_empty() -> None:
    pages = Pages()
    first, second = pages.take()[1], pages.take()[1]
    first.uuid, first.will, second.uuid = "first", b"x" * 3960, "second"

    first.close()
    third = pages.take()[1]
    fourth = pages.take()[1]

    assert (third.uuid, third.will, fourth.uuid) == ("", b"", "")
    third.uuid = "third"
    assert second.uuid == "second"


def test_where_no_page_is_left_it_is_an_error_until_one_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_module, "_MOST_PAGES", 2)
    pages = Pages()
    kept = [pages.take()[1] for _ in range(2)]

    with pytest.raises(OSError, match="no more than 2 engines"):
        pages.take()

    kept[0].close()
    assert pages.take()[1].uuid == ""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_page_without_a_file_takes_no_handle() -> None:
    handles = Path("/proc/self/fd")
    before = {each.name for each in handles.iterdir()}

    Pages().take()

    assert {each.name for each in handles.iterdir()} == before


def test_a_nameless_file_is_writable_and_not_inherited() -> None:
    handle = open_nameless()

    os.write(handle, b"data")

    assert os.pread(handle, 10, 0) == b"data"
    assert not os.get_inheritable(handle)
    os.close(handle)
