from __future__ import annotations

import bisect
import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.compute.batching import (
    DEPTH,
    FEED,
    GROWTH,
    LEAP,
    MAX_BYTES,
    MESSAGE,
    STRETCH,
    TARGET,
    Pace,
    size_batch,
)

HOP = 0.001
"""Seconds from client to scheduler, scheduler to engine, and back: four hops are a round trip."""

CLIENT_BUSY = ENGINE_BUSY = 0.001
"""Seconds of processor time that a message costs at the client, one after the other, and at its engine."""


@dataclass(kw_only=True)
class Simulation:
    """A client, a scheduler that gives each free engine one batch (hwm 1), and engines, in simulated time."""

    sums: Sequence[float]
    """Seconds on an engine of speed 1 of the first 0, 1, 2, ... items."""

    speeds: Sequence[float]
    counted: bool = True
    """Whether the client knows how many items there are."""

    scale: float = 1.0
    makespan: float = 0.0
    items: int = 0
    sizes: list[int] = field(default_factory=list)
    most_flying: int = 0

    def run(self) -> Simulation:
        """Run the map to its end."""
        ticket = itertools.count()
        events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        pace, arrived, waiting = Pace(), deque[tuple[int, float]](), deque[tuple[int, int, float]]()
        free = deque(range(len(self.speeds)))
        total = len(self.sums) - 1
        sent = flying = 0
        again = deque[tuple[int, int]]()
        asleep = False

        def later(when: float, act: Callable[..., None], *args: object) -> None:
            heapq.heappush(events, (when, next(ticket), act, args))

        def client(now: float) -> None:
            nonlocal sent, flying, asleep
            while arrived:
                count, seconds = arrived.popleft()
                pace.note(count=count, seconds=seconds)
                flying -= 1
                self.makespan = now
            unread = total - sent
            known = unread + sum(end - start for start, end in again) if self.counted or not unread else None
            size, limit = size_batch(pace, left=known, engines=len(self.speeds), flying=flying)
            asleep = not size
            if asleep:
                return
            start, end = again.popleft() if again else (sent, total)
            if start + size < end and start < sent:
                again.appendleft((start + size, end))
            end = min(start + size, end)
            sent = max(sent, end)
            self.sizes.append(end - start)
            flying += 1
            self.most_flying = max(self.most_flying, flying)
            later(now + CLIENT_BUSY + HOP, accept, start, end, limit)
            later(now + CLIENT_BUSY, client)

        def accept(now: float, start: int, end: int, limit: float) -> None:
            waiting.append((start, end, limit))
            assign(now)

        def assign(now: float) -> None:
            while waiting and free:
                start, end, limit = waiting.popleft()
                engine = free.popleft()
                rate = self.scale / self.speeds[engine]
                done = bisect.bisect_left(self.sums, self.sums[start] + limit / rate, start + 1, end)
                seconds = (self.sums[done] - self.sums[start]) * rate
                later(now + HOP + ENGINE_BUSY + seconds + HOP, release, engine, (start, done, end), seconds)

        def release(now: float, engine: int, batch: tuple[int, int, int], seconds: float) -> None:
            free.append(engine)
            assign(now)
            later(now + HOP, come_home, batch, seconds)

        def come_home(now: float, batch: tuple[int, int, int], seconds: float) -> None:
            start, done, end = batch
            arrived.append((done - start, seconds))
            self.items += done - start
            if done < end:
                again.append((done, end))
            if asleep:
                client(now)

        later(0.0, client)
        while events:
            now, _, act, args = heapq.heappop(events)
            act(now, *args)
        assert self.items == total
        assert not flying
        return self


IDEAL = 15.0
"""Seconds that a map would take if nothing were lost on messages, waiting, and the end."""

