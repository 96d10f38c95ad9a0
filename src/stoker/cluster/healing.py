"""Healing: what should be against what is, and what to do about the difference. It never touches the machine.

The supervisor keeps a ``Wanted`` and a ``Seen``, changes them by what it hears (see ``lives``), and after every event,
and at ``Decision.wake``, performs what ``decide`` says. ``now`` is always seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Literal

from stoker.cluster.lives import (
    AgentState,
    ControllerState,
    EngineState,
    Life,
    Policies,
    RestartPolicy,
    Seen,
    Slot,
    Wanted,
    Why,
    note_started,
    note_stopped,
)

__all__ = [
    "Action",
    "Decision",
    "DrainEngine",
    "ForgetEngine",
    "GiveUpAgent",
    "GiveUpController",
    "GiveUpEngine",
    "StartAgent",
    "StartController",
    "StartEngine",
    "StopAgent",
    "StopController",
    "StopEngine",
    "choose_numbers",
    "choose_to_leave",
    "decide",
    "note_action",
    "share_out",
]

_DEFAULT = Policies()


@dataclass(frozen=True, slots=True, kw_only=True)
class StartController:
    """Start it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopController:
    """End it, and insist; its death is to be noted."""

    why: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUpController:
    """Report that it stays down."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAgent:
    """Start it."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAgent:
    """End it and its engines, and insist; its death is to be noted."""

    id: str
    why: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUpAgent:
    """Report that it stays down."""

    id: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartEngine:
    """Have the agent start it."""

    number: int
    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainEngine:
    """Give it nothing new, and end it once it is idle; its death is to be noted."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StopEngine:
    """End it, and insist; its death is to be noted."""

    number: int
    why: Why
    kill: bool
    """At once: it would not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUpEngine:
    """Report that it stays down."""

    number: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetEngine:
    """Drop what is kept about it: it is gone, and nobody wants it."""

    number: int


