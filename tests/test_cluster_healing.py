"""The healing decision: each rule with time as an argument, and whatever may happen, in any order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from math import nextafter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from examples import LONG, examples
from stoker.cluster.healing import (
    Action,
    Decision,
    DrainEngine,
    ForgetEngine,
    GiveUpAgent,
    GiveUpController,
    GiveUpEngine,
    StartAgent,
    StartController,
    StartEngine,
    StopAgent,
    StopController,
    StopEngine,
    choose_numbers,
    choose_to_leave,
    decide,
    note_action,
)
from stoker.cluster.lives import (
    AgentState,
    ControllerState,
    Death,
    EngineState,
    Life,
    Phase,
    Policies,
    RestartPolicy,
    Seen,
    Slot,
    Wanted,
    lose_agent,
    lose_engine,
    note_death,
    note_known,
    note_ready,
    note_restart,
    note_started,
    should_lower,
)

POLICY = RestartPolicy()
ONE = Wanted(slots=(Slot(number=0, agent="a"),))
TWO = Wanted(slots=(Slot(number=0, agent="a"), Slot(number=1, agent="a")))
EARLY = Death(status=1)
SEGV = Death(status=-11, ready=True, tasks_done=3, seconds=60.0)

CONTROLLER = ControllerState(phase="ready", started_at=-101.0, ready_at=-100.0, starts=1)
AGENT = AgentState(id="a", phase="ready", started_at=-101.0, ready_at=-100.0, starts=1)
READY = EngineState(number=0, agent="a", phase="ready", started_at=-91.0, ready_at=-90.0, starts=1)
STARTING = replace(READY, phase="starting", started_at=0.0, ready_at=None)
ABSENT = replace(READY, phase="absent", started_at=None, ready_at=None)


def _seen(
    *engines: EngineState, controller: ControllerState = CONTROLLER, agents: Iterable[AgentState] = (AGENT,)
) -> Seen:
    return Seen(
        controller=controller,
        agents={agent.id: agent for agent in agents},
        engines={engine.number: engine for engine in engines},
    )


@pytest.mark.parametrize(
    ("wanted", "seen", "now", "decision"),
    [
        pytest.param(
            TWO,
            Seen(),
            0.0,
            Decision(actions=(StartController(), StartAgent(id="a")), wake=60.0),
            id="first of all controller and agent, side by side",
        ),
        pytest.param(
            Wanted(), Seen(), 0.0, Decision(actions=(StartController(),), wake=60.0), id="no engine: no agent"
        ),
        pytest.param(
            TWO,
            _seen(),
            0.0,
            Decision(
                actions=(StartEngine(number=0, agent="a"), StartEngine(number=1, agent="a")),
                wake=60.0,
            ),
            id="then the engines",
        ),
        pytest.param(
            TWO,
            _seen(controller=note_started(ControllerState(), 0.0)),
            0.0,
            Decision(wake=60.0),
            id="no engine without a controller",
        ),
        pytest.param(
            TWO,
            _seen(agents=[note_started(AgentState(id="a"), 0.0)]),
            0.0,
            Decision(wake=60.0),
            id="no engine without its agent",
        ),
        pytest.param(TWO, _seen(READY, replace(READY, number=1)), 0.0, Decision(), id="all is well"),
        pytest.param(
            TWO,
            _seen(READY),
            0.0,
            Decision(actions=(StartEngine(number=1, agent="a"),), wake=60.0),
            id="the missing one under its own number",
        ),
        pytest.param(ONE, _seen(STARTING), 59.9, Decision(wake=60.0), id="a start takes its time"),
        pytest.param(
            ONE,
            _seen(STARTING),
            60.0,
            Decision(actions=(StopEngine(number=0, why="start timeout", kill=True),)),
            id="but not for ever",
        ),
        pytest.param(
            ONE,
            _seen(STARTING, controller=replace(CONTROLLER, ready_at=30.0)),
            60.0,
            Decision(wake=90.0),
            id="counted from when there was a controller",
        ),
        pytest.param(
            ONE,
            _seen(STARTING, controller=ControllerState(phase="starting", started_at=50.0)),
            100.0,
            Decision(wake=110.0),
            id="and not while there is none",
        ),
        pytest.param(
            ONE,
            _seen(READY, controller=ControllerState(phase="starting", started_at=0.0)),
            60.0,
            Decision(actions=(StopController(why="start timeout"),)),
            id="the controller's start neither",
        ),
        pytest.param(
            ONE,
            _seen(agents=[AgentState(id="a", phase="starting", started_at=0.0)]),
            60.0,
            Decision(actions=(StopAgent(id="a", why="start timeout"),)),
            id="nor an agent's",
        ),
        pytest.param(
            ONE,
            _seen(replace(READY, known=False)),
            0.0,
            Decision(actions=(StopEngine(number=0, why="dropped", kill=True),)),
            id="dropped by the hub: killed",
        ),
        pytest.param(
            ONE,
            _seen(replace(READY, known=False), controller=replace(CONTROLLER, ready_at=-3.0)),
            0.0,
            Decision(wake=2.0),
            id="not by one that has only just come back",
        ),
        pytest.param(
            ONE,
            _seen(replace(READY, known=False), controller=replace(CONTROLLER, phase="starting", started_at=-3.0)),
            0.0,
            Decision(wake=57.0),
            id="nor by one that is away",
        ),
        pytest.param(
            ONE,
            _seen(replace(STARTING, known=False)),
            1.0,
            Decision(wake=60.0),
            id="before it is ready nobody needs to know it",
        ),
        pytest.param(
            ONE,
            _seen(READY, replace(READY, number=1)),
            0.0,
            Decision(actions=(DrainEngine(number=1),)),
            id="too many: drained",
        ),
        pytest.param(
            ONE,
            _seen(READY, replace(STARTING, number=1)),
            0.0,
            Decision(actions=(StopEngine(number=1, why="unwanted", kill=False),)),
            id="too many, not ready yet: stopped",
        ),
        pytest.param(
            ONE,
            _seen(READY, replace(ABSENT, number=1, given_up=True)),
            0.0,
            Decision(actions=(ForgetEngine(number=1),)),
            id="gone and not wanted: forgotten",
        ),
        pytest.param(
            ONE,
            _seen(READY, replace(READY, number=1, phase="draining", known=False)),
            0.0,
            Decision(),
            id="unknown while it drains: it has told the hub itself",
        ),
        pytest.param(ONE, _seen(replace(READY, phase="draining")), 0.0, Decision(), id="wanted again: its end first"),
        pytest.param(ONE, _seen(replace(READY, phase="stopping", why="restart")), 0.0, Decision(), id="stops already"),
        pytest.param(
            Wanted(slots=(Slot(number=0, agent="b"),)),
            _seen(READY, agents=[AGENT, replace(AGENT, id="b")]),
            0.0,
            Decision(actions=(DrainEngine(number=0),)),
            id="wanted on another host: its end here first",
        ),
        pytest.param(
            Wanted(slots=(Slot(number=0, agent="b"),)),
            _seen(ABSENT, agents=[AGENT, replace(AGENT, id="b")]),
            0.0,
            Decision(actions=(StartEngine(number=0, agent="b"),), wake=60.0),
            id="then started there",
        ),
        pytest.param(ONE, _seen(replace(ABSENT, row=2, next_start=2.0)), 1.5, Decision(wake=2.0), id="pauses"),
        pytest.param(
            ONE,
            _seen(replace(ABSENT, row=2, next_start=2.0)),
            2.0,
            Decision(actions=(StartEngine(number=0, agent="a"),), wake=62.0),
            id="and goes on",
        ),
        pytest.param(
            ONE,
            _seen(replace(ABSENT, row=5, last_death=EARLY)),
            0.0,
            Decision(actions=(GiveUpEngine(number=0, cause="exit status 1"),)),
            id="given up",
        ),
        pytest.param(ONE, _seen(replace(ABSENT, row=5, given_up=True)), 1e6, Decision(), id="for good"),
        pytest.param(
            ONE,
            Seen(
                controller=ControllerState(row=20, last_death=EARLY),
                agents={"a": AgentState(id="a", row=20, last_death=EARLY)},
            ),
            0.0,
            Decision(
                actions=(GiveUpController(cause="exit status 1"), GiveUpAgent(id="a", cause="exit status 1")),
            ),
            id="controller and agent given up",
        ),
        pytest.param(
            ONE,
            _seen(replace(READY, restart=True)),
            0.0,
            Decision(actions=(StopEngine(number=0, why="restart", kill=False),)),
            id="restart of an engine",
        ),
        pytest.param(
            ONE,
            _seen(READY, controller=replace(CONTROLLER, restart=True), agents=[replace(AGENT, restart=True)]),
            0.0,
            Decision(actions=(StopController(why="restart"), StopAgent(id="a", why="restart"))),
            id="restart of controller and agent",
        ),
        pytest.param(
            replace(ONE, controller=False),
            _seen(ABSENT, replace(READY, number=1), controller=ControllerState()),
            0.0,
            Decision(),
            id="nothing while the cluster is being ended",
        ),
    ],
)
def test_what_is_done_about_the_difference(wanted: Wanted, seen: Seen, now: float, decision: Decision) -> None:
    assert decide(wanted, seen, now) == decision


@pytest.mark.parametrize(
    ("state", "death", "now", "row"),
    [
        pytest.param(STARTING, EARLY, 1.0, 3, id="before it was ready"),
        pytest.param(STARTING, replace(EARLY, seconds=50.0), 50.0, 3, id="before it was ready, however long that took"),
        pytest.param(READY, Death(status=-9, ready=True), -85.1, 3, id="soon after, without a task"),
        pytest.param(READY, Death(status=-9, ready=True), -85.0, 0, id="later, without a task"),
        pytest.param(READY, Death(status=-9, ready=True, tasks_done=1), -89.9, 0, id="soon, with a task finished"),
        pytest.param(READY, Death(status=-11, ready=True, working=True), -89.9, 0, id="soon, in the middle of a task"),
        pytest.param(READY, Death(status=-9, ready=True, frozen=True), -89.9, 0, id="frozen"),
        pytest.param(STARTING, Death(status=-9, frozen=True), 1.0, 3, id="frozen before it was ready"),
        pytest.param(STARTING, Death(status=-9, ready=True, seconds=4.0), 4.0, 3, id="ready, as only its agent knew"),
        pytest.param(STARTING, Death(status=-9, ready=True, seconds=6.0), 6.0, 0, id="later, as only its agent knew"),
        pytest.param(READY, Death(with_agent=True, ready=True), -89.9, 2, id="its agent's death"),
        pytest.param(STARTING, Death(with_agent=True), 1.0, 2, id="its agent's death, not ready"),
        pytest.param(STARTING, Death(status=1, with_controller=True), 1.0, 2, id="no controller to register with"),
        pytest.param(
            replace(STARTING, phase="stopping", why="start timeout"),
            Death(status=-9, ordered=True),
            60.0,
            3,
            id="stopped for its slow start",
        ),
        pytest.param(
            replace(READY, phase="stopping", why="dropped"),
            Death(status=-9, ordered=True, ready=True),
            0.0,
            0,
            id="killed because the hub had dropped it",
        ),
        pytest.param(
            replace(READY, phase="stopping", why="dropped"),
            Death(status=-9, ordered=True, ready=True),
            -89.0,
            3,
            id="dropped as soon as it was ready",
        ),
        pytest.param(
            replace(STARTING, phase="stopping", why="restart"), Death(status=0, ordered=True), 1.0, 0, id="restart"
        ),
        pytest.param(replace(STARTING, restart=True), EARLY, 1.0, 0, id="dead before its restart began"),
        pytest.param(
            replace(STARTING, phase="stopping", why="unwanted"), Death(status=0, ordered=True), 1.0, 0, id="unwanted"
        ),
        pytest.param(
            replace(READY, phase="draining"), Death(status=0, ordered=True, ready=True), -89.9, 0, id="drained"
        ),
        pytest.param(READY, Death(status=0, ordered=True, ready=True), -89.9, 0, id="a client's order"),
    ],
)
def test_which_deaths_count_as_early(state: EngineState, death: Death, now: float, row: int) -> None:
    after = note_death(replace(state, row=2), death, now, POLICY)

    assert after == replace(
        state,
        phase="absent",
        started_at=None,
        ready_at=None,
        row=row,
        next_start=now + 1.0 if row == 3 else None,
        restart=False,
        last_death=death,
    )


def test_an_engine_that_dies_at_work_is_back_at_once_however_often() -> None:
    seen = _seen(READY)
    for now in range(100):
        seen = lose_engine(seen, 0, SEGV, now)
        (action,) = decide(ONE, seen, now).actions
        assert action == StartEngine(number=0, agent="a")
        seen = note_action(seen, action, now)
        seen = seen.having(note_ready(seen.engines[0], now + 0.1))

    assert seen.engines[0] == replace(READY, started_at=99, ready_at=99.1, starts=101, last_death=SEGV)


def test_a_crash_loop_pauses_longer_and_longer_and_stops() -> None:
    seen, now, log = _seen(), 0.0, []
    while True:
        decision = decide(ONE, seen, now)
        for action in decision.actions:
            log.append((now, action))
            seen = note_action(seen, action, now)
        if decision.wake is None:
            break
        if seen.engines[0].phase == "starting":
            seen = lose_engine(seen, 0, EARLY, now)
        else:
            now = decision.wake

    start = StartEngine(number=0, agent="a")
    give_up = GiveUpEngine(number=0, cause="exit status 1")
    assert log == [(0.0, start), (0.0, start), (0.5, start), (1.5, start), (3.5, start), (3.5, give_up)]
    seen = seen.having(note_restart(seen.engines[0]))
    assert decide(ONE, seen, now).actions == (start,)


def test_a_start_timeout_is_the_cause_that_is_reported() -> None:
    stopped = replace(STARTING, row=4, phase="stopping", why="start timeout")
    seen = lose_engine(_seen(stopped), 0, Death(status=-9, ordered=True), 60.0)

    assert decide(ONE, seen, 60.0).actions == (GiveUpEngine(number=0, cause="not ready after 60 s"),)


@pytest.mark.parametrize(
    ("death", "cause"),
    [
        pytest.param(Death(status=3), "exit status 3", id="status"),
        pytest.param(Death(status=-11), "SIGSEGV", id="signal"),
        pytest.param(Death(status=-99), "signal 99", id="signal without a name"),
        pytest.param(Death(), "an unknown cause", id="unknown"),
        pytest.param(Death(status=-9, frozen=True), "SIGKILL (it was frozen)", id="frozen"),
        pytest.param(Death(with_agent=True), "the death of its agent", id="with its agent"),
        pytest.param(
            Death(status=-9, out_of_memory=True, peak=23_800_000_000),
            "SIGKILL (out of memory: peak 23.8 GB)",
            id="out of memory",
        ),
        pytest.param(Death(status=-9, out_of_memory=True), "SIGKILL (out of memory)", id="out of memory, no peak"),
    ],
)
def test_a_death_names_its_cause(death: Death, cause: str) -> None:
    assert death.cause == cause


@pytest.mark.parametrize(
    ("seen", "lower"),
    [
        pytest.param(_seen(READY), True, id="a client's"),
        pytest.param(_seen(STARTING), True, id="a client's, early"),
        pytest.param(_seen(replace(READY, restart=True)), False, id="a restart is asked for"),
        pytest.param(_seen(replace(READY, phase="stopping", why="restart")), False, id="our own stop"),
        pytest.param(_seen(replace(READY, phase="draining")), False, id="our own draining"),
        pytest.param(
            _seen(READY, agents=[replace(AGENT, phase="stopping", why="restart")]), False, id="its agent's stop"
        ),
        pytest.param(_seen(ABSENT), False, id="said twice"),
        pytest.param(_seen(), False, id="unknown"),
    ],
)
def test_only_an_end_that_a_user_ordered_lowers_what_is_wanted(seen: Seen, lower: bool) -> None:
    assert should_lower(seen, 0, Death(status=0, ordered=True, ready=True)) is lower
    assert not should_lower(seen, 0, SEGV)


def test_an_ordered_end_is_not_healed() -> None:
    seen = _seen(READY, replace(READY, number=1))
    death = Death(status=0, ordered=True, ready=True)
    wanted = TWO.without(0) if should_lower(seen, 0, death) else TWO
    seen = lose_engine(seen, 0, death, 0.0)

    assert decide(wanted, seen, 0.0) == Decision(actions=(ForgetEngine(number=0),))


def test_an_agent_takes_its_engines_along_and_that_does_not_count() -> None:
    known = replace(ABSENT, number=2, row=1, last_death=EARLY)
    other = replace(READY, number=3, agent="b")
    seen = _seen(replace(READY, row=2), replace(STARTING, number=1), known, other, agents=[AGENT])

    seen = lose_agent(seen, "a", Death(status=-9, ready=True), 1.0)

    assert {number: (each.phase, each.row) for number, each in seen.engines.items()} == {
        0: ("absent", 2),
        1: ("absent", 0),
        2: ("absent", 1),
        3: ("ready", 0),
    }
    assert seen.engines[0].last_death == Death(number=0, with_agent=True, ready=True)
    assert seen.engines[2] == known
    slots = tuple(Slot(number=number, agent="b" if number == 3 else "a") for number in range(4))
    assert decide(Wanted(slots=slots), seen, 1.0).actions == (StartAgent(id="a"), StartAgent(id="b"))


@pytest.mark.parametrize(
    ("controller", "row"),
    [
        pytest.param(CONTROLLER, 1, id="there all the time"),
        pytest.param(replace(CONTROLLER, ready_at=0.0), 1, id="back when it started"),
        pytest.param(replace(CONTROLLER, ready_at=0.5), 0, id="back since"),
        pytest.param(ControllerState(), 0, id="away"),
    ],
)
def test_an_engine_that_could_not_register_is_not_to_blame(controller: ControllerState, row: int) -> None:
    seen = lose_engine(_seen(STARTING, controller=controller), 0, EARLY, 1.0)

    assert seen.engines[0].row == row
    assert seen.engines[0].last_death == replace(EARLY, with_controller=row == 0)


@pytest.mark.parametrize("phase", ["absent", "ready", "draining", "stopping"])
def test_late_news_of_readiness_change_nothing(phase: Phase) -> None:
    state = replace(READY, phase=phase)

    assert note_ready(state, 5.0) == state


def test_a_death_told_twice_is_one_death() -> None:
    once = lose_engine(_seen(STARTING), 0, EARLY, 1.0)

    assert lose_engine(once, 0, EARLY, 2.0) == once
    assert lose_engine(once, 7, EARLY, 2.0) == once


@pytest.mark.parametrize(
    ("busy", "how_many", "chosen"),
    [
        pytest.param({0: False, 1: False, 2: False}, 2, (2, 1), id="highest first"),
        pytest.param({0: False, 1: True, 2: True}, 1, (0,), id="idle before busy"),
        pytest.param({0: False, 1: True, 2: True, 3: False}, 3, (3, 0, 2), id="then busy ones, highest first"),
        pytest.param({0: None, 1: False, 2: True}, 2, (0, 1), id="those that are down first of all"),
        pytest.param({0: True}, 3, (0,), id="no more than there are"),
        pytest.param({0: True}, 0, (), id="none"),
    ],
)
def test_who_leaves(busy: dict[int, bool | None], how_many: int, chosen: tuple[int, ...]) -> None:
    assert choose_to_leave(busy, how_many) == chosen


@pytest.mark.parametrize(
    ("existing", "how_many", "chosen"),
    [
        pytest.param((), 3, (0, 1, 2), id="from nothing"),
        pytest.param((0, 2, 5), 3, (1, 3, 4), id="gaps first"),
        pytest.param((0, 1), 0, (), id="none"),
    ],
)
def test_new_numbers_are_the_lowest_free_ones(
    existing: tuple[int, ...], how_many: int, chosen: tuple[int, ...]
) -> None:
    assert choose_numbers(existing, how_many) == chosen


@pytest.mark.parametrize(
    "impossible",
    [
        pytest.param(lambda: RestartPolicy(limit=0), id="limit"),
        pytest.param(lambda: RestartPolicy(pauses=()), id="no pause"),
        pytest.param(lambda: RestartPolicy(pauses=(-1.0,)), id="negative pause"),
        pytest.param(lambda: RestartPolicy(within=-1.0), id="within"),
        pytest.param(lambda: RestartPolicy(start_timeout=0.0), id="start timeout"),
    ],
)
def test_an_impossible_policy_is_refused(impossible: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"at least|no less than|more than"):
        impossible()


AGENTS = ("a", "b")
MOST = 5
WINDOW = 2.0
STEPS = 400


class Storm(RuleBasedStateMachine):
    """A world of processes, in which anything may die at any time, and a thin loop that heals it.

    The world keeps its own books: which processes live. What it hears it tells the loop at once, and the loop's
    orders are checked against what really lives.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.policies = Policies()
        self.wanted = Wanted(slots=(Slot(number=0, agent="a"), Slot(number=1, agent="b")))
        self.seen = Seen()
        self.wake: float | None = None
        self.controller = False
        self.agents: set[str] = set()
        self.engines: dict[int, str] = {}
        # What may start processes again beyond its policy: deaths that do not count, and users.
        self.starts: dict[object, list[float]] = {}
        self.pardons: dict[object, list[float]] = {}

    @initialize()
    def begin(self) -> None:
        self.react()

    def react(self) -> None:
        """Do what the supervisor's loop does."""
        decision = decide(self.wanted, self.seen, self.now, self.policies)
        for action in decision.actions:
            self.perform(action)
            self.seen = note_action(self.seen, action, self.now)
        self.wake = decision.wake
        assert decide(self.wanted, self.seen, self.now, self.policies) == Decision(wake=self.wake)

    def perform(self, action: Action) -> None:
        slots = {slot.number: slot.agent for slot in self.wanted.slots}
        match action:
            case StartController():
                assert not self.controller, "a second controller"
                self.controller = True
                self.count_start("controller")
            case StartAgent(id=name):
                assert name not in self.agents, "a second agent"
                assert name in slots.values(), "an agent for nothing"
                self.agents.add(name)
                self.count_start(name)
            case StartEngine(number=number, agent=name):
                assert number not in self.engines, "two engines under one number"
                assert slots.get(number) == name, "an engine that nobody wants"
                assert not self.seen.engines.get(number, EngineState(number=number, agent=name)).given_up
                assert self.seen.controller.phase == "ready", "no controller"
                assert self.seen.agents[name].phase == "ready", "no agent"
                self.engines[number] = name
                self.count_start(number)
            case StopEngine(number=number) | DrainEngine(number=number):
                assert number in self.engines, "an order to nobody"
                assert self.seen.agents[self.engines[number]].phase == "ready", "an order that nobody hears"
                if isinstance(action, StopEngine) and action.why == "dropped":
                    assert self.seen.controller.phase == "ready"
                    assert self.seen.controller.ready_at is not None
                    assert self.now >= self.seen.controller.ready_at + self.policies.grace, "no grace"
            case ForgetEngine(number=number):
                assert number not in self.engines
                assert number not in slots
                # Whoever wants this number again later asks for a new engine.
                self.pardon(number)
            case GiveUpEngine(number=number, cause=cause):
                assert self.seen.engines[number].row >= self.policies.engine.limit
                assert cause
            case StopController():
                assert self.controller
            case StopAgent(id=name):
                assert name in self.agents

    def count_start(self, who: object) -> None:
        """No more starts in any window than the policy gives, and one row of them for each pardon."""
        starts = self.starts.setdefault(who, [])
        starts.append(self.now)
        policy = self.policies.engine if isinstance(who, int) else self.policies.agent
        row, passed = 1, 0.0
        while row < policy.limit and (passed := passed + policy.pause_after(row)) <= WINDOW:
            row += 1
        recent = [time for time in starts if time >= self.now - WINDOW]
        pardons = [time for time in self.pardons.get(who, ()) if time >= self.now - WINDOW]
        assert len(recent) <= row * (1 + len(pardons)), f"{who} started {len(recent)} times in {WINDOW} s"

    def pardon(self, who: object) -> None:
        self.pardons.setdefault(who, []).append(self.now)

    def is_to_blame(self, life: Life, death: Death, *, within: float) -> bool:
        """The rule once more, in the world's words: it died by itself, early, and without having done anything."""
        if death.ordered or life.restart or life.phase not in ("starting", "ready"):
            return False
        if life.ready_at is None:
            return True
        return self.now - life.ready_at < within and not (death.tasks_done or death.working or death.frozen)

    def bury_engine(self, number: int, death: Death) -> None:
        if should_lower(self.seen, number, death):
            self.wanted = self.wanted.without(number)
        before = self.seen.engines[number]
        self.engines.pop(number)
        self.seen = lose_engine(self.seen, number, death, self.now, self.policies)
        there = self.seen.controller.ready_at
        could_register = there is not None and before.started_at is not None and there <= before.started_at
        if not self.is_to_blame(before, death, within=5.0) or not (death.ready or could_register):
            self.pardon(number)

    def bury_agent(self, name: str, death: Death) -> None:
        before = self.seen.agents[name]
        self.agents.discard(name)
        for number in [number for number, agent in self.engines.items() if agent == name]:
            del self.engines[number]
            self.pardon(number)
        self.seen = lose_agent(self.seen, name, death, self.now, self.policies)
        if not self.is_to_blame(before, death, within=1.0):
            self.pardon(name)

    def bury_controller(self, death: Death) -> None:
        before = self.seen.controller
        self.controller = False
        self.seen = self.seen.having(note_death(before, death, self.now, self.policies.controller))
        if not self.is_to_blame(before, death, within=1.0):
            self.pardon("controller")

    def engines_in(self, *phases: str) -> list[int]:
        return sorted(number for number in self.engines if self.seen.engines[number].phase in phases)

    def choose(self, data: st.DataObject, numbers: Iterable[int]) -> int:
        return data.draw(st.sampled_from(sorted(numbers)))

    # What goes well.

    @precondition(lambda self: self.controller and self.seen.controller.phase == "starting")
    @rule(forgets=st.booleans())
    def controller_becomes_ready(self, forgets: bool) -> None:
        self.seen = self.seen.having(note_ready(self.seen.controller, self.now))
        for number in self.engines_in("ready", "draining"):
            self.seen = self.seen.having(note_known(self.seen.engines[number], not forgets))
        self.react()

    @precondition(lambda self: any(self.seen.agents[name].phase == "starting" for name in self.agents))
    @rule()
    def agents_become_ready(self) -> None:
        for name in sorted(self.agents):
            self.seen = self.seen.having(note_ready(self.seen.agents[name], self.now))
        self.react()

    @precondition(lambda self: self.seen.controller.phase == "ready" and self.engines_in("starting"))
    @rule(data=st.data())
    def engine_becomes_ready(self, data: st.DataObject) -> None:
        number = self.choose(data, self.engines_in("starting"))
        self.seen = self.seen.having(note_ready(self.seen.engines[number], self.now))
        self.react()

    @rule(seconds=st.sampled_from([0.01, 0.3, 0.5, 1.0, 2.0, 4.9, 5.0, 20.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.react()

    @precondition(lambda self: self.wake is not None)
    @rule()
    def wakes(self) -> None:
        assert self.wake is not None
        self.now = self.wake
        self.react()

    @precondition(lambda self: self.engines_in("stopping", "draining"))
    @rule(data=st.data())
    def stop_is_done(self, data: st.DataObject) -> None:
        number = self.choose(data, self.engines_in("stopping", "draining"))
        self.bury_engine(number, Death(number=number, status=0, ordered=True, ready=self.was_ready(number)))
        self.react()

    @precondition(lambda self: self.controller and self.seen.controller.phase == "stopping")
    @rule()
    def controller_stop_is_done(self) -> None:
        self.bury_controller(Death(status=0, ordered=True))
        self.react()

    @precondition(lambda self: any(self.seen.agents[name].phase == "stopping" for name in self.agents))
    @rule()
    def agent_stop_is_done(self) -> None:
        for name in sorted(self.agents):
            if self.seen.agents[name].phase == "stopping":
                self.bury_agent(name, Death(status=0, ordered=True))
        self.react()

    def was_ready(self, number: int) -> bool:
        return self.seen.engines[number].ready_at is not None

    # What goes wrong.

    @precondition(lambda self: self.engines)
    @rule(
        data=st.data(),
        tasks=st.integers(0, 2),
        working=st.booleans(),
        frozen=st.booleans(),
        status=st.sampled_from([None, 1, -9, -11]),
    )
    def engine_dies(self, data: st.DataObject, tasks: int, working: bool, frozen: bool, status: int | None) -> None:
        number = self.choose(data, self.engines)
        ready = self.was_ready(number)
        death = Death(
            number=number,
            status=status,
            ready=ready,
            frozen=frozen,
            tasks_done=tasks if ready else 0,
            working=working and ready,
        )
        self.bury_engine(number, death)
        self.react()

    @precondition(lambda self: self.engines)
    @rule(data=st.data(), times=st.integers(1, 7))
    def engine_crashes_again_and_again(self, data: st.DataObject, times: int) -> None:
        number = self.choose(data, self.engines)
        for _ in range(times):
            if number in self.engines:
                self.bury_engine(number, Death(number=number, status=1, ready=self.was_ready(number)))
                self.react()
            elif self.wake is not None:
                self.wakes()

    @precondition(lambda self: self.engines)
    @rule(data=st.data())
    def user_shuts_engine_down(self, data: st.DataObject) -> None:
        number = self.choose(data, self.engines)
        self.bury_engine(number, Death(number=number, status=0, ordered=True, ready=self.was_ready(number)))
        self.react()

    @precondition(lambda self: self.agents)
    @rule(data=st.data())
    def agent_dies(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.agents)))
        self.bury_agent(name, Death(status=-9, ready=self.seen.agents[name].ready_at is not None))
        self.react()

    @precondition(lambda self: self.controller)
    @rule()
    def controller_dies(self) -> None:
        self.bury_controller(Death(status=-9, ready=self.seen.controller.ready_at is not None))
        self.react()

    @precondition(lambda self: self.controller)
    @rule(times=st.integers(1, 30))
    def controller_crashes_again_and_again(self, times: int) -> None:
        for _ in range(times):
            if self.controller:
                self.bury_controller(Death(status=1, ready=self.seen.controller.ready_at is not None))
                self.react()
            elif self.wake is not None:
                self.wakes()

    @precondition(lambda self: self.engines_in("ready", "draining"))
    @rule(data=st.data())
    def hub_drops_engine(self, data: st.DataObject) -> None:
        number = self.choose(data, self.engines_in("ready", "draining"))
        self.seen = self.seen.having(note_known(self.seen.engines[number], False))
        self.react()

    # What users want.

    @rule(size=st.integers(0, MOST), data=st.data())
    def scale(self, size: int, data: st.DataObject) -> None:
        slots = {slot.number: slot for slot in self.wanted.slots}
        for number in choose_to_leave({each: data.draw(st.booleans()) for each in slots}, len(slots) - size):
            del slots[number]
        for number in choose_numbers(slots.keys() | self.engines.keys(), size - len(slots)):
            slots[number] = Slot(number=number, agent=data.draw(st.sampled_from(AGENTS)))
        self.wanted = Wanted(slots=tuple(slots.values()))
        self.react()

    @precondition(lambda self: self.wanted.slots)
    @rule(data=st.data())
    def user_moves_engine(self, data: st.DataObject) -> None:
        number = self.choose(data, [slot.number for slot in self.wanted.slots])
        slot = Slot(number=number, agent=data.draw(st.sampled_from(AGENTS)))
        self.wanted = replace(self.wanted, slots=(*self.wanted.without(number).slots, slot))
        self.react()

    @precondition(lambda self: self.seen.engines)
    @rule(data=st.data())
    def user_restarts_engine(self, data: st.DataObject) -> None:
        number = self.choose(data, self.seen.engines)
        self.pardon(number)
        self.seen = self.seen.having(note_restart(self.seen.engines[number]))
        self.react()

    @rule()
    def user_restarts_controller(self) -> None:
        self.pardon("controller")
        self.seen = self.seen.having(note_restart(self.seen.controller))
        self.react()

    @precondition(lambda self: self.seen.agents)
    @rule(data=st.data())
    def user_restarts_agent(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.seen.agents)))
        self.pardon(name)
        self.seen = self.seen.having(note_restart(self.seen.agents[name]))
        self.react()

    # What must be true at every moment.

    @invariant()
    def the_picture_is_the_world(self) -> None:
        assert (self.seen.controller.phase != "absent") is self.controller
        assert {name for name, each in self.seen.agents.items() if each.phase != "absent"} == self.agents
        living = {number: each.agent for number, each in self.seen.engines.items() if each.phase != "absent"}
        assert living == self.engines

    @invariant()
    def no_more_than_wanted(self) -> None:
        slots = {slot.number: slot.agent for slot in self.wanted.slots}
        for number, engine in self.seen.engines.items():
            heard = self.seen.agents[engine.agent].phase == "ready"
            if heard and engine.phase in ("starting", "ready"):
                assert slots.get(number) == engine.agent, "more than wanted, and nothing is done about it"

    @invariant()
    def a_row_has_an_end(self) -> None:
        for life, policy in self.lives():
            assert life.row <= policy.limit
            assert not life.given_up or life.phase == "absent"

    @invariant()
    def time_alone_does_nothing_before_the_wake_and_something_then(self) -> None:
        assert self.wake is None or self.wake > self.now
        # Between two neighbouring numbers there is none: their mean may be the wake itself.
        later = self.now + 1e9 if self.wake is None else min((self.now + self.wake) / 2, nextafter(self.wake, self.now))
        assert decide(self.wanted, self.seen, later, self.policies).actions == ()
        if self.wake is not None:
            assert decide(self.wanted, self.seen, self.wake, self.policies).actions

    @invariant()
    def nothing_is_healed_while_the_cluster_ends(self) -> None:
        ending = replace(self.wanted, controller=False)
        assert decide(ending, self.seen, self.now + 1e9, self.policies) == Decision()

    def lives(self) -> list[tuple[Life, RestartPolicy]]:
        return [
            (self.seen.controller, self.policies.controller),
            *((agent, self.policies.agent) for agent in self.seen.agents.values()),
            *((engine, self.policies.engine) for engine in self.seen.engines.values()),
        ]

    # After the storm.

    def get_on(self) -> bool:
        """Let everything that is under way succeed; tell whether anything was."""
        phases = Counter(life.phase for life, _ in self.lives())
        if not phases["starting"] + phases["stopping"] + phases["draining"]:
            return False
        before = self.seen
        if self.seen.controller.phase == "stopping":
            self.controller_stop_is_done()
        if self.seen.controller.phase == "starting":
            self.controller_becomes_ready(forgets=False)
        if any(self.seen.agents[name].phase == "stopping" for name in self.agents):
            self.agent_stop_is_done()
        if any(self.seen.agents[name].phase == "starting" for name in self.agents):
            self.agents_become_ready()
        for number in self.engines_in("stopping", "draining"):
            self.bury_engine(number, Death(number=number, status=0, ordered=True, ready=self.was_ready(number)))
            self.react()
        if self.seen.controller.phase == "ready":
            for number in self.engines_in("starting"):
                self.seen = self.seen.having(note_ready(self.seen.engines[number], self.now))
                self.react()
        return self.seen != before

    @rule()
    def calm(self) -> None:
        """The storm is over: in a bounded number of steps what is wanted is there, and no more."""
        for _ in range(STEPS):
            if self.get_on():
                self.now += 0.1
            elif self.wake is not None:
                self.now = max(self.now, self.wake)
            else:
                break
            self.react()
        else:
            raise AssertionError("it never becomes quiet")

        controller, agents = self.seen.controller, self.seen.agents
        assert controller.phase == ("absent" if controller.given_up else "ready")
        for slot in self.wanted.slots:
            agent = agents[slot.agent]
            assert agent.phase == ("absent" if agent.given_up else "ready")
            if not controller.given_up and not agent.given_up:
                engine = self.seen.engines[slot.number]
                assert engine.phase == ("absent" if engine.given_up else "ready")
                assert engine.given_up or (engine.known and engine.agent == slot.agent)
        assert self.seen.engines.keys() <= {slot.number for slot in self.wanted.slots}

    def teardown(self) -> None:
        self.calm()


TestStorm = Storm.TestCase
TestStorm.settings = settings(
    max_examples=examples(200), stateful_step_count=80 if os.environ.get(LONG) else 40, deadline=None
)