COSTS: dict[str, Callable[[int, random.Random], list[float]]] = {
    "constant": lambda count, _: [1.0] * count,
    "uniform": lambda count, rng: [rng.uniform(0, 2) for _ in range(count)],
    "pareto": lambda count, rng: [rng.paretovariate(1.5) for _ in range(count)],
    "ascending": lambda count, _: [float(number) for number in range(1, count + 1)],
    "descending": lambda count, _: [float(number) for number in range(count, 0, -1)],
}

ENGINES = [1, 2, 7, 32, 256]


@cache
def _sum_costs(costs: str, count: int, seed: int = 0) -> tuple[list[float], float]:
    """Sum the costs of the first 0, 1, 2, ... items; and name the greatest."""
    each = COSTS[costs](count, random.Random(seed))
    return [0.0, *itertools.accumulate(each)], max(each)


def _choose_speeds(engines: int, *, equal: bool) -> list[float]:
    """Choose speeds from 0.5 to 2, in no order, or all 1."""
    if equal or engines == 1:
        return [1.0] * engines
    speeds = [0.5 * 4 ** (number / (engines - 1)) for number in range(engines)]
    random.Random(1).shuffle(speeds)
    return speeds


def _simulate(costs: str, count: int, speeds: list[float], *, counted: bool = True) -> tuple[Simulation, float]:
    """Simulate a map that ideally takes ``IDEAL`` seconds; and size its largest item on the slowest engine."""
    sums, largest = _sum_costs(costs, count)
    scale = IDEAL * sum(speeds) / sums[-1]
    done = Simulation(sums=sums, speeds=speeds, scale=scale, counted=counted).run()
    return done, largest * scale / min(speeds)


def _start_up(engines: int) -> float:
    """Count the seconds that are lost whatever the policy: the client's first round, and the round trip of the last."""
    return engines * CLIENT_BUSY + 4 * HOP


@pytest.mark.parametrize("items", ["few", "20000", "100000"])
@pytest.mark.parametrize("equal", [True, False], ids=["equal", "unequal"])
@pytest.mark.parametrize("engines", ENGINES)
@pytest.mark.parametrize("costs", COSTS)
def test_all_engines_end_together_soon_after_the_ideal(costs: str, engines: int, equal: bool, items: str) -> None:
    count = max(1000, 40 * engines) if items == "few" else int(items)
    slack = 1.25 if costs == "pareto" else 1.05

    done, largest = _simulate(costs, count, _choose_speeds(engines, equal=equal))

    assert done.makespan <= slack * IDEAL + largest + _start_up(engines)
    assert done.most_flying <= DEPTH * engines


@pytest.mark.parametrize("equal", [True, False], ids=["equal", "unequal"])
@pytest.mark.parametrize("engines", ENGINES)
@pytest.mark.parametrize("costs", COSTS)
def test_a_generator_costs_at_most_the_last_batches_more(costs: str, engines: int, equal: bool) -> None:
    speeds = _choose_speeds(engines, equal=equal)

    done, largest = _simulate(costs, 100_000, speeds, counted=False)

    last = DEPTH * TARGET / min(speeds)
    assert done.makespan <= 1.05 * IDEAL + largest + _start_up(engines) + last


@pytest.mark.parametrize(
    ("engines", "messages"), [(1, 25), (2, 50), (7, 120), (32, 200), (256, 550)], ids=lambda value: str(value)
)
def test_a_million_quick_items_take_few_messages(engines: int, messages: int) -> None:
    done = Simulation(sums=range(1_000_001), speeds=[1.0] * engines, scale=1e-6).run()

    assert len(done.sizes) <= messages
    assert done.items == 1_000_000


def test_batches_hold_and_shrink() -> None:
    done, _ = _simulate("constant", 100_000, [1.0] * 7)

    target = int(TARGET * 100_000 / (IDEAL * 7))
    held = [place for place, size in enumerate(done.sizes) if abs(size - target) <= 1]
    first, holding, shrinking = (
        done.sizes[: held[0]],
        done.sizes[held[0] : held[-1] + 1],
        done.sizes[held[-1] + 1 :],
    )
    assert len(first) <= 2 * 7
    assert len(holding) > 80
    assert sum(abs(size - target) <= 1 for size in holding) >= 0.9 * len(holding)
    assert shrinking[-1] < target / 4


