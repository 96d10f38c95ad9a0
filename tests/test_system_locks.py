from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.errors import BusyError
from stoker.system.locks import hold_lock

_HOLD = """
import pathlib, sys
from stoker.system.locks import hold_lock
with hold_lock(pathlib.Path(sys.argv[1]), wait=5, purpose="stoker up"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    directory = tmp_path / "profile_lab" / "pid"
    directory.mkdir(parents=True)
    return directory / "cluster.lock"


@pytest.fixture
def holder(lock: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock until its input ends."""
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with process:
        yield process
        process.kill()


def _try(lock: Path, *, wait: float = 0) -> None:
    with hold_lock(lock, wait=wait, purpose="stoker down"):
        pass


@pytest.mark.live
def test_a_second_holder_is_told_of_the_first(lock: Path, holder: subprocess.Popen[bytes]) -> None:
    with pytest.raises(BusyError) as caught:
        _try(lock)

    assert str(caught.value) == (
        f"profile_lab: stoker up (process {holder.pid}) is starting or stopping this cluster (waited 0 s); "
        "try again when it has finished"
    )
    assert (caught.value.path, caught.value.holder, caught.value.waited) == (
        lock,
        f"stoker up (process {holder.pid})",
        0,
    )


@pytest.mark.live
def test_a_second_holder_waits_as_long_as_it_says(lock: Path, holder: subprocess.Popen[bytes]) -> None:
    start = time.monotonic()

    with pytest.raises(BusyError):
        _try(lock, wait=0.3)

    assert 0.3 <= time.monotonic() - start < 3


@pytest.mark.live
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_lock_ends_with_its_holder_however_that_dies(
    lock: Path, holder: subprocess.Popen[bytes], signum: signal.Signals
) -> None:
    holder.send_signal(signum)
    holder.wait(10)

    _try(lock)

    assert lock.read_text() == f"stoker down (process {os.getpid()})"


@pytest.mark.live
def test_a_waiting_holder_gets_the_lock_when_the_first_one_ends(lock: Path, holder: subprocess.Popen[bytes]) -> None:
    timer = threading.Timer(0.2, holder.stdin.close)
    timer.start()

    _try(lock, wait=10)

    timer.join()
    assert holder.wait(10) == 0


@pytest.mark.live
def test_a_child_of_the_holder_does_not_inherit_the_lock(lock: Path) -> None:
    with hold_lock(lock, wait=0, purpose="stoker up"):
        child = subprocess.Popen(["sleep", "30"])

    _try(lock)

    child.kill()
    child.wait()


def test_one_process_cannot_hold_a_lock_twice(lock: Path) -> None:
    with hold_lock(lock, wait=0, purpose="stoker up"), pytest.raises(BusyError, match=f"process {os.getpid()}"):
        _try(lock)


def test_a_lock_is_free_again_after_an_error_inside(lock: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold_lock(lock, wait=0, purpose="stoker up"):
        raise ZeroDivisionError

    _try(lock)


def test_a_lock_file_stays_and_is_its_owners_alone(lock: Path) -> None:
    _try(lock)

    assert stat.S_IMODE(lock.stat().st_mode) == 0o600


def test_a_holder_that_has_not_said_who_it_is_is_another_process(lock: Path) -> None:
    import fcntl

    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BusyError) as caught:
            _try(lock)

    assert caught.value.holder == "another process"
