"""Lives: what is known of each process of a cluster, what should be, and how both change with what is heard. Pure.

``now`` is always seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from stoker.agent.order import Death

__all__ = [
    "AgentState",
    "ControllerState",
    "Death",
    "EngineState",
    "Life",
    "Phase",
    "Policies",
    "RestartPolicy",
    "Seen",
    "Slot",
    "Wanted",
    "Why",
    "lose_agent",
    "lose_engine",
    "note_away",
    "note_back",
    "note_death",
    "note_known",
    "note_ready",
    "note_restart",
    "note_started",
    "note_stopped",
    "should_lower",
]

Phase = Literal["absent", "starting", "ready", "draining", "stopping", "away"]
"""Of a process. ``draining`` (engines only): it finishes what it has and gets nothing new. ``away`` (agents only): the
connection to its host has ended, and its lease runs."""

Why = Literal["restart", "unwanted", "dropped", "start timeout"]
"""Why something is stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """How often, and how soon, what died comes back."""

    limit: int = 5
    """Early deaths in a row after which it stays down."""

    pauses: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0)
    """Seconds before the restart after the first early death in a row, the second, ...; the last is repeated."""

    within: float = 5.0
    """Seconds of being ready; who dies in them without having done anything died early."""

    start_timeout: float = 60.0
    """Seconds until it must be ready. Whoever is not is stopped, and that is an early death."""

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit: at least 1, got {self.limit}")
        if not self.pauses or min(self.pauses) < 0 or self.within < 0:
            raise ValueError(f"pauses, within: no less than 0 s, got {self.pauses} and {self.within}")
        if not self.start_timeout > 0:
            raise ValueError(f"start_timeout: more than 0 s, got {self.start_timeout}")

    def pause_after(self, row: int) -> float:
        """Give the seconds to wait after so many early deaths in a row."""
        return self.pauses[min(row, len(self.pauses)) - 1] if row else 0.0