def test_a_batch_gives_back_what_its_time_does_not_suffice_for() -> None:
    costs = [0.0001] * 5000 + [1.0] * 20

    done = Simulation(sums=[0.0, *itertools.accumulate(costs)], speeds=[1.0, 1.0]).run()

    # All of the slow ones would have gone to one engine.
    assert done.makespan < sum(costs) / 2 + 1.5


def _measure(*batches: tuple[int, float], size_bytes: int = 0) -> Pace:
    """Measure a pace from batches: items, and the seconds of each batch."""
    pace = Pace()
    for count, seconds in batches:
        pace.note(count=count, seconds=seconds, size_bytes=size_bytes * count)
    return pace


UNKNOWN = _measure()
SECONDS = _measure(*[(1, 1.0)] * 100)
MILLIS = _measure(*[(1000, 1.0)] * 100)
MICROS = _measure(*[(2**17, 0.125)] * 100)
NOTHING = _measure((10, 0.0))
BULKY = _measure(*[(1000, 0.001)] * 100, size_bytes=2**20)
HUGE = _measure(*[(1, 0.001)] * 100, size_bytes=2**30)


@pytest.mark.parametrize(
    ("pace", "left", "engines", "flying", "fixed", "size"),
    [
        pytest.param(UNKNOWN, 0, 4, 0, None, 0, id="nothing left"),
        pytest.param(MILLIS, 0, 4, 0, 10, 0, id="nothing left of fixed batches"),
        pytest.param(UNKNOWN, 100, 4, 0, None, 1, id="the first batch of few is one item"),
        pytest.param(UNKNOWN, 100, 4, 3, None, 1, id="one for each engine"),
        pytest.param(UNKNOWN, 100, 4, 4, None, 0, id="no second before the first came home"),
        pytest.param(UNKNOWN, None, 4, 0, None, 1, id="one item of a generator"),
        pytest.param(UNKNOWN, 2, 256, 1, None, 1, id="more engines than items"),
        pytest.param(MILLIS, 10**6, 4, 7, None, 1000, id="the target"),
        pytest.param(MILLIS, 6000, 4, 7, None, 750, id="half an engine's share"),
        pytest.param(MILLIS, 1500, 4, 7, None, 250, id="what is sure"),
        pytest.param(MILLIS, 10**6, 4, 8, None, 0, id="enough in flight"),
        pytest.param(MILLIS, 10**6, 4, 9, None, 0, id="an engine went"),
        pytest.param(MILLIS, 10**6, 0, 0, None, 0, id="no engines"),
        pytest.param(MILLIS, None, 4, 7, None, 500, id="the target of a generator"),
        pytest.param(MILLIS, 800, 4, 4, None, 200, id="an engine's share"),
        pytest.param(MILLIS, 20, 4, 4, None, 5, id="no less than a message is worth"),
        pytest.param(MILLIS, 3, 4, 4, None, 3, id="no more than is left"),
        pytest.param(MILLIS, 60_000, 256, 4, None, 244, id="no faster than the client can feed"),
        pytest.param(MILLIS, 1000, 256, 4, None, 31, id="the sending of the last against their running"),
        pytest.param(SECONDS, 1000, 4, 4, None, 1, id="long items go alone"),
        pytest.param(SECONDS, None, 4, 4, None, 1, id="long items of a generator go alone"),
        pytest.param(MICROS, 10**9, 4, 4, None, 2**20, id="quick items"),
        pytest.param(NOTHING, 10**9, 1, 0, None, 10 * LEAP, id="items too quick for the clock"),
        pytest.param(_measure((1, 1e-6)), 10**9, 1, 0, None, LEAP, id="never too far from the largest before"),
        pytest.param(_measure((1, 1e-6)), None, 1, 0, None, 8, id="the first growth of a generator"),
        pytest.param(
            _measure((1, 1e-6)), None, 256, 255, None, 1, id="one item does not vouch for hundreds of engines"
        ),
        pytest.param(_measure(*[(1, 1e-6)] * 512), None, 1, 0, None, 16, id="little is read ahead"),
        pytest.param(UNKNOWN, 10**6, 2, 0, None, 4096, id="the first batch of many"),
        pytest.param(BULKY, 10**9, 4, 4, None, MAX_BYTES // 2**20, id="bytes"),
        pytest.param(HUGE, 10**9, 4, 4, None, 1, id="a single item may be larger"),
        pytest.param(UNKNOWN, 100, 4, 0, 10, 10, id="fixed from the start"),
        pytest.param(UNKNOWN, 100, 4, 7, 10, 10, id="fixed, two for each engine"),
        pytest.param(UNKNOWN, 100, 4, 8, 10, 0, id="fixed, enough in flight"),
        pytest.param(SECONDS, 7, 4, 4, 10, 7, id="the last of fixed batches"),
        pytest.param(HUGE, None, 4, 4, 10, 10, id="fixed, whatever the bytes"),
    ],
)
def test_a_batch_has_its_size(
    pace: Pace, left: int | None, engines: int, flying: int, fixed: int | None, size: int
) -> None:
    assert size_batch(pace, left=left, engines=engines, flying=flying, fixed=fixed).items == size


def test_a_pace_is_unknown_before_the_first_batch_came_home() -> None:
    assert Pace().seconds_per_item is None


def test_a_pace_follows_what_came_home_last() -> None:
    pace = _measure(*[(10, 10.0)] * 100)

    before = pace.seconds_per_item
    for _ in range(16):
        pace.note(count=10, seconds=20.0)
    midway = pace.seconds_per_item
    for _ in range(16):
        pace.note(count=10, seconds=20.0)

    assert (before, midway, pace.seconds_per_item) == (1.0, 1.5, 2.0)


def test_a_clock_set_back_does_not_make_items_cheaper_than_nothing() -> None:
    assert _measure((1, -5.0), (1, 1.0)).seconds_per_item == 0.5


batches = st.lists(
    st.tuples(st.integers(1, 10**6), st.floats(0, 1e4), st.integers(0, 2**40)),
    max_size=40,
)


@given(
    batches=batches,
    left=st.none() | st.integers(0, 10**12),
    engines=st.integers(1, 1000),
    flying=st.integers(0, 3000),
    fixed=st.none() | st.integers(1, 10**6),
)
def test_a_size_keeps_its_bounds(
    batches: list[tuple[int, float, int]], left: int | None, engines: int, flying: int, fixed: int | None
) -> None:
    pace = Pace()
    for count, seconds, size_bytes in batches:
        pace.note(count=count, seconds=seconds, size_bytes=size_bytes)

    size, seconds = size_batch(pace, left=left, engines=engines, flying=flying, fixed=fixed)

    assert size >= 0
    assert left is None or size <= left
    if flying >= DEPTH * engines:
        assert size == 0
    if flying == 0 and left != 0:
        assert size >= 1
    if fixed is None and left is None:
        assert size <= max(1, GROWTH * max((count for count, _, _ in batches), default=0))
    if fixed is None and size:
        assert MESSAGE <= seconds <= STRETCH * max(TARGET, pace.seconds_per_item or 0.0, engines * FEED)
    elif size:
        assert seconds == math.inf


@given(
    each=st.lists(st.floats(0, 1e3), min_size=1, max_size=200),
    speeds=st.lists(st.floats(0.1, 10), min_size=1, max_size=20),
    counted=st.booleans(),
)
def test_every_map_comes_to_its_end(each: list[float], speeds: list[float], counted: bool) -> None:
    done = Simulation(sums=[0.0, *itertools.accumulate(each)], speeds=speeds, counted=counted).run()

    assert done.items == len(each)
    assert done.most_flying <= DEPTH * len(speeds)
