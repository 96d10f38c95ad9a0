from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from stoker.agent.page import LEAVING, READY, STARTING, EnginePage, open_nameless, open_page


def test_a_new_page_is_that_of_an_engine_that_starts() -> None:
    page = EnginePage()

    assert (page.phase, page.uuid, page.number, page.tasks_done, page.busy) == (STARTING, "", None, 0, 0.0)


@pytest.mark.parametrize("uuid", ["", "a" * 64, "1b-2"])
def test_what_is_written_is_read_through_another_mapping_though_the_file_was_closed(uuid: str) -> None:
    handle = open_page()
    written, read = EnginePage(handle), EnginePage(handle)
    os.close(handle)

    written.phase = LEAVING
    written.uuid = uuid
    written.number = 0
    written.begin_task()
    written.end_task()
    written.begin_task()

    assert (read.phase, read.uuid, read.number, read.tasks_done) == (LEAVING, uuid, 0, 1)
    assert 0 < read.busy < 60


def test_a_shorter_name_leaves_nothing_of_a_longer_one() -> None:
    page = EnginePage()
    page.uuid = "long name"

    page.uuid = "name"

    assert page.uuid == "name"


def test_a_page_outlives_a_child_that_was_forked_after_it_and_wrote_it() -> None:
    page = EnginePage()
    pid = os.fork()
    if pid == 0:
        page.phase = READY
        page.begin_task()
        os._exit(0)
    os.waitpid(pid, 0)

    assert page.phase == READY
    assert page.busy > 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_page_without_a_file_takes_no_handle() -> None:
    handles = Path("/proc/self/fd")
    before = {each.name for each in handles.iterdir()}

    page = EnginePage()

    assert {each.name for each in handles.iterdir()} == before
    page.close()


def test_a_nameless_file_is_writable_and_not_inherited() -> None:
    handle = open_nameless()

    os.write(handle, b"data")

    assert os.pread(handle, 10, 0) == b"data"
    assert not os.get_inheritable(handle)
    os.close(handle)
