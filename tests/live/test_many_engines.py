"""Many engines on one host: all of them come, in the memory that they may take, and are gone at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from stoker.cluster import Cluster
from stoker.spec import parse_spec

pytestmark = pytest.mark.live

MEMORY = 35_000_000
"""Bytes (PSS) that an engine may take, the agent's share included."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [pytest.param(24, id="24"), pytest.param(100, id="100", marks=pytest.mark.long)])
def test_all_engines_register_and_answer_under_their_numbers(
    count: int, start: Callable[..., Cluster], processes: Callable[[], list[str]]
) -> None:
    spec = parse_spec({"cluster": {"profile": "lab", "start_timeout": 120.0}, "engines": [{"count": count}]})
    cluster = start(spec)

    pids = cluster.client[:].apply_async(os.getpid).get(60)
    status = cluster.status()
    memory = sum(each.memory or 0 for each in (*status.engines, *status.agents)) / count
    begin = time.monotonic()
    stopped = cluster.down()
    seconds = time.monotonic() - begin

    assert len(set(pids)) == count
    assert [engine.number for engine in status.engines] == list(range(count))
    assert {engine.state for engine in status.engines} == {"ready"}
    assert len({engine.pid for engine in status.engines}) == count
    assert [engine.restarts for engine in status.engines] == [0] * count
    assert memory < MEMORY
    assert stopped.killed == 0
    # 16 take 0.4 s where nothing else runs.
    assert seconds < 10 + count / 10
    assert processes() == []


def test_what_is_scaled_down_leaves_its_tasks_to_the_others(
    start: Callable[..., Cluster], wait_until: Callable[..., Any]
) -> None:
    cluster = start(parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": 4}]}))
    view = cluster.view
    busy = cluster.client[0].apply_async(time.sleep, 3)
    wait_until(lambda: cluster.status().engines[0].busy > 0)
    tasks = [view.apply_async(pow, number, 2) for number in range(300)]

    scaled = cluster.scale(1)
    results = [task.get(30) for task in tasks]
    done = busy.get(30)
    wait_until(lambda: len(cluster.client.ids) == 1)
    status = wait_until(lambda: (found := cluster.status()).engines and len(found.engines) == 1 and found)

    # Idle ones leave first, then the highest numbers; which of 1 to 3 is at a task in that moment, nobody knows.
    assert {**scaled, "leaving": sorted(scaled["leaving"])} == {"added": [], "leaving": [1, 2, 3], "wanted": 1}
    assert results == [number**2 for number in range(300)]
    assert done is None
    assert [engine.number for engine in status.engines] == [0]
    assert sum(engine.restarts for engine in status.engines) == 0
    assert sorted(status.events) == [f"engine {number} left, as it was told" for number in (1, 2, 3)]


def test_a_busy_engine_that_is_to_leave_finishes_its_task(
    start: Callable[..., Cluster], wait_until: Callable[..., Any]
) -> None:
    cluster = start(parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": 2}]}))
    tasks = [cluster.client[number].apply_async(time.sleep, 2.5) for number in range(2)]
    wait_until(lambda: all(engine.busy > 0 for engine in cluster.status().engines))

    scaled = cluster.scale(0)
    leaving = cluster.status()
    results = [task.get(30) for task in tasks]
    wait_until(lambda: cluster.client.ids == [])

    assert scaled == {"added": [], "leaving": [1, 0], "wanted": 0}
    assert {engine.state for engine in leaving.engines} == {"draining"}
    assert results == [None, None]
