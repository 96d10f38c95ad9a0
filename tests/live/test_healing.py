"""A cluster whose processes are killed and stopped at random goes on, and tells who died of what."""

from __future__ import annotations

import collections
import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field
from typing import Any

import ipyparallel
import pytest

from stoker.cluster import Cluster, ClusterStatus
from stoker.cluster.attach import ask_cluster
from stoker.cluster.client import catch_up
from stoker.compute import portable
from stoker.spec import parse_spec
from stoker.system.processes import list_children

pytestmark = pytest.mark.live

ENGINES = 2
BLOW_EVERY = 1.0
BACK_WITHIN = 5.0
"""Seconds after the last blow within which every engine answers."""
LOST_AFTER = 10.0
"""Seconds after which a task that has not come home is sent once more: five of them are ipyparallel's own."""
SPEC = parse_spec({"cluster": {"profile": "lab", "frozen_after": 1.0, "lease": 30.0}, "engines": [{"count": ENGINES}]})
SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGSTOP)


def work(item: int) -> int:
    import time

    time.sleep(0.02)
    return item * item


@dataclass
class Blow:
    """One process that got a signal."""

    victim: str
    pid: int
    signum: signal.Signals
    owner: int
    """The process whose death is told: of a scheduler, the hub."""


@dataclass
class Map:
    """A load-balanced map that sends again what was lost, in turns of its owner's."""

    view: Any
    results: dict[int, int] = field(default_factory=dict)
    doubles: int = 0
    flying: dict[Any, tuple[int, float]] = field(default_factory=dict)
    next: int = 0

    def turn(self, *, more: bool) -> None:
        while more and len(self.flying) < 2 * ENGINES:
            self._send(self.next)
            self.next += 1
        done, _ = wait(list(self.flying), timeout=0.05, return_when=FIRST_COMPLETED)
        for result in done:
            item, _ = self.flying.pop(result)
            try:
                value = result.result()
            except ipyparallel.RemoteError as error:
                # The engine died, the controller died, the engine was told to end.
                if error.ename not in ("EngineError", "EngineStopped"):
                    raise
                self._send(item)
            else:
                self.doubles += item in self.results
                self.results[item] = value
        for result, (item, since) in list(self.flying.items()):
            if time.monotonic() - since > LOST_AFTER:
                del self.flying[result]
                self._send(item)

    def _send(self, item: int) -> None:
        self.flying[self.view.apply_async(portable(work), item)] = (item, time.monotonic())


def strike(status: ClusterStatus, chance: random.Random) -> Blow | None:
    victim = chance.choice(("engine", "agent", "hub", "scheduler"))
    signum = chance.choice(SIGNALS)
    assert status.controller is not None
    hub = status.controller.pid
    match victim:
        case "engine":
            owner = pid = chance.choice(status.engines).pid
        case "agent":
            owner = pid = status.agents[0].pid
        case "hub":
            owner = pid = hub
        case _:
            children = list_children(hub) if hub is not None else ()
            owner, pid = hub, chance.choice(children) if children else None
    if pid is None or owner is None:
        return None
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return None
    return Blow(victim=victim, pid=pid, signum=signum, owner=owner)


def answers(cluster: Cluster, count: int) -> bool:
    client = cluster.client
    if len(client.ids) < count:
        return False
    result = client[:].apply_async(os.getpid)
    return bool(result.wait(1.0)) and result.successful() and len(set(result.get())) == count


def read_events(cluster: Cluster) -> list[dict[str, Any]]:
    return list(ask_cluster(cluster._address, "status", timeout=10)["events"])


def living(status: ClusterStatus) -> set[int]:
    found = [status.supervisor, status.controller, *status.agents, *status.engines]
    return {each.pid for each in found if each is not None and each.pid is not None}


