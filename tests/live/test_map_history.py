"""Whatever is killed and stopped while a map runs: each result reaches the caller once, and little is done again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import stoker
from stoker.cluster import Cluster, ClusterStatus
from stoker.compute.batching import TARGET
from stoker.errors import StokerError
from stoker.spec import parse_spec
from stoker.system.processes import list_children

pytestmark = pytest.mark.live

ENGINES = 2
ITEMS = 20_000
SECONDS = 0.0005
"""What an item takes."""
BLOW_EVERY = 1.5
RETRIES = 10
"""An item that happens to run when blow after blow falls is no poison."""
SPEC = parse_spec({"cluster": {"profile": "lab", "frozen_after": 1.0, "lease": 30.0}, "engines": [{"count": ENGINES}]})


def note(directory: Path) -> Callable[[int], int]:
    """Make a function that notes each item that it begins, in a file for each engine's process."""
    text = str(directory)

    def work(item: int) -> int:
        file = os.open(f"{text}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, b"%d\n" % item)
        os.close(file)
        time.sleep(SECONDS)
        return item * item

    return work


def count_runs(directory: Path) -> Counter[int]:
    return Counter(int(line) for path in directory.iterdir() for line in path.read_text().split())


class Storm(threading.Thread):
    """Blows at random moments until it is told to end."""

    def __init__(self, strike: Callable[[random.Random], str], *, seed: int, limit: int | None = None) -> None:
        super().__init__(name="storm", daemon=True)
        self.blows: list[str] = []
        self._strike = strike
        self._chance = random.Random(seed)
        self._limit = limit
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(self._chance.uniform(0.5, 1.5) * BLOW_EVERY) and len(self.blows) != self._limit:
            blow = self._strike(self._chance)
            if blow:
                self.blows.append(blow)

    def end(self) -> None:
        self._over.set()
        self.join()


class Target:
    """A cluster that is struck."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stopped: list[int] = []

    def strike(self, chance: random.Random) -> str:
        """Send some process a signal, and say which; empty where there was none."""
        try:
            status = self._cluster.status()
        except StokerError:
            return ""
        victim = chance.choice(("engine", "engine", "engine", "continue", "agent", "hub", "scheduler"))
        signum = chance.choice((signal.SIGKILL, signal.SIGSTOP)) if victim == "engine" else signal.SIGKILL
        pid = self._choose(victim, status, chance)
        if pid is None:
            return ""
        if victim == "continue":
            signum = signal.SIGCONT
        elif signum == signal.SIGSTOP:
            self._stopped.append(pid)
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            return ""
        return f"{signum.name} to {victim} {pid}"

    def _choose(self, victim: str, status: ClusterStatus, chance: random.Random) -> int | None:
        hub = None if status.controller is None else status.controller.pid
        match victim:
            case "engine":
                return chance.choice(status.engines).pid if status.engines else None
            case "continue":
                return self._stopped.pop() if self._stopped else None
            case "agent":
                return status.agents[0].pid if status.agents else None
            case "hub":
                return hub
            case _:
                children = () if hub is None else list_children(hub)
                return chance.choice(children) if children else None


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    directory = tmp_path / "runs"
    directory.mkdir()
    return directory


def check(results: list[int], runs: Counter[int], *, blows: list[str], engines: int) -> None:
    assert results == [item * item for item in range(ITEMS)]
    assert set(runs) == set(range(ITEMS))
    again = runs.total() - ITEMS
    assert again <= (len(blows) + 1) * 2 * engines * TARGET / SECONDS, blows


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.long] if seed >= 3 else []) for seed in range(100)]
)
def test_nothing_is_lost_and_nothing_comes_twice_whatever_is_struck(
    seed: int, start: Callable[..., Cluster], runs: Path
) -> None:
    cluster = start(SPEC)
    storm = Storm(Target(cluster).strike, seed=seed)

    storm.start()
    begin = time.monotonic()
    try:
        results = cluster.map(note(runs), range(ITEMS), retries=RETRIES)
    finally:
        storm.end()
    seconds = time.monotonic() - begin
    told = [f"{seconds:.1f} s", *storm.blows]

    assert len(storm.blows) >= 2
    check(results, count_runs(runs), blows=storm.blows, engines=ENGINES)
    assert seconds < 60, told


def test_results_come_one_by_one_and_once_whatever_is_struck(start: Callable[..., Cluster], runs: Path) -> None:
    cluster = start(SPEC)
    storm = Storm(Target(cluster).strike, seed=1000)

    storm.start()
    try:
        results = list(cluster.imap(note(runs), iter(range(ITEMS)), ordered=False, retries=RETRIES))
    finally:
        storm.end()

    assert len(results) == ITEMS
    check(sorted(results), count_runs(runs), blows=storm.blows, engines=ENGINES)


def test_nothing_is_lost_where_nobody_replaces_engines(plain_client: Any, runs: Path) -> None:
    view = plain_client.load_balanced_view(range(4))
    pids = plain_client[:4].apply_async(os.getpid).get(20)

    def strike(chance: random.Random) -> str:
        pid = pids.pop(chance.randrange(len(pids)))
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
        return f"SIGKILL to engine {pid}"

    storm = Storm(strike, seed=0, limit=2)

    storm.start()
    try:
        results = stoker.map(view, note(runs), range(ITEMS), retries=RETRIES)
    finally:
        storm.end()

    assert len(storm.blows) == 2
    check(results, count_runs(runs), blows=storm.blows, engines=4)
    assert len(plain_client.ids) == 6
