from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.system import usage
from stoker.system.usage import Usage, count_oom_kills, count_tasks, read_peak, read_state, read_usage

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

NOBODY = 2**22 + 1
"""No system has a process of this number."""

STAT = "{pid} (a) S 1 (b) T 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 4711 20"
ROLLUP = """00400000-7ff [rollup]
Rss:                2048 kB
Pss:                1024 kB
Pss_Dirty:           100 kB
Private_Clean:       100 kB
Private_Dirty:       200 kB
Private_Hugetlb:       0 kB
Locked:                0 kB
"""


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /proc, with a process 7 in it."""
    (tmp_path / "7" / "task").mkdir(parents=True)
    (tmp_path / "7" / "stat").write_text(STAT.format(pid=7))
    (tmp_path / "7" / "smaps_rollup").write_text(ROLLUP)
    (tmp_path / "7" / "status").write_text("Name:\ta\nVmHWM:\t    4096 kB\nThreads:\t3\n")
    for task in (7, 8, 9):
        (tmp_path / "7" / "task" / str(task)).mkdir()
    monkeypatch.setattr(usage, "_PROC", tmp_path)
    return tmp_path


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_what_a_process_takes_is_read(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 100)

    assert read_usage(7) == Usage(cpu=3.0, rss=2048 * 1024, pss=1024 * 1024, uss=300 * 1024, peak=4096 * 1024)
    assert read_peak(7) == 4096 * 1024
    assert read_state(7) == "T"
    assert count_tasks(7) == 3


def test_what_the_system_does_not_tell_is_none(proc: Path) -> None:
    (proc / "7" / "smaps_rollup").unlink()
    (proc / "7" / "status").write_text("Name:\ta\n")

    found = read_usage(7)

    assert (found.rss, found.pss, found.uss, found.peak) == (None, None, None, None)
    assert read_usage(8) == Usage()
    assert (read_peak(8), read_state(8), count_tasks(8)) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        pytest.param("nr_free_pages 5\noom_kill 12\nnuma_hit 3\n", 12, id="told"),
        pytest.param("oom_killer 5\n", None, id="another name"),
        pytest.param("", None, id="not told"),
    ],
)
def test_kills_for_want_of_memory_are_counted(proc: Path, text: str, count: int | None) -> None:
    (proc / "vmstat").write_text(text)

    assert count_oom_kills() == count


def test_where_nothing_is_told_no_kills_are(proc: Path) -> None:
    assert count_oom_kills() is None


@linux
def test_this_process_is_read() -> None:
    found = read_usage(os.getpid())

    assert None not in (found.cpu, found.rss, found.pss, found.uss, found.peak)
    assert found.cpu is not None
    assert 0 < found.cpu <= time.process_time() + 0.1
    assert found.rss is not None
    assert 0 < (found.uss or 0) <= (found.pss or 0) <= found.rss <= (found.peak or 0) + 4096 * 64
    assert count_oom_kills() is not None


@linux
@pytest.mark.live
def test_the_state_of_a_process_is_read(sleeper: subprocess.Popen[bytes]) -> None:
    states = []
    for signum, wanted in [(signal.SIGSTOP, "T"), (signal.SIGCONT, "S"), (signal.SIGKILL, "Z")]:
        sleeper.send_signal(signum)
        deadline = time.monotonic() + 10
        while read_state(sleeper.pid) != wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        states.append(read_state(sleeper.pid))

    assert states == ["T", "S", "Z"]
    assert read_usage(sleeper.pid).rss is None
    assert read_state(NOBODY) is None


@linux
def test_threads_are_counted_as_the_system_does() -> None:
    before = count_tasks(os.getpid())
    assert before is not None
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()

    assert count_tasks(os.getpid()) == before + 1

    done.set()
    thread.join()
    assert count_tasks(NOBODY) is None