_PATIENT = RestartPolicy(limit=20, pauses=(0.0, 0.5, 1.0), within=1.0)
# A host may be away for days, and a server that is asked too often may lock us out.
_SELDOM = RestartPolicy(limit=100_000, pauses=(1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0), within=60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """The restart policies of one cluster.

    Without controller or agent nothing works, and neither runs what users wrote: they get more patience, so that not
    even somebody who kills one of them every second brings the cluster down for good.
    """

    engine: RestartPolicy = RestartPolicy()
    agent: RestartPolicy = _PATIENT
    controller: RestartPolicy = _PATIENT

    host: RestartPolicy = _SELDOM
    """Of the agents on other hosts."""

    hosts: frozenset[str] = frozenset()
    """The names of these agents."""

    grace: float = 5.0
    """Seconds of the controller's being ready in which no engine counts as dropped by it."""

    def of_agent(self, name: str) -> RestartPolicy:
        """Give the policy of one agent."""
        return self.host if name in self.hosts else self.agent


_DEFAULT = Policies()


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What is known about one process, and about those before it in the same place."""

    phase: Phase = "absent"

    started_at: float | None = None
    """When the living one was started. None: none lives."""

    ready_at: float | None = None
    """When the living one became ready. None: it is not yet, or none lives."""

    row: int = 0
    """Early deaths in a row."""

    next_start: float | None = None
    """Not before then is it started again. None: at once."""

    why: Why | None = None
    """Why we stopped it; kept until the next one starts. None: we did not."""

    restart: bool = False
    """Somebody asked for a new one in place of the living one."""

    given_up: bool = False
    """It stays down until somebody asks for a restart."""

    starts: int = 0
    """How often it was started, the first time included."""

    last_death: Death | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerState(Life):
    """The controller. It is ready when everything that was restored has been answered for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState(Life):
    """An agent. It is ready when it takes orders."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineState(Life):
    """An engine. It is ready when the hub and its agent say so."""

    number: int

    agent: str
    """The id of the agent that runs it, or ran it last."""

    known: bool = True
    """The hub knows it. Matters only once it is ready: whom a hub has dropped never comes back to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is. Who is not listed is absent and has no past."""

    controller: ControllerState = ControllerState()
    agents: Mapping[str, AgentState] = field(default_factory=dict)
    """By id; never changed in place."""

    engines: Mapping[int, EngineState] = field(default_factory=dict)
    """By number; never changed in place."""

    def having(self, life: Life) -> Seen:
        """Give a copy in which this is the state of the one it is about."""
        if isinstance(life, EngineState):
            return replace(self, engines={**self.engines, life.number: life})
        if isinstance(life, AgentState):
            return replace(self, agents={**self.agents, life.id: life})
        assert isinstance(life, ControllerState)
        return replace(self, controller=life)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place for one engine."""

    number: int
    agent: str
    """The id of the agent that is to run it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What should be."""

    slots: tuple[Slot, ...] = ()
    agents: frozenset[str] = frozenset()
    """Agents that are wanted although nobody knows yet how many engines they are to have."""

    controller: bool = True
    """False while the cluster is being ended: then nothing at all is healed."""

    def __post_init__(self) -> None:
        assert len({slot.number for slot in self.slots}) == len(self.slots), f"a number twice: {self.slots}"

    def without(self, number: int) -> Wanted:
        """Give what is wanted when this engine no longer is."""
        return replace(self, slots=tuple(slot for slot in self.slots if slot.number != number))


_Life = TypeVar("_Life", bound=Life)


def note_started(life: _Life, now: float) -> _Life:
    """Note that a process was started. A supervisor that comes back to a living one notes it so, too."""
    assert life.phase == "absent", f"a second one beside the living one: {life}"
    started = replace(
        life, phase="starting", started_at=now, ready_at=None, next_start=None, why=None, restart=False, given_up=False
    )
    return replace(started, starts=life.starts + 1)


def note_ready(life: _Life, now: float) -> _Life:
    """Note that it became ready. Said twice, or too late, it changes nothing."""
    if life.phase != "starting":
        return life
    ready = replace(life, phase="ready", ready_at=now)
    return replace(ready, known=True) if isinstance(ready, EngineState) else ready


def note_away(agent: AgentState) -> AgentState:
    """Note that an agent is out of reach. One that is not ready stays as it is."""
    return replace(agent, phase="away") if agent.phase == "ready" else agent


def note_back(agent: AgentState, now: float) -> AgentState:
    """Note that an agent takes orders: for the first time, or again."""
    return replace(agent, phase="ready") if agent.phase == "away" else note_ready(agent, now)


def note_known(engine: EngineState, known: bool) -> EngineState:
    """Note whether the hub knows an engine that is ready."""
    return replace(engine, known=known)


def note_restart(life: _Life) -> _Life:
    """Note that somebody asks for a restart. Its past is forgiven; one that was given up comes back."""
    return replace(life, row=0, next_start=None, given_up=False, restart=life.phase not in ("absent", "stopping"))


def note_death(life: _Life, death: Death, now: float, policy: RestartPolicy) -> _Life:
    """Note a death. Said twice, it changes nothing."""
    if life.phase == "absent":
        return life
    row = _count_row(life, death, now, policy)
    pause = policy.pause_after(row) if row > life.row else 0.0
    return replace(
        life,
        phase="absent",
        started_at=None,
        ready_at=None,
        row=row,
        next_start=now + pause if pause else None,
        restart=False,
        last_death=death,
    )


def _count_row(life: Life, death: Death, now: float, policy: RestartPolicy) -> int:
    if life.why == "restart" or life.restart:
        return 0
    if death.with_agent or death.with_controller:
        return life.row
    if life.why == "start timeout":
        return life.row + 1
    if life.why == "unwanted" or life.phase == "draining" or (death.ordered and life.why is None):
        return 0
    if not death.ready and life.ready_at is None:
        return life.row + 1
    if death.frozen or death.working or death.tasks_done:
        return 0
    seconds = death.seconds if life.ready_at is None else now - life.ready_at
    return life.row + 1 if seconds < policy.within else 0


def lose_engine(seen: Seen, number: int, death: Death, now: float, policies: Policies = _DEFAULT) -> Seen:
    """Note an engine's death, and whether the controller was away while it should have become ready."""
    engine = seen.engines.get(number)
    if engine is None or engine.phase == "absent":
        return seen
    there = seen.controller.ready_at
    if not death.ready and engine.ready_at is None and (there is None or there > _at(engine.started_at)):
        death = replace(death, with_controller=True)
    return seen.having(note_death(engine, death, now, policies.engine))


def lose_agent(seen: Seen, name: str, death: Death, now: float, policies: Policies = _DEFAULT) -> Seen:
    """Note an agent's death, and with it those of its engines that nobody has noted yet."""
    agent = seen.agents.get(name) or AgentState(id=name)
    seen = seen.having(note_death(agent, death, now, policies.of_agent(name)))
    for engine in seen.engines.values():
        if engine.agent == name and engine.phase != "absent":
            end = Death(number=engine.number, with_agent=True, ready=engine.ready_at is not None)
            seen = seen.having(note_death(engine, end, now, policies.engine))
    return seen


def should_lower(seen: Seen, number: int, death: Death) -> bool:
    """Tell, before an engine's death is noted, whether a user ordered it: then its slot is no longer wanted."""
    engine = seen.engines.get(number)
    if engine is None or not death.ordered or engine.restart or engine.phase not in ("starting", "ready"):
        return False
    # An agent that is being stopped orders its engines to leave, too.
    agent = seen.agents.get(engine.agent)
    return agent is not None and agent.phase == "ready"


def note_stopped(life: _Life, why: Why) -> _Life:
    """Note that it was told to end."""
    return replace(life, phase="stopping", why=why, restart=False)


def _at(time: float | None) -> float:
    assert time is not None
    return time
