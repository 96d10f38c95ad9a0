"""A batch that hangs on one engine does not hold up its map."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stoker.cluster import Cluster
from stoker.spec import parse_spec

pytestmark = pytest.mark.live

ENGINES = 4
ITEMS = 2000
SECONDS = 0.015
"""What an item takes."""
LATE = 1600
"""From this item on, some hang."""
HANGING = 3
LONG = 60.0
SPEC = parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": ENGINES}]})


def work(directory: str, slow: int | None) -> Callable[[int], int]:
    """Make a function that hangs for three late items on one engine, whichever it gets; it notes them."""

    def run(item: int) -> int:
        if os.getpid() == slow and item >= LATE:
            with open(f"{directory}/hung", "a+") as file:  # noqa: PTH123 - on an engine
                file.seek(0)
                hangs = len(file.readlines()) < HANGING
                if hangs:
                    file.write(f"{item}\n")
            if hangs:
                time.sleep(LONG)
        time.sleep(SECONDS)
        return item * item

    return run


@pytest.mark.timeout(150)
def test_a_map_of_which_items_hang_on_one_engine_takes_little_longer(
    start: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = start(SPEC)
    slow = cluster.engines[0].pid
    expected = [item * item for item in range(ITEMS)]

    begin = time.monotonic()
    assert cluster.map(work(str(tmp_path), None), range(ITEMS)) == expected
    without = time.monotonic() - begin
    begin = time.monotonic()
    results = cluster.map(work(str(tmp_path), slow), range(ITEMS))
    seconds = time.monotonic() - begin
    hung = (tmp_path / "hung").read_text().split()
    begin = time.monotonic()
    after = cluster.map(abs, range(20))
    free = time.monotonic() - begin

    assert results == expected
    # With an engine held up it would be a minute more.
    assert seconds <= 1.3 * without + 15, (seconds, without, hung)
    # The one that lost was interrupted.
    assert after == list(range(20))
    assert free < 15
    assert slow in {engine.pid for engine in cluster.engines}


def test_stragglers_are_counted_and_the_first_result_wins(start: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = start(SPEC)
    slow = cluster.engines[0].pid
    path = str(tmp_path / "begun")

    def run(item: int) -> int:
        if os.getpid() != slow:
            time.sleep(0.01)
            return item
        with open(path, "a") as file:  # noqa: PTH123 - on an engine
            file.write(f"{item}\n")
        time.sleep(LONG)
        return -1

    results = cluster.map(run, range(200))

    assert results == list(range(200))
    assert cluster.summary is not None
    assert (cluster.summary.items, cluster.summary.deaths) == (200, 0)
    # One; but on a busy machine the engine may get what another gives back.
    assert cluster.summary.stragglers == len(Path(path).read_text().split()) >= 1
    # Those of its batch that it had not come to are sent again, too.
    assert cluster.summary.again >= cluster.summary.stragglers
    assert cluster.map(abs, [-3]) == [3]


def test_a_straggler_whose_engine_dies_is_left_to_its_twin(start: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = start(SPEC)
    slow = cluster.engines[0].pid

    def run(item: int) -> int:
        if os.getpid() == slow:
            time.sleep(2.5)
            os._exit(1)
        time.sleep(2.0 if item == 0 else 0.01)
        return item

    begin = time.monotonic()
    results = cluster.map(run, range(100), batch=1)
    seconds = time.monotonic() - begin

    assert results == list(range(100))
    assert seconds < 15


@pytest.mark.long
def test_functions_with_side_effects_run_once(start: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = start(SPEC)
    slow = cluster.engines[0].pid
    path = str(tmp_path / "begun")

    def run(item: int) -> int:
        with open(path, "a") as file:  # noqa: PTH123 - on an engine
            file.write(f"{item}\n")
        time.sleep(3.0 if os.getpid() == slow else 0.01)
        return item

    results = cluster.map(run, range(50), stragglers=False, batch=1)
    with cluster.executor() as executor:
        futures = [executor.submit(run, item) for item in range(50, 100)]

    assert results == list(range(50))
    assert [future.result() for future in futures] == list(range(50, 100))
    assert sorted(map(int, Path(path).read_text().split())) == list(range(100))
