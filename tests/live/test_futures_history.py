"""Whatever is killed and stopped while calls are submitted: every future is resolved, within a stated time."""

from __future__ import annotations

import concurrent.futures
import os
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest
from test_map_history import Storm, Target

from examples import LONG
from stoker.cluster import Cluster
from stoker.errors import EngineDiedError, NoEnginesError, StokerError
from stoker.spec import parse_spec

pytestmark = pytest.mark.live

PATIENCE = 20.0
BOUND = PATIENCE + 30.0
"""Seconds within which a future is resolved after the moment from which on nobody can run its call."""
SPEC = parse_spec({"cluster": {"profile": "lab", "frozen_after": 1.0, "lease": 30.0}, "engines": [{"count": 2}]})


def work(item: int, seconds: float) -> int:
    time.sleep(seconds)
    return item * item


def add(*items: int) -> int:
    return sum(items)


def test_every_future_is_resolved_whatever_is_struck(start: Callable[..., Cluster]) -> None:
    minute = 60.0 if os.environ.get(LONG) else 8.0
    cluster = start(SPEC)
    storm = Storm(Target(cluster).strike, seed=7)
    chance = random.Random(7)
    calls: list[tuple[concurrent.futures.Future[int], int | None]] = []

    storm.start()
    end = time.monotonic() + minute
    try:
        with cluster.executor(retries=10, patience=PATIENCE) as executor:
            while time.monotonic() < end:
                # Some are sent alone, some together; some are cancelled, some wait for others.
                for _ in range(chance.choice((1, 3, 200))):
                    item = len(calls)
                    calls.append((executor.submit(work, item, chance.choice((0.0, 0.001, 0.05))), item * item))
                if chance.random() < 0.2:
                    calls[-1][0].cancel()
                    calls[-1] = (calls[-1][0], None)
                if len(calls) > 10 and chance.random() < 0.3:
                    needed = [call for call in calls[-5:] if call[1] is not None]
                    expected = sum(result or 0 for _, result in needed)
                    calls.append((executor.submit(add, *(future for future, _ in needed)), expected))
                while sum(not future.done() for future, _ in calls) > 500 and time.monotonic() < end:
                    time.sleep(0.1)
                time.sleep(chance.uniform(0.0, 0.1))
            storm.end()
            begin = time.monotonic()
            _, unresolved = concurrent.futures.wait([future for future, _ in calls], timeout=BOUND)
            seconds = time.monotonic() - begin
    finally:
        storm.end()

    outcomes = Counter(_judge(future, expected) for future, expected in calls)
    assert len(storm.blows) >= minute / 4
    assert unresolved == set(), (storm.blows, seconds)
    # Some may be given up after eleven deaths, or because an agent that is killed too often stays down for a while.
    assert outcomes.keys() <= {"right", "cancelled", "EngineDiedError", "NoEnginesError"}, outcomes
    assert outcomes["right"], outcomes


@pytest.mark.parametrize(
    "blow",
    [
        pytest.param("down", marks=pytest.mark.long),
        pytest.param("agent and supervisor", marks=pytest.mark.long),
        "close",
    ],
)
def test_every_future_is_resolved_when_nothing_comes_back(blow: str, start: Callable[..., Cluster]) -> None:
    cluster = start(SPEC)
    status = cluster.status()
    view = cluster.view
    executor = cluster.executor(patience=3.0)
    futures = [executor.submit(work, item, 0.05) for item in range(2000)]
    time.sleep(1.0)

    begin = time.monotonic()
    if blow == "close":
        view.client.close()
    elif blow == "down":
        _down(cluster)
    else:
        for pid in (status.supervisor.pid, *(agent.pid for agent in status.agents), status.controller.pid):
            os.kill(pid, 9)
    _, unresolved = concurrent.futures.wait(futures, timeout=33.0)
    seconds = time.monotonic() - begin
    executor.shutdown()

    assert unresolved == set()
    assert seconds < 33.0
    assert any(isinstance(future.exception(), StokerError) for future in futures)
    assert all(future.exception() is not None or future.result() == n * n for n, future in enumerate(futures))


def _down(cluster: Cluster) -> None:
    # As from elsewhere: this object's own would close the connection first.
    import stoker

    stoker.connect("lab").down()


def _judge(future: concurrent.futures.Future[int], expected: int | None) -> str:
    if not future.done():
        return "unresolved"
    if future.cancelled():
        return "cancelled"
    error = future.exception()
    if error is None:
        return "right" if expected is None or future.result() == expected else f"{future.result()}, not {expected}"
    return type(error).__name__ if isinstance(error, EngineDiedError | NoEnginesError) else repr(error)
