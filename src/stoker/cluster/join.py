"""Engines that join a controller from elsewhere: one agent, and this process, which heals what it runs.

What is done about a death is decided as in a supervisor (``healing``); but the controller is somebody else's, and only
the engines' side of it is known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.agent.order import NUMBER_TAKEN, Death, EngineOrder, EngineReport
from stoker.cluster import healing, lives
from stoker.cluster.joined_agent import JoinedAgent
from stoker.errors import ConnectError, StartError, StokerError
from stoker.launch.agent_link import AgentSettings
from stoker.launch.bundle import Bundle
from stoker.system.clocks import RunningClock
from stoker.system.files import read_last_lines

# Loaded when they are used: they bring ZeroMQ, which no other command needs.
if TYPE_CHECKING:
    from stoker.cluster.hub import HubLink
    from stoker.launch.handshake import Silence

__all__ = ["JoinPlan", "join_cluster"]

_AGENT = "joined"
_LOOK_OFTEN, _LOOK = 0.1, 1.0
_ANSWER = 2.0
_FIRST_ANSWER = 10.0
_UNREGISTER = 2.0
_NEWS = 1.0
"""Seconds that the news of an engine's death may take from its agent, after the hub has forgotten it."""
_LINES = 5
_STEP = 5.0
_FOR_EVER = 1e9
_BEYOND_LEASE = 30.0
"""Seconds that an engine waits for its controller beyond the lease: it is this process that ends it."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinPlan:
    """What joins, and how."""

    bundle: Bundle
    """Resolved for this machine."""

    count: int
    """Engines."""

    settings: AgentSettings
    """Its lease is also how long the controller may be away."""

    logs: Path
    """The directory that gets their logs."""

    profile: Path | None = None
    """The profile directory whose configuration engines read; None: none."""

    work_dir: Path
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables for engines in addition to this process's."""

    start_timeout: float = 60.0
    """Seconds until an engine must be ready."""


def join_cluster(plan: JoinPlan, *, tell: Callable[[str], None]) -> None:
    """Run engines of somebody's controller until a signal, the controller's end, or a client ends them.

    Args:
        plan: What joins.
        tell: Called with what happens, a line each.

    Raises:
        ConnectError: The controller does not answer, or was away for longer than the lease.
        StartError: No engine can be started, or all have died too often.
    """
    # Those of a surrounding cluster would lead the engines to that one.
    for name in [name for name in os.environ if name.startswith("IPP_")]:
        del os.environ[name]
    asyncio.run(_Joiner(plan, tell).run())


@dataclass(slots=True, kw_only=True)
class _Seat:
    """The place of one engine: what is known beside its life."""

    key: int
    """Its number for the agent: the hub's, or below 0 before the hub has given one."""

    number: int | None = None
    """The hub's."""

    uuid: str = ""
    missed: float | None = None
    """Since when the hub does not know it though it is ready, on the monotonic clock."""


