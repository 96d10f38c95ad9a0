"""Whatever of a queue is killed or stopped, every job has its result, once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import stoker.queue
from stoker.errors import QueueError

pytestmark = pytest.mark.live

JOBS = 1000
WORKERS = 4
MODULE = """
import os, time

def nap(item):
    time.sleep(item % 7 / 1000)
    return item * item, os.getpid()
"""


class Shop:
    """A server and workers, each of which can be ended and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stopped: list[int] = []
        self.queue = directory / "queue"
        self.server = self.start("serve", "--lease", "1", "--attempts", "50")
        self.workers = [self.start_worker() for _ in range(WORKERS)]

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "stoker.queue", *words, "--directory", str(self.queue)]
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(argv, cwd=self.directory, stdin=subprocess.DEVNULL, stderr=log)

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self.start("work")

    def restart_server(self) -> None:
        self.server.kill()
        self.server.wait()
        self.server = self.start("serve", "--lease", "1", "--attempts", "50")

    def hit(self, draw: random.Random) -> None:
        """Kill or stop one of the workers: the process that was started, or the one that computes for it."""
        number = draw.randrange(WORKERS)
        worker = self.workers[number]
        if worker.poll() is not None:
            self.workers[number] = self.start_worker()
            return
        signum = draw.choice((signal.SIGKILL, signal.SIGSTOP))
        victims = [worker.pid, *_children(worker.pid)]
        victim = draw.choice(victims)
        if signum == signal.SIGSTOP:
            self.stopped.append(victim)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signum)

    def end(self) -> None:
        for process in (*self.workers, self.server):
            for pid in (*_children(process.pid), process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(timeout=10)
        # One that was stopped in its first moment, before it asked to die with its parent, asks now.
        for pid in self.stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.fixture
def shop(tmp_path: Path, wait_until: Callable[..., Any]) -> Iterator[Shop]:
    (tmp_path / "chaotic.py").write_text(MODULE)
    opened = Shop(tmp_path)
    wait_until(lambda: _answers(opened.queue))
    yield opened
    opened.end()


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.long] if seed >= 3 else []) for seed in range(200)]
)
def test_every_job_has_its_result_once_whatever_is_killed_or_stopped(shop: Shop, seed: int) -> None:
    draw = random.Random(seed)
    with stoker.queue.connect(shop.queue) as queue:
        numbers = queue.put("chaotic:nap", range(JOBS))
        begin = time.monotonic()
        beats = 0
        while queue.status().done < JOBS:
            assert time.monotonic() - begin < 90, queue.status()
            beats += 1
            if beats in (2, 4):
                shop.restart_server()
            shop.hit(draw)
            _sleep_through(0.25)
        results = list(queue.results(numbers, timeout=10))

    assert [result.number for result in results] == numbers
    assert [result.get()[0] for result in results] == [item * item for item in range(JOBS)]
    assert os.getpid() not in {result.get()[1] for result in results}


def _sleep_through(seconds: float) -> None:
    # The pace of the blows, not a wait for anything.
    time.sleep(seconds)


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry.name))
    return found


def _answers(directory: Path) -> bool:
    try:
        with stoker.queue.connect(directory, wait=0):
            return True
    except QueueError:
        return False
