from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.agent import engines
from stoker.agent.engines import EngineSet
from stoker.agent.order import Death, EngineOrder
from stoker.agent.page import Pages


class Kills:
    """The system's count of what it has killed for want of memory."""

    def __init__(self) -> None:
        self.count: int | None = 5

    def __call__(self) -> int | None:
        return self.count


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Kills:
    kills = Kills()
    monkeypatch.setattr(engines, "count_oom_kills", kills)
    return kills


@pytest.fixture
def some(kills: Kills, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., EngineSet]]:
    """Engines that are plain sleepers, and nobody else's children."""
    sleepers: list[subprocess.Popen[bytes]] = []
    pages = Pages()

    def find_ended() -> int | None:
        return next((each.pid for each in sleepers if each.returncode is None and _has_ended(each)), None)

    monkeypatch.setattr(engines, "find_ended_child", find_ended)

    def start(count: int) -> EngineSet:
        found = EngineSet()
        for number in range(count):
            sleepers.append(subprocess.Popen(["sleep", "60"], start_new_session=True))
            _, page = pages.take()
            found.add(EngineOrder(number=number, connection={}, log=str(tmp_path / "log")), sleepers[-1].pid, page)
        return found

    yield start

    for sleeper in sleepers:
        if sleeper.returncode is None:
            sleeper.kill()
            sleeper.wait()


def _has_ended(sleeper: subprocess.Popen[bytes]) -> bool:
    try:
        if os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
    except ChildProcessError:
        sleeper.returncode = 0
        return False
    return True


def end(found: EngineSet, number: int, signum: int = signal.SIGKILL) -> Death:
    os.kill(found.report(memory=False)[number].pid, signum)
    return wait_for_death(found)


def wait_for_death(found: EngineSet) -> Death:
    deadline = time.monotonic() + 10
    while not (deaths := list(found.reap())):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (death,) = deaths
    # Popen's own books: it is reaped.
    return death


@pytest.mark.live
def test_a_kill_while_the_system_kills_for_memory_is_its_own(some: Callable[..., EngineSet], kills: Kills) -> None:
    found = some(1)
    kills.count = 6

    assert end(found, 0).out_of_memory


@pytest.mark.live
def test_all_that_die_of_one_shortage_are_its_victims(some: Callable[..., EngineSet], kills: Kills) -> None:
    found = some(2)
    kills.count = 7

    assert [end(found, 0).out_of_memory, end(found, 0).out_of_memory] == [True, True]


@pytest.mark.live
def test_a_look_between_the_kill_and_the_death_hides_nothing(some: Callable[..., EngineSet], kills: Kills) -> None:
    found = some(1)
    kills.count = 6
    found.watch(1.0)
    found.watch(2.0)

    assert end(found, 0).out_of_memory


@pytest.mark.live
def test_a_shortage_long_ago_has_killed_nobody_now(
    some: Callable[..., EngineSet], kills: Kills, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_STARVING", 0.05)
    found = some(1)
    kills.count = 6
    found.watch(1.0)
    time.sleep(0.1)

    assert not end(found, 0).out_of_memory


@pytest.mark.live
@pytest.mark.parametrize(
    "count", [pytest.param(5, id="no more kills"), pytest.param(None, id="the system does not tell")]
)
def test_a_kill_without_a_shortage_is_someones(some: Callable[..., EngineSet], kills: Kills, count: int | None) -> None:
    found = some(1)
    kills.count = count

    assert not end(found, 0).out_of_memory


@pytest.mark.live
def test_another_end_in_a_shortage_has_another_cause(some: Callable[..., EngineSet], kills: Kills) -> None:
    found = some(2)
    kills.count = 6

    assert not end(found, 0, signal.SIGTERM).out_of_memory
    found.signal(1, signal.SIGKILL)
    assert not wait_for_death(found).out_of_memory


def stopped(found: EngineSet) -> None:
    pid = found.report(memory=False)[0].pid
    os.kill(pid, signal.SIGSTOP)
    while found.report(memory=False)[0].state != "T":
        time.sleep(0.01)


@pytest.mark.live
@pytest.mark.parametrize(
    ("looks", "frozen"),
    [
        pytest.param([(10.0, False), (14.9, False)], False, id="not for long enough"),
        pytest.param([(10.0, False), (15.0, False)], True, id="for too long"),
        pytest.param([(10.0, False), (15.0, True)], False, id="who was away itself has not seen it"),
        pytest.param([(10.0, False), (15.0, True), (19.9, False)], False, id="it counts anew"),
        pytest.param([(10.0, False), (15.0, True), (20.0, False)], True, id="and for too long after that"),
    ],
)
def test_a_frozen_engine_is_killed_when_it_was_seen_so_for_long_enough(
    some: Callable[..., EngineSet], looks: list[tuple[float, bool]], frozen: bool
) -> None:
    found = some(1)
    stopped(found)

    for clock, was_away in looks:
        found.watch(clock, was_away=was_away)

    if frozen:
        assert wait_for_death(found).frozen
    else:
        time.sleep(0.05)
        assert list(found.reap()) == []


@pytest.mark.live
def test_an_engine_that_goes_on_again_was_never_frozen(some: Callable[..., EngineSet]) -> None:
    found = some(1)
    stopped(found)
    found.watch(10.0)
    os.kill(found.report(memory=False)[0].pid, signal.SIGCONT)
    while found.report(memory=False)[0].state == "T":
        time.sleep(0.01)
    found.watch(12.0)
    stopped(found)

    found.watch(15.0)
    found.watch(19.9)

    assert list(found.reap()) == []


def test_a_number_that_nobody_has_gets_no_signal() -> None:
    found = EngineSet()

    assert found.signal(5, signal.SIGKILL) is False
    assert found.is_idle
    assert found.next_deadline() is None
    assert found.report(memory=True) == []


def order(**values: Any) -> EngineOrder:
    return EngineOrder(**{"number": 0, "connection": {}, "log": "/dev/null", **values})


def test_what_stands_against_an_engine_is_told(tmp_path: Path) -> None:
    found = EngineSet()

    problems = [
        found.find_problem(order(log=str(tmp_path / "log"))),
        found.find_problem(order(work_dir=str(tmp_path / "none"))),
        found.find_problem(order(log=str(tmp_path / "none" / "log"))),
    ]

    assert problems == [
        "",
        f"no such directory: {tmp_path}/none",
        f"its log cannot be written: {tmp_path}/none/log: No such file or directory",
    ]
    assert oct((tmp_path / "log").stat().st_mode & 0o777) == "0o600"