class _Joiner:
    def __init__(self, plan: JoinPlan, tell: Callable[[str], None]) -> None:
        self._plan = plan
        self._tell = tell
        self._seats = {place: _Seat(key=-1 - place) for place in range(plan.count)}
        self._seen = lives.Seen()
        self._policies = lives.Policies(
            engine=lives.RestartPolicy(start_timeout=plan.start_timeout),
            # It is not started here: it is waited for.
            controller=lives.RestartPolicy(limit=int(_FOR_EVER), pauses=(0.0,), start_timeout=_FOR_EVER),
        )
        self._address = f"{plan.bundle.host}:{plan.bundle.connection['registration']}"
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()
        self._hub: HubLink | None = None
        self._agent = JoinedAgent(
            plan.settings,
            work_dir=plan.work_dir,
            log=plan.logs / f"agent-{os.getpid()}.log",
            hear=self._hear,
            on_end=self._lose_agent,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: StokerError | None = None
        self._told_joined = False

    async def run(self) -> None:
        """Join, heal, leave."""
        from stoker.cluster.hub import HubLink

        loop = asyncio.get_running_loop()
        for signum in _SIGNALS:
            loop.add_signal_handler(signum, self._end, None)
        self._hub = HubLink(self._plan.bundle.connection, on_change=self._see)
        try:
            await self._await_controller()
            self._spawn(self._look())
            await self._heal()
        finally:
            self._ending.set()
            for task in self._tasks:
                task.cancel()
            await self._agent.leave()
            self._hub.close()
        if self._failure is not None:
            raise self._failure

    def _end(self, failure: StokerError | None) -> None:
        self._failure = self._failure or failure
        self._ending.set()
        self._changed.set()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._note_done)

    def _note_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A defect of ours, or a machine that gives nothing: to go on would leave dead engines dead.
            self._end(error if isinstance(error, StokerError) else StartError("engines", repr(error)))

    # The controller.

    async def _await_controller(self) -> None:
        assert self._hub is not None
        deadline = time.monotonic() + _FIRST_ANSWER
        while not await self._hub.sync(timeout=1.0):
            if self._ending.is_set():
                return
            silence = await self._explain()
            if silence.is_final or time.monotonic() > deadline:
                raise ConnectError(f"{self._plan.bundle.source}: {silence.text}")
        self._seen = self._seen.having(
            lives.note_ready(lives.note_started(self._seen.controller, time.monotonic()), time.monotonic())
        )

    async def _explain(self) -> Silence:
        from stoker.launch.handshake import explain_silence

        connection, host = self._plan.bundle.connection, self._plan.bundle.host
        return await asyncio.to_thread(explain_silence, connection, host=host, timeout=_ANSWER)

    def _note_controller(self, answered: bool) -> None:
        controller, now = self._seen.controller, time.monotonic()
        if answered and controller.phase == "starting":
            self._tell(f"the controller at {self._address} answers again")
            self._seen = self._seen.having(lives.note_ready(controller, now))
        if not answered and controller.phase == "ready":
            self._tell(f"the controller at {self._address} does not answer; the engines wait for it")
            self._seen = self._seen.having(lives.note_death(controller, Death(), now, self._policies.controller))

    # The loop.

    async def _heal(self) -> None:
        while not self._ending.is_set():
            self._changed.clear()
            slots = tuple(lives.Slot(number=place, agent=_AGENT) for place in self._seats)
            decision = healing.decide(lives.Wanted(slots=slots), self._seen, time.monotonic(), self._policies)
            for action in decision.actions:
                self._seen = healing.note_action(self._seen, action, time.monotonic())
                self._perform(action)
            if decision.actions:
                continue
            if not self._seats:
                self._tell("the engines were told to leave by a client")
                return
            wait = None if decision.wake is None else max(0.0, decision.wake - time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)

    def _perform(self, action: healing.Action) -> None:
        match action:
            case healing.StartAgent():
                self._spawn(self._start_agent())
            case healing.StopAgent():
                self._agent.kill()
            case healing.StartEngine(number=place):
                seat = self._seats[place]
                # Until the hub is told of the death, it knows the one before.
                seat.uuid, seat.missed = "", None
                self._spawn(self._start_engine(place))
            case healing.StopEngine(number=place, kill=kill):
                self._agent.stop_engine(self._seats[place].key, kill=kill)
            case healing.GiveUpEngine(number=place, cause=cause):
                self._give_up(place, cause)
            case healing.GiveUpAgent(cause=cause):
                self._end(self._fail("agent", f"died again and again, at last of {cause}", self._agent.log))
            case _:
                # The controller is somebody else's; what drains is not told to from here.
                pass

    async def _look(self) -> None:
        """Look again and again at what agent and hub know."""
        assert self._hub is not None
        clock = RunningClock(time.monotonic(), most=_STEP)
        heard = 0.0
        while True:
            self._note_reports(await self._agent.report())
            answered = await self._hub.sync(timeout=_ANSWER)
            heard = clock.look(time.monotonic()) if answered else heard
            self._note_controller(answered)
            self._see()
            away = clock.look(time.monotonic()) - heard
            if away > self._plan.settings.lease:
                why = (await self._explain()).text
                self._end(ConnectError(f"no controller for {away:.0f} s, the engines were ended: {why}"))
            starting = any(each.phase == "starting" for each in self._seen.engines.values())
            await asyncio.sleep(_LOOK_OFTEN if starting else _LOOK)

    def _note_reports(self, reports: list[EngineReport]) -> None:
        by_key = {report.number: report for report in reports}
        for seat in self._seats.values():
            if seat.key in by_key:
                seat.uuid = by_key[seat.key].uuid or seat.uuid
                self._number(seat, by_key[seat.key].given)

    def _number(self, seat: _Seat, given: int | None) -> None:
        if given is not None:
            seat.number = given

    def _see(self) -> None:
        """Compare the engines with what the hub knows."""
        if self._hub is None:
            return
        numbers = {name: number for number, name in self._hub.engines.items()}
        now = time.monotonic()
        for place, seat in self._seats.items():
            engine = self._seen.engines.get(place)
            if engine is None or engine.phase not in ("starting", "ready"):
                continue
            if seat.uuid in numbers:
                seat.missed = None
                seat.number = numbers[seat.uuid]
                if engine.phase == "starting" and engine.starts > 1:
                    self._tell(f"engine {seat.number} is back")
                self._seen = self._seen.having(lives.note_known(lives.note_ready(engine, now), True))
            elif engine.phase == "ready" and self._seen.controller.phase == "ready":
                seat.missed = now if seat.missed is None else seat.missed
                if now - seat.missed > _NEWS:
                    self._seen = self._seen.having(lives.note_known(engine, False))
        self._tell_joined()
        self._changed.set()

    def _tell_joined(self) -> None:
        mine = [self._seen.engines.get(place) for place in self._seats]
        if self._told_joined or not all(engine is not None and engine.phase == "ready" for engine in mine):
            return
        self._told_joined = True
        names = ", ".join(str(number) for number in sorted(seat.number or 0 for seat in self._seats.values()))
        self._tell(f"{len(mine)} engine{'s have' if len(mine) != 1 else ' has'} joined {self._address}: {names}")

    # The agent.

    async def _start_agent(self) -> None:
        if await self._agent.start():
            self._seen = self._seen.having(lives.note_ready(self._seen.agents[_AGENT], time.monotonic()))
            self._changed.set()

    def _lose_agent(self, death: Death) -> None:
        self._tell(f"the agent died of {death.cause}, and its engines with it; they are started again")
        self._seen = lives.lose_agent(self._seen, _AGENT, death, time.monotonic(), self._policies)
        self._changed.set()

    def _hear(self, message: Mapping[str, Any]) -> None:
        if message["say"] not in ("died", "refused"):
            return
        place = next((place for place, seat in self._seats.items() if seat.key == message["number"]), None)
        if place is None:
            return
        if message["say"] == "refused":
            death = Death(number=place, problem=message["problem"])
        else:
            death = replace(Death.from_json(message), number=place)
        self._bury(place, death, leaving=bool(message.get("leaving")))

    # Engines.

    def _log(self, place: int) -> Path:
        return self._plan.logs / f"engine-{os.getpid()}-{place}.log"

    def _name(self, place: int) -> str:
        number = self._seats[place].number
        return "a new engine" if number is None else f"engine {number}"

    async def _start_engine(self, place: int) -> None:
        seat, hub = self._seats[place], self._hub
        assert hub is not None
        number, begun = seat.number, self._seen.engines[place]
        # The number must be free, or the hub gives the newcomer another.
        free = number is None or number not in hub.engines or await hub.unregister(number, timeout=_UNREGISTER)
        now = self._seen.engines.get(place)
        if now is None or (now.phase, now.starts) != ("starting", begun.starts):
            # The agent ended meanwhile: the next one gets an order of its own.
            return
        seat.key = -1 - place if number is None else number
        if not free or not self._agent.start_engine(self._order(place)):
            self._seen = lives.lose_engine(self._seen, place, Death(number=place), time.monotonic(), self._policies)
            self._changed.set()

    def _order(self, place: int) -> EngineOrder:
        return EngineOrder(
            number=self._seats[place].key,
            connection=self._plan.bundle.connection,
            log=str(self._log(place)),
            arguments=(f"--profile-dir={self._plan.profile or self._agent.profile}",),
            config={"IPEngine": {"timeout": self._plan.start_timeout}},
            env=self._plan.env,
            work_dir=str(self._plan.work_dir),
            silence=self._plan.settings.lease + _BEYOND_LEASE,
        )

    def _bury(self, place: int, death: Death, *, leaving: bool) -> None:
        if self._ending.is_set():
            return
        seat, engine = self._seats[place], self._seen.engines.get(place)
        if death.status != NUMBER_TAKEN:
            self._number(seat, death.given)
        if lives.should_lower(self._seen, place, death) and not leaving:
            self._tell(f"{self._name(place)} left, as a client told it")
            del self._seats[place]
        elif death.status == NUMBER_TAKEN:
            # By an engine that was started elsewhere meanwhile.
            seat.number = None
        elif engine is not None and engine.why == "dropped":
            self._tell(f"{self._name(place)} was dropped by the hub, and is started again")
        else:
            self._tell(f"{self._name(place)} died of {death.cause}; it is started again")
        self._seen = lives.lose_engine(self._seen, place, death, time.monotonic(), self._policies)
        self._changed.set()

    def _give_up(self, place: int, cause: str) -> None:
        self._tell(f"{self._name(place)} stays down: it died again and again, at last of {cause}")
        if all(self._seen.engines[each].given_up for each in self._seats if each in self._seen.engines):
            self._end(self._fail("engines", f"died again and again, at last of {cause}", self._log(place)))

    def _fail(self, stage: str, problem: str, log: Path) -> StartError:
        return StartError(stage, problem, log=log, lines=read_last_lines(log, _LINES))