@pytest.fixture
def storm(start: Callable[..., Cluster]) -> Cluster:
    return start(SPEC)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("seed", "seconds"),
    [
        pytest.param(1, 10.0, id="10 s"),
        *(pytest.param(seed, 60.0, id=f"60 s, {seed}", marks=pytest.mark.long) for seed in range(2, 7)),
    ],
)
def test_a_map_under_fire_loses_nothing_and_every_death_is_told(
    seed: int,
    seconds: float,
    storm: Cluster,
    processes: Callable[[], list[str]],
    wait_until: Callable[..., Any],
) -> None:
    chance = random.Random(seed)
    tasks = Map(view=storm.view)
    blows: list[Blow] = []
    end = time.monotonic() + seconds

    while time.monotonic() < end:
        blow = strike(storm.status(), chance)
        if blow is not None:
            blows.append(blow)
        next_blow = time.monotonic() + BLOW_EVERY
        while time.monotonic() < next_blow:
            tasks.turn(more=True)
    last = time.monotonic()
    wait_until(lambda: answers(storm, ENGINES), timeout=60, message="the engines did not come back")
    back = time.monotonic() - last
    deadline = time.monotonic() + 60
    while tasks.flying and time.monotonic() < deadline:
        tasks.turn(more=False)
    # What the last blow has killed is told when all is back.
    status = wait_until(lambda: (found := storm.status()).state == "running" and found, timeout=30)
    events = read_events(storm)
    storm.down()

    assert tasks.flying == {}
    assert tasks.results == {item: item * item for item in range(tasks.next)}
    assert tasks.next > 100
    assert back < BACK_WITHIN, f"back after {back:.1f} s; {blows}"
    told = {event["pid"] for event in events if event["death"]}
    fatal = [blow for blow in blows if blow.owner not in living(status)]
    assert [blow for blow in fatal if blow.owner not in told] == []
    assert len(fatal) > seconds / 4
    assert processes() == []


CAUSES = {
    signal.SIGKILL: "died of SIGKILL",
    signal.SIGSEGV: "died of SIGSEGV",
    signal.SIGTERM: "died of exit status 0",
    signal.SIGSTOP: "died of SIGKILL (it was frozen)",
}


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda signum: signum.name)
def test_an_engine_comes_back_under_its_number_whatever_it_died_of(
    signum: signal.Signals, start: Callable[..., Cluster], wait_until: Callable[..., Any]
) -> None:
    cluster = start(SPEC)
    before = cluster.client[:].apply_async(os.getpid).get(10)
    view = cluster.client[0]

    os.kill(before[0], signum)
    begin = time.monotonic()
    wait_until(lambda: (found := cluster.status().engines[0]).pid not in (None, before[0]) and found.state == "ready")
    seconds = time.monotonic() - begin
    catch_up(cluster.client)  # the supervisor knew first
    wait_until(lambda: 0 in cluster.client.ids)
    after = view.apply_async(os.getpid).get(5)
    status, events = cluster.status(), read_events(cluster)

    assert after not in before
    assert cluster.client[1].apply_async(os.getpid).get(5) == before[1]
    assert seconds < (6.0 if signum == signal.SIGSTOP else 5.0)
    assert (status.engines[0].restarts, status.engines[1].restarts) == (1, 0)
    assert status.engines[0].last_death is not None
    assert status.engines[0].last_death.cause == CAUSES[signum]
    assert collections.Counter(event["who"] for event in events) == {"engine 0": 1}


def test_a_busy_engine_is_left_alone_and_a_new_one_has_what_was_set_up(
    start: Callable[..., Cluster], wait_until: Callable[..., Any]
) -> None:
    spec = SPEC.model_copy(
        update={"engines": (SPEC.engines[0].model_copy(update={"startup": "import math; answer = 40 + 2"}),)}
    )
    cluster = start(spec)
    cluster.on_every_engine(imports=["json as j"], names={"pushed": 7}, cloudpickle=True)
    busy = cluster.client[1].apply_async(time.sleep, 4)

    pid = cluster.client[0].apply_async(os.getpid).get(10)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: (found := cluster.status().engines[0]).pid not in (None, pid) and found.state == "ready")
    catch_up(cluster.client)
    cluster.client[0].execute("found = (answer, pushed, j.dumps(1), math.pi > 3)", block=True)

    assert cluster.client[0].pull("found", block=True) == (42, 7, "1", True)
    assert busy.get(20) is None
    assert [engine.restarts for engine in cluster.status().engines] == [1, 0]


def test_an_engine_that_dies_again_and_again_before_it_is_ready_stays_down_and_the_cause_is_told(
    start: Callable[..., Cluster], wait_until: Callable[..., Any], tmp_path: Any
) -> None:
    poison = tmp_path / "poison"
    code = f"import os; os.path.exists({str(poison)!r}) and 1 / 0"
    spec = SPEC.model_copy(update={"engines": (SPEC.engines[0].model_copy(update={"startup": code}),)})
    cluster = start(spec)
    poison.touch()

    os.kill(cluster.client[0].apply_async(os.getpid).get(10), signal.SIGKILL)
    given_up = wait_until(lambda: (found := cluster.status()).engines[0].given_up and found, timeout=40)
    poison.unlink()
    restarted = cluster.restart(engine=0)
    after = cluster.status()

    assert given_up.state == "degraded"
    assert given_up.engines[0].given_up == "exit status 1"
    assert "ZeroDivisionError: division by zero" in "".join(given_up.engines[0].last_death.last_lines)
    assert given_up.engines[1].state == "ready"
    assert restarted == ["engine 0"]
    assert (after.state, after.engines[0].given_up) == ("running", "")
