"""The line to a supervisor: whether one is there, and what is said when it is not, or does not answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.errors import SupervisorError
from stoker.launch.supervisor_line import ask_supervisor, is_supervised
from stoker.system.runtime import listen


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket whose owner never answers, as that of a stopped process."""
    with listen(tmp_path / "control.sock") as listener:
        yield listener


def test_one_that_does_not_answer_is_there(silent: socket.socket, tmp_path: Path) -> None:
    assert is_supervised(tmp_path / "control.sock")
    with pytest.raises(SupervisorError, match=r"did not answer within 0\.1 s"):
        ask_supervisor(tmp_path / "control.sock", "hello", timeout=0.1)


def test_where_a_socket_was_left_behind_is_nobody(silent: socket.socket, tmp_path: Path) -> None:
    silent.close()

    assert not is_supervised(tmp_path / "control.sock")


def test_where_no_socket_is_is_nobody(tmp_path: Path) -> None:
    assert not is_supervised(tmp_path / "control.sock")
    with pytest.raises(SupervisorError, match=r"cannot be reached at .*: No such file or directory"):
        ask_supervisor(tmp_path / "control.sock", "hello", timeout=0.1)