Action = (
    StartController
    | StopController
    | GiveUpController
    | StartAgent
    | StopAgent
    | GiveUpAgent
    | StartEngine
    | DrainEngine
    | StopEngine
    | GiveUpEngine
    | ForgetEngine
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now, and when to look again."""

    actions: tuple[Action, ...] = ()
    wake: float | None = None
    """The first moment at which, the actions performed, time alone brings about another; later than now.

    None: only an event can.
    """


def decide(wanted: Wanted, seen: Seen, now: float, policies: Policies = _DEFAULT) -> Decision:
    """Decide what to do.

    Whoever performs each action and notes it (``note_action``) gets no action at the same ``now`` again.
    """
    if not wanted.controller:
        return Decision()
    actions, wake = _look_at_all(wanted, seen, now, policies)
    if actions:
        for action in actions:
            seen = note_action(seen, action, now)
        _, wake = _look_at_all(wanted, seen, now, policies)
    return Decision(actions=actions, wake=wake)


# What is found about one of them: an action, the time to look again, or nothing.
_Finding = Action | float | None


def _look_at_all(wanted: Wanted, seen: Seen, now: float, policies: Policies) -> tuple[tuple[Action, ...], float | None]:
    findings = [
        _look_at_controller(seen.controller, now, policies),
        *_look_at_agents(wanted, seen, now, policies),
        *_look_at_engines(wanted, seen, now, policies),
    ]
    times = [each for each in findings if isinstance(each, int | float)]
    actions = tuple(each for each in findings if each is not None and not isinstance(each, int | float))
    return actions, min(times, default=None)


def _look_at_controller(controller: ControllerState, now: float, policies: Policies) -> _Finding:
    verdict = _judge(controller, policies.controller, now, startable=True, since=controller.started_at)
    match verdict:
        case "start":
            return StartController()
        case "give up":
            return GiveUpController(cause=_describe_end(controller, policies.controller))
        case "restart" | "start timeout":
            return StopController(why=verdict)
    return verdict


def _look_at_agents(wanted: Wanted, seen: Seen, now: float, policies: Policies) -> Iterable[_Finding]:
    needed = {slot.agent for slot in wanted.slots} | wanted.agents
    # One that has no slots any more is left alone: it costs little and may be needed again.
    for name in sorted(needed | set(seen.agents)):
        agent = seen.agents.get(name) or AgentState(id=name)
        policy = policies.of_agent(name)
        verdict = _judge(agent, policy, now, startable=name in needed, since=agent.started_at)
        match verdict:
            case "start":
                yield StartAgent(id=name)
            case "give up":
                yield GiveUpAgent(id=name, cause=_describe_end(agent, policy))
            case "restart" | "start timeout":
                yield StopAgent(id=name, why=verdict)
            case _:
                yield verdict


def _look_at_engines(wanted: Wanted, seen: Seen, now: float, policies: Policies) -> Iterable[_Finding]:
    slots = {slot.number: slot for slot in wanted.slots}
    for number in sorted(slots.keys() | seen.engines.keys()):
        slot, engine = slots.get(number), seen.engines.get(number)
        if engine is None:
            assert slot is not None
            engine = EngineState(number=number, agent=slot.agent)
        if engine.phase == "absent":
            yield _look_at_absent(engine, slot, seen, now, policies)
        elif _is_ready(seen.agents.get(engine.agent)):
            yield _look_at_living(engine, slot, seen, now, policies)


def _look_at_absent(engine: EngineState, slot: Slot | None, seen: Seen, now: float, policies: Policies) -> _Finding:
    if slot is None:
        return ForgetEngine(number=engine.number) if engine.number in seen.engines else None
    startable = _is_ready(seen.controller) and _is_ready(seen.agents.get(slot.agent))
    verdict = _judge(engine, policies.engine, now, startable=startable, since=None)
    match verdict:
        case "start":
            return StartEngine(number=engine.number, agent=slot.agent)
        case "give up":
            return GiveUpEngine(number=engine.number, cause=_describe_end(engine, policies.engine))
    assert not isinstance(verdict, str)
    return verdict


def _look_at_living(engine: EngineState, slot: Slot | None, seen: Seen, now: float, policies: Policies) -> _Finding:
    again: float | None = None
    # One that drains tells the hub itself that it leaves.
    if engine.phase == "ready" and not engine.known and _is_ready(seen.controller):
        again = _at(seen.controller.ready_at) + policies.grace
        if now >= again:
            return StopEngine(number=engine.number, why="dropped", kill=True)
    if slot is None or slot.agent != engine.agent:
        if engine.phase == "starting":
            return StopEngine(number=engine.number, why="unwanted", kill=False)
        return DrainEngine(number=engine.number) if engine.phase == "ready" else again
    since: float | None = None
    if _is_ready(seen.controller):
        # Without a controller it waits, and that is not its fault.
        since = max(_at(engine.started_at), _at(seen.controller.ready_at))
    verdict = _judge(engine, policies.engine, now, startable=False, since=since)
    if verdict == "restart" or verdict == "start timeout":
        return StopEngine(number=engine.number, why=verdict, kill=verdict == "start timeout")
    assert not isinstance(verdict, str)
    return again if verdict is None else verdict


_Verdict = Literal["start", "give up", "restart", "start timeout"]


def _judge(
    life: Life, policy: RestartPolicy, now: float, *, startable: bool, since: float | None
) -> _Verdict | float | None:
    """Give what is due, or the time from which something is.

    Args:
        life: Whose.
        policy: Its.
        now: The time.
        startable: Whether it is wanted and everything that it needs is there.
        since: From when on its start takes time; None while it cannot get on.
    """
    if life.phase == "absent":
        if life.given_up or not startable:
            return None
        if life.row >= policy.limit:
            return "give up"
        return "start" if life.next_start is None or now >= life.next_start else life.next_start
    if life.phase == "stopping":
        return None
    if life.restart:
        return "restart"
    if life.phase == "starting" and since is not None:
        due = since + policy.start_timeout
        return "start timeout" if now >= due else due
    return None


def note_action(seen: Seen, action: Action, now: float) -> Seen:
    """Note that an action was, or is about to be, performed.

    What could not be performed is a death: note the start and then that.
    """
    match action:
        case StartController():
            return seen.having(note_started(seen.controller, now))
        case StopController(why=why):
            return seen.having(note_stopped(seen.controller, why))
        case GiveUpController():
            return seen.having(replace(seen.controller, given_up=True))
        case StartAgent(id=name):
            return seen.having(note_started(seen.agents.get(name) or AgentState(id=name), now))
        case StopAgent(id=name, why=why):
            return seen.having(note_stopped(seen.agents[name], why))
        case GiveUpAgent(id=name):
            return seen.having(replace(seen.agents[name], given_up=True))
        case StartEngine(number=number, agent=name):
            engine = seen.engines.get(number) or EngineState(number=number, agent=name)
            return seen.having(note_started(replace(engine, agent=name), now))
        case DrainEngine(number=number):
            return seen.having(replace(seen.engines[number], phase="draining"))
        case StopEngine(number=number, why=why):
            return seen.having(note_stopped(seen.engines[number], why))
        case GiveUpEngine(number=number):
            return seen.having(replace(seen.engines[number], given_up=True))
        case ForgetEngine(number=number):
            return replace(seen, engines={key: each for key, each in seen.engines.items() if key != number})


def choose_to_leave(busy: Mapping[int, bool | None], how_many: int) -> tuple[int, ...]:
    """Choose engines for scaling down: first those that are down, then idle ones, then busy ones.

    Args:
        busy: By number; None for an engine that is down, given up or not ready yet.
        how_many: Of them; all, where there are fewer.

    Returns:
        Their numbers, the first to leave first; among equals the highest number.
    """
    ranks = {None: 0, False: 1, True: 2}
    return tuple(sorted(busy, key=lambda number: (ranks[busy[number]], -number))[:how_many])


def choose_numbers(existing: Iterable[int], how_many: int) -> tuple[int, ...]:
    """Choose numbers for scaling up: the lowest that are free.

    Args:
        existing: Those that are wanted, and those that still live.
        how_many: New ones.
    """
    taken = set(existing)
    return tuple(islice((number for number in count() if number not in taken), how_many))


def share_out(count: int, present: Mapping[int, int]) -> dict[int, int]:
    """Share engines out among hosts, as evenly as can be done by only adding or only taking away.

    Args:
        count: How many there are to be in all.
        present: How many each has now.
    """
    shares = dict(present)
    while (missing := count - sum(shares.values())) != 0:
        if missing > 0:
            shares[min(shares, key=lambda place: (shares[place], place))] += 1
        else:
            shares[max(shares, key=lambda place: (shares[place], place))] -= 1
    return shares


def _is_ready(life: Life | None) -> bool:
    return life is not None and life.phase == "ready"


def _at(time: float | None) -> float:
    assert time is not None
    return time


def _describe_end(life: Life, policy: RestartPolicy) -> str:
    if life.why == "start timeout":
        return f"not ready after {policy.start_timeout:g} s"
    return "an unknown cause" if life.last_death is None else life.last_death.cause
