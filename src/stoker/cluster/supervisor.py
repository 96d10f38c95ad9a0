"""The supervisor: one process per cluster. It owns controller and agents, heals both, and performs what is decided.

What should be and what is are values; ``healing.decide`` says what to do about the difference; here it is done. All
runs in one asyncio loop, and every wait in it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.agent.order import NUMBER_TAKEN, Death, EngineReport
from stoker.cluster import healing, lives
from stoker.cluster.controller_process import ControllerProcess, is_open, list_ports, read_connection_file
from stoker.cluster.end_watch import EndWatch
from stoker.cluster.history import History
from stoker.cluster.hosts import Hosts
from stoker.cluster.record import EngineRecord, Record
from stoker.cluster.run_plan import RunPlan
from stoker.errors import HostError, StokerError
from stoker.launch.agent_link import AgentCommand, AgentLink
from stoker.launch.marks import AGENT_VARIABLE, RUN_VARIABLE
from stoker.system.files import write_file
from stoker.system.processes import ProcessId, find_marked, identify, is_running, kill_marked
from stoker.system.usage import read_state

if TYPE_CHECKING:
    from stoker.cluster.hub import HubLink
    from stoker.launch.landing import Landed

__all__ = ["Supervisor"]

_SYNC_OFTEN = 0.1
_SYNC = 3.0
_UNREGISTER = 2.0
_STOP_GRACE = 5.0
_KILLED = 2.0
_DISMISS = 1.0
_PING = 1.5
_SETTLE = 0.15
"""Seconds after the engines have answered a new controller: each of their connections comes back by itself, within a
tenth of a second, and what is sent to one before that is lost."""
_NEWS = 0.5
"""Seconds that the news of an engine's death may take from its agent, after the hub has told that it is gone."""
_FORGOTTEN = 0.5
_ORDERS_FIRST = 0.02


class Supervisor:
    """A cluster's keeper."""

    def __init__(self, plan: RunPlan, *, on_change: Callable[[], None], save: Callable[[], None]) -> None:
        """Prepare to keep a cluster.

        Args:
            plan: What it is to be.
            on_change: Called when a process of it came or went.
            save: Called where what is kept on disk must hold at once: what a user has ordered is not forgotten.
        """
        self.plan = plan
        self.save = save
        self.slots: dict[int, int] = {}
        """What is wanted: the place of its group by engine number."""
        self.seen = lives.Seen()
        self.policies = _choose_policies(plan)
        self.history = History()
        self.setups: dict[str, str] = {}
        """What runs in every new engine, by name."""
        self.engines: dict[int, EngineReport] = {}
        """What the agents said when they started them."""
        self.agents: dict[str, ProcessId] = {}
        self.hindrances: dict[str, str] = {}
        """Why agents cannot fork, by name."""
        self.profile_ready = asyncio.Event()
        """Set when the controller may be started: the profile is as it should be."""
        self.ended = asyncio.Event()
        """Set when a client has ordered the end."""
        self.killed = 0
        """Processes that had to be killed at the end."""
        self.controller = ControllerProcess(plan.controller, self._lose_controller)
        self.hub: HubLink | None = None
        self.hosts = Hosts(self)
        self.unreached: tuple[str, ...] = ()
        """The hosts whose agents could not be told to leave at the end: they do after their lease."""
        self._on_change = on_change
        self._links: dict[str, AgentLink] = {}
        self._watches: dict[str, EndWatch] = {}
        self._frozen: dict[str, float] = {}
        self._killed_frozen: ProcessId | None = None
        self._changed = asyncio.Event()
        self._running = True
        self._tasks: set[asyncio.Task[Any]] = set()
        self._restores = False
        self._spoken = False
        self._known: dict[int, str] = {}
        self._taken: set[int] = set()
        """Numbers that the hub did not give to an engine of ours: one that died while it registered has them still."""
        self._predecessors: dict[int, str | None] = {}
        """Whom the hub knew under a number when an engine was started for it."""
        self._died = time.time()

    # What is wanted.

    @property
    def wanted(self) -> lives.Wanted:
        """What should be, as the decision takes it."""
        slots = (lives.Slot(number=n, agent=self.plan.groups[place].agent) for n, place in self.slots.items())
        # How many engines a host is to have may be known only when it is reached.
        unknown = frozenset(group.agent for group in self.plan.groups if group.count is None)
        return lives.Wanted(slots=tuple(slots), agents=unknown, controller=self._running)

    @property
    def is_whole(self) -> bool:
        """Whether everything that is wanted is ready."""
        engines = (self.seen.engines.get(number) for number in self.slots)
        whole = all(engine is not None and engine.phase == "ready" for engine in engines)
        return whole and self.seen.controller.phase == "ready"

    def poke(self) -> None:
        """Have the difference looked at again."""
        self._changed.set()

    def children(self) -> set[int]:
        """Give the process numbers of those that this process has started, and watches."""
        mine = {process.pid for process in self.agents.values()} | self.hosts.pids
        return mine if self.controller.process is None else mine | {self.controller.process.pid}

    def change_plan(self, plan: RunPlan) -> None:
        """Take a plan that differs only in what can change while the cluster runs."""
        # What was counted on hosts stays.
        pairs = enumerate(zip(self.plan.groups, plan.groups, strict=False))
        self.plan = plan.having_counts(
            {place: old.count for place, (old, new) in pairs if new.count is None and old.count is not None}
        )
        self.policies = _choose_policies(plan)
        for link in self._links.values():
            link.settle(plan.settings)
        for line in self.hosts.lines.values():
            line.settings = plan.settings
        self.save()
        self.poke()

    async def report(self, *, memory: bool, timeout: float) -> list[EngineReport]:
        """Ask the agents how their engines are; those that do not answer in time have none."""

        async def ask(link: AgentLink) -> list[EngineReport]:
            with contextlib.suppress(TimeoutError):
                return [EngineReport.from_json(each) for each in await link.report(memory=memory, timeout=timeout)]
            return []

        answers = await asyncio.gather(*(ask(link) for link in self._links.values()))
        return [report for answer in answers for report in answer]

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the loop; what it raises is in the log."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._note_done)

    def _note_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            traceback.print_exception(error)

    # What is kept on disk.

    def render_record(self, *, running: bool) -> Record:
        """Give what another supervisor would have to know."""
        hosts = {name: command.address for name, command in self.plan.hosts.items()}
        engines = (
            EngineRecord(
                number=number,
                group=self.slots.get(number, 0),
                process=ProcessId(pid=report.pid, started=report.started),
                log=str(self.plan.engine_log(number)),
                host=hosts.get(self._agent_of(number) or "", ""),
            )
            for number, report in sorted(self.engines.items())
        )
        return Record(
            state="running" if running else "starting",
            plan=self.plan,
            supervisor=identify(os.getpid()),
            controller=self.controller.process,
            agents=dict(self.agents),
            engines=tuple(engines),
            slots=dict(self.slots),
            setups=dict(self.setups),
            history=self.history.to_json(),
        )

    async def adopt(self, record: Record) -> None:
        """Take over what an earlier supervisor has left running."""
        self.slots = dict(record.slots)
        self.setups = dict(record.setups)
        self.history = History.from_json(record.history)
        self.history.note_event("supervisor", "was started again, and has taken over what runs")
        self.profile_ready.set()
        self._restores = True
        for name in record.agents.keys() & self.plan.hosts.keys():
            self._adopt_host(name)
        local = {name: process for name, process in record.agents.items() if name not in self.plan.hosts}
        await asyncio.gather(
            *(self._adopt_agent(name, process) for name, process in local.items() if is_running(process))
        )
        self._spoken = True
        if record.controller is not None and is_running(record.controller):
            self.controller.adopt(record.controller)
            self.seen = self.seen.having(lives.note_started(self.seen.controller, time.monotonic()))
            self.spawn(self._await_again())

    # The loop.

    async def run(self) -> None:
        """Heal until the end is ordered."""
        self.spawn(self._watch_frozen())
        self.spawn(self._sync_now_and_then())
        while self._running:
            self._changed.clear()
            decision = healing.decide(self.wanted, self.seen, time.monotonic(), self.policies)
            for action in decision.actions:
                self.seen = healing.note_action(self.seen, action, time.monotonic())
                self._perform(action)
            if decision.actions:
                self._on_change()
                continue
            wait = None if decision.wake is None else max(0.0, decision.wake - time.monotonic())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)

    async def end(self, *, grace: float) -> None:
        """End everything."""
        self._running = False
        self.poke()
        self.unreached = tuple(name for name in self.hosts.lines if self.seen.agents[name].phase == "away")
        for name, line in self.hosts.lines.items():
            if name not in self._links:
                line.close()
        for name, link in self._links.items():
            agent = self.seen.agents.get(name)
            if agent is None or agent.phase != "ready":
                # It has no engines yet, and may be none that listens.
                self._kill_agent(name)
                continue
            link.leave(grace=grace)
            with contextlib.suppress(ProcessLookupError, KeyError):
                # One that is stopped would never hear it.
                os.kill(self.agents[name].pid, signal.SIGCONT)
        await self._dismiss_strangers()
        await self.controller.stop(grace=grace)
        await self.controller.wait_for_children()
        deadline = time.monotonic() + grace + _KILLED
        while any(is_running(agent) for agent in self.agents.values()) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        await self.hosts.close()
        await self._sweep()
        if self.hub is not None:
            self.hub.close()
            self.hub = None
        self.controller.close()
        for watch in self._watches.values():
            watch.close()
        for task in self._tasks:
            task.cancel()

    async def _dismiss_strangers(self) -> None:
        """Tell the engines that others have started, by hand perhaps, that this is the end; else they would wait."""
        if (hub := self.hub) is not None and self.seen.controller.phase == "ready":
            mine = {number for number, engine in self.seen.engines.items() if engine.phase != "absent"}
            told = (
                hub.ask_engine(number, "shutdown_request", timeout=_DISMISS, content={"restart": False})
                for number in hub.engines.keys() - mine
            )
            await asyncio.gather(*told)

    async def _sweep(self) -> None:
        """Kill what is left of this run, this process excepted."""

        def look() -> list[ProcessId]:
            return [each for each in find_marked(RUN_VARIABLE, self.plan.run) if each.pid != os.getpid()]

        deadline = time.monotonic() + _KILLED
        while time.monotonic() < deadline:
            # Whoever was born during one look, of a parent that ended during it, is seen by the next.
            left = look() or look()
            if not left:
                return
            for process in left:
                self.killed += 1
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            await asyncio.sleep(0.02)

    def _perform(self, action: healing.Action) -> None:
        match action:
            case healing.StartController():
                self.spawn(self._start_controller())
            case healing.StopController():
                self.spawn(self.controller.stop(grace=_KILLED))
            case healing.StartAgent(id=name):
                self.spawn(self._start_agent(name))
            case healing.StopAgent(id=name) if name in self.hosts:
                # A line that is dropped tells of no end.
                self._bury_agent(name, Death(problem=f"{name}: not there in time"))
            case healing.StopAgent(id=name):
                self._kill_agent(name)
            case healing.StartEngine(number=number, agent=name):
                self._predecessors[number] = None if self.hub is None else self.hub.engines.get(number)
                self.spawn(self._start_engine(number, name))
            case healing.StopEngine(number=number, kill=kill):
                self._stop_engine(number, kill=kill)
            case healing.DrainEngine(number=number):
                self.spawn(self._drain_engine(number))
            case healing.GiveUpEngine(number=number, cause=cause):
                self.history.note_given_up(f"engine {number}", cause)
            case healing.GiveUpAgent(id=name, cause=cause):
                self.history.note_given_up(f"agent {name}", cause)
            case healing.GiveUpController(cause=cause):
                self.history.note_given_up("controller", cause)
            case healing.ForgetEngine():
                pass

    # Controller.

    async def _start_controller(self) -> None:
        await self.profile_ready.wait()
        again = self._restores
        await self.controller.wait_for_children()
        if again:
            self._write_engine_state()
        try:
            self.controller.start(again=again)
        except OSError as error:
            self._bury_controller(Death(problem=f"{error.filename}: {error.strerror}"))
            return
        self._on_change()
        await (self._await_again() if again else self._await_first())

    def _write_engine_state(self) -> None:
        """Write what the hub is to know when it starts again: the engines that live. Its own file may be old."""
        living = {n: engine for n, engine in self.seen.engines.items() if engine.phase in ("ready", "draining")}
        uuids = {n: self._known.get(n) or self.engines[n].uuid for n in living if n in self.engines}
        # Engines that others have started count too; whether they live is asked of them.
        strangers = {n: uuid for n, uuid in self._known.items() if n not in self.seen.engines}
        engines = strangers | {n: uuid for n, uuid in uuids.items() if uuid}
        state = {"engines": engines, "next_id": max([*engines, *self.slots], default=-1) + 1, "died": self._died}
        write_file(Path(self.plan.controller.engine_state), json.dumps(state).encode())

    async def _await_first(self) -> None:
        process = self.controller.process
        while (connection := read_connection_file(self.plan.controller.client_file)) is None or (
            read_connection_file(self.plan.controller.engine_file) is None
        ):
            if self.controller.process is not process:
                return
            await asyncio.sleep(0.005)
        self._restores = True
        self.seen = self.seen.having(lives.note_ready(self.seen.controller, time.monotonic()))
        self.poke()
        self._on_change()
        # The engines are ordered first: what follows is imported for it, and takes as long as their start.
        await asyncio.sleep(_ORDERS_FIRST)
        if self.controller.process is process:
            self._connect_hub(connection)
            self.poke()

    async def _await_again(self) -> None:
        """Wait for a controller in place of one that died until nothing that is sent to it is lost."""
        process = self.controller.process
        connection = read_connection_file(self.plan.controller.client_file) or {}
        engine_connection = read_connection_file(self.plan.controller.engine_file) or {}
        ports = {*list_ports(connection), *list_ports(engine_connection)}
        children = self.plan.controller.children
        while not all(map(is_open, ports)) or self.controller.count_children() < children:
            if self.controller.process is not process:
                return
            await asyncio.sleep(0.01)
        hub = self._connect_hub(connection)
        # What is sent in the first moments may be lost: asked again and again.
        while not await hub.sync(timeout=0.1):
            if self.controller.process is not process:
                return
        await self._prune(hub)
        await self._ping_all(hub)
        if self.controller.process is process:
            self.seen = self.seen.having(lives.note_ready(self.seen.controller, time.monotonic()))
            self._see_hub()

    def _connect_hub(self, connection: Mapping[str, Any]) -> HubLink:
        from stoker.cluster.hub import HubLink

        if self.hub is not None:
            self.hub.close()
        self._spoken = True
        self.hub = HubLink(connection, on_change=self._see_hub)
        return self.hub

    async def _prune(self, hub: HubLink) -> None:
        """Have a restored hub forget the engines that died meanwhile: it would give them tasks for ever."""
        for number in list(hub.engines):
            engine = self.seen.engines.get(number)
            if engine is not None and engine.phase == "absent":
                await hub.unregister(number, timeout=_UNREGISTER)

    async def _ping_all(self, hub: HubLink) -> None:
        deadline = time.monotonic() + _PING

        async def ping(number: int) -> None:
            while not await hub.ask_engine(number, "kernel_info_request", timeout=0.2):
                if time.monotonic() > deadline:
                    # One of ours that lives is busy in code that lets nothing else run; of others nobody knows more.
                    if number not in self.seen.engines:
                        await hub.unregister(number, timeout=_UNREGISTER)
                    return

        await asyncio.gather(*(ping(number) for number in hub.engines))
        await asyncio.sleep(_SETTLE)

    def _lose_controller(self, process: ProcessId, status: int | None) -> None:
        if not self._running:
            return
        if self.controller.was_ordered():
            self.ended.set()
            return
        frozen = self._killed_frozen == process
        self._bury_controller(Death(pid=process.pid, status=status, frozen=frozen))

    def _bury_controller(self, death: Death) -> None:
        self.controller.kill()
        self._died = time.time()
        if self.hub is not None:
            self.hub.close()
            self.hub = None
        for number, engine in self.seen.engines.items():
            if engine.phase == "starting":
                # It would wait in vain for an answer to its registration.
                self._stop_engine(number, kill=True)
        self.history.note_death("controller", death, log=self.plan.controller.log, why=self.seen.controller.why)
        self.seen = self.seen.having(
            lives.note_death(self.seen.controller, death, time.monotonic(), self.policies.controller)
        )
        self._on_change()
        self.poke()

    # Agents.

    async def _start_agent(self, name: str) -> None:
        command = self.plan.agent(name)
        if not isinstance(command, AgentCommand):
            self.hosts.reach(command, "start")
            return
        link = AgentLink(lambda message: self._hear(name, link, message))
        try:
            process = link.start(command)
        except OSError as error:
            self._bury_agent(name, Death(problem=f"{error.filename}: {error.strerror}"))
            return
        await self._follow_agent(name, link, process)

    async def _adopt_agent(self, name: str, process: ProcessId) -> bool:
        command = self.plan.agent(name)
        assert isinstance(command, AgentCommand)
        link = AgentLink(lambda message: self._hear(name, link, message))
        try:
            await link.connect(command.socket)
        except (OSError, TimeoutError):
            return False
        return await self._follow_agent(name, link, process)

    async def _follow_agent(self, name: str, link: AgentLink, process: ProcessId) -> bool:
        self._links[name] = link
        self.agents[name] = process
        self._watches[name] = EndWatch(process, link.process, lambda status: self._lose_agent(name, status))
        self._on_change()
        try:
            hello = await link.attach(self.plan.settings)
        except StokerError:
            # Its end will be seen; one that is there and says nothing is of no use.
            self._kill_agent(name)
            return False
        self._greet(name, hello)
        return True

    def _greet(self, name: str, hello: Mapping[str, Any]) -> None:
        """Take an agent that is attached, with what it has."""
        self.hindrances[name] = hello["hindrance"]
        now = time.monotonic()
        agent = self.seen.agents.get(name) or lives.AgentState(id=name)
        if agent.phase == "absent":
            agent = lives.note_started(agent, now)
        self.seen = self.seen.having(lives.note_back(agent, now))
        for data in hello["engines"]:
            self._note_started(name, EngineReport.from_json(data))
        for message in hello["deaths"]:
            self._hear_agent(name, message)
        self.poke()

    def _hear(self, name: str, link: AgentLink, message: dict[str, Any] | None) -> None:
        if self._links.get(name) is not link:
            return
        if message is None:
            self.spawn(self._insist_on_end(name))
            return
        self._hear_agent(name, message)

    def _hear_agent(self, name: str, message: dict[str, Any]) -> None:
        match message["say"]:
            case "started":
                self._note_started(name, EngineReport.from_json(message))
            case "died":
                death = Death.from_json(message)
                self._bury_engine(name, death, leaving=bool(message.get("leaving")))
            case "hindered":
                self.hindrances[name] = message["hindrance"]
            case "refused":
                number = int(message["number"])
                self._bury_engine(name, Death(number=number, problem=message["problem"]), leaving=False)

    async def _insist_on_end(self, name: str) -> None:
        """End an agent that has hung up: nobody could tell it anything."""
        process = self.agents.get(name)
        deadline = time.monotonic() + 0.5
        while process is not None and is_running(process) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if self.agents.get(name) == process and process is not None and is_running(process):
            self._kill_agent(name)

    # Agents on other hosts.

    def _adopt_host(self, name: str) -> None:
        # The connection of the supervisor before this one, if it is still there.
        self._kill_agent(name)
        agent = lives.note_started(lives.AgentState(id=name), time.monotonic())
        self.seen = self.seen.having(lives.note_away(lives.note_ready(agent, time.monotonic())))
        self.hosts.reach(self.plan.hosts[name], "adopt")

    def note_host_up(self, name: str, landed: Landed) -> None:
        """Take an agent that is attached, for the first time or again."""
        link, process = self.hosts.lines[name].link, self.hosts.identify(name)
        if link is None or process is None:
            return
        self._links[name], self.agents[name] = link, process
        agent = self.seen.agents.get(name)
        is_back = agent is not None and agent.phase == "away"
        if is_back:
            self.history.note_event(f"agent {name}", "is within reach again")
        self._greet(name, landed.hello)
        self._note_missing(name, landed.hello)
        if is_back and not self.hosts.lines[name].is_whole:
            self._renew_engines(name)
        self._count_cores(name, landed)
        self._on_change()

    def note_host_away(self, name: str) -> None:
        """Note that the connection to an agent has ended; its engines work on."""
        self._links.pop(name, None)
        agent = self.seen.agents.get(name)
        if agent is None or not self._running:
            return
        self.seen = self.seen.having(lives.note_away(agent))
        self.history.note_event(f"agent {name}", "is out of reach: the connection to its host ended; its lease runs")
        self._on_change()
        self.poke()

    def note_host_end(self, name: str, death: Death) -> None:
        """Note that an agent has ended, or that nothing more can be known of it."""
        if self._running:
            self._bury_agent(name, death)
        else:
            self.agents.pop(name, None)

    def hear_host(self, name: str, message: dict[str, Any]) -> None:
        """Hear what an agent says."""
        if message["say"] == "log":
            self.hosts.keep_log(name, message)
        else:
            self._hear_agent(name, message)

    def _note_missing(self, name: str, hello: Mapping[str, Any]) -> None:
        """Note the deaths of engines that were told to a connection which was cut off."""
        living = {int(each["number"]) for each in hello["engines"]}
        told = {(each["number"], each.get("pid")): each for each in hello["recent"] if each["say"] == "died"}
        for number, engine in list(self.seen.engines.items()):
            if engine.agent != name or engine.phase == "absent" or number in living:
                continue
            report = self.engines.get(number)
            message = told.get((number, None if report is None else report.pid))
            death = Death(number=number, with_agent=True) if message is None else Death.from_json(message)
            self._bury_engine(name, death, leaving=False)

    def _renew_engines(self, name: str) -> None:
        """Have the engines of a host started anew: what was in its tunnel is lost with the tunnel's end here.

        A scheduler would wait for ever for what it has sent to one, and send it nothing more.
        """
        for engine in list(self.seen.engines.values()):
            if engine.agent == name and engine.phase != "absent":
                self.seen = self.seen.having(lives.note_restart(engine))
        self.history.note_event(f"agent {name}", "starts its engines anew: what their tunnel held is lost")

    def _count_cores(self, name: str, landed: Landed) -> None:
        """Have as many engines as the host has cores, where the spec says so."""
        counts = {
            place: landed.physical if group.per == "physical" else landed.cores
            for place, group in enumerate(self.plan.groups)
            if group.agent == name and group.count is None
        }
        if not counts:
            return
        self.plan = self.plan.having_counts(counts)
        taken = {*self.slots, *self.seen.engines, *(self.hub.engines if self.hub is not None else ())}
        for place, count in counts.items():
            numbers = healing.choose_numbers(taken, count)
            taken.update(numbers)
            self.slots.update(dict.fromkeys(numbers, place))
        self.save()
        self.poke()

    def _kill_agent(self, name: str) -> None:
        """Kill an agent with everything that came of it."""
        if name in self.hosts:
            self.hosts.drop(name)
            return
        kill_marked(AGENT_VARIABLE, f"{self.plan.run}-{name}")

    def _lose_agent(self, name: str, status: int | None) -> None:
        if self._running:
            process, link = self.agents.get(name), self._links.get(name)
            problem = "" if link is None else link.fault
            self._bury_agent(name, Death(status=status, pid=None if process is None else process.pid, problem=problem))
        else:
            self.agents.pop(name, None)

    def _bury_agent(self, name: str, death: Death) -> None:
        link = self._links.pop(name, None)
        # One to a host still says that its agent is to leave.
        if link is not None and name not in self.hosts:
            link.close()
        watch = self._watches.pop(name, None)
        if watch is not None:
            watch.close()
        self.agents.pop(name, None)
        self._frozen.pop(name, None)
        # Its engines die with it; what they started does not.
        self._kill_agent(name)
        log = self.plan.agent(name).log
        before = self.seen
        why = before.agents[name].why if name in before.agents else None
        self.history.note_death(f"agent {name}", death, log=log, why=why)
        self.seen = lives.lose_agent(self.seen, name, death, time.monotonic(), self.policies)
        for number, engine in before.engines.items():
            if engine.agent == name and engine.phase != "absent":
                report = self.engines.pop(number, None)
                gone = Death(number=number, with_agent=True, pid=None if report is None else report.pid)
                self.history.note_death(f"engine {number}", gone, log=str(self.plan.engine_log(number)))
                self.spawn(self._unregister(number))
        self._on_change()
        self.poke()

    # Engines.

    async def _start_engine(self, number: int, name: str) -> None:
        link, place, begun = self._links.get(name), self.slots.get(number), self.seen.engines[number].starts
        connection = read_connection_file(self.plan.controller.engine_file)
        # The number must be free, or the hub gives the newcomer another. One that nobody has spoken to knows none.
        free = not self._spoken or (self.hub is not None and await self._free(number))
        if link is None or place is None or connection is None or not free:
            self.seen = lives.lose_engine(self.seen, number, Death(number=number), time.monotonic(), self.policies)
            self.poke()
            return
        log = str(self.plan.engine_log(number))
        order = self.plan.groups[place].order(
            number, connection=connection, log=log, setups=tuple(self.setups.values())
        )
        if name in self.hosts:
            line = self.hosts.lines[name]
            try:
                order = await self.hosts.place(name, order)
            except HostError as error:
                if self.hosts.lines.get(name) is line and line.link is not None:
                    self._bury_agent(name, Death(problem=str(error.explanation), last_lines=error.explanation.lines))
                return
            link = line.link or link
        now = self.seen.engines.get(number)
        if now is None or (now.phase, now.starts) != ("starting", begun):
            # Its agent was lost meanwhile: the next start has an order of its own.
            return
        link.start_engine(order)

    async def _free(self, number: int) -> bool:
        """Have the hub forget whoever has a number; say whether it is free."""
        assert self.hub is not None
        if number not in self.hub.engines and number not in self._taken:
            return True
        self._taken.discard(number)
        return await self.hub.unregister(number, timeout=_UNREGISTER)

    def _note_started(self, name: str, report: EngineReport) -> None:
        self.engines[report.number] = report
        engine = self.seen.engines.get(report.number)
        if engine is None or engine.phase == "absent":
            # One that an earlier supervisor has started.
            engine = lives.note_started(
                lives.EngineState(number=report.number, agent=name), time.monotonic() - report.seconds
            )
            if report.phase == "ready":
                engine = lives.note_ready(engine, time.monotonic())
            self.seen = self.seen.having(engine)
        self._see_hub()
        self._on_change()

    def _stop_engine(self, number: int, *, kill: bool) -> None:
        link = self._link_of(number)
        if link is None:
            return
        if kill:
            link.signal_engine(number, signal.SIGKILL)
        else:
            link.stop_engines([number], grace=_STOP_GRACE)

    async def _drain_engine(self, number: int) -> None:
        asked = self.hub is not None and await self.hub.ask_engine(number, "drain_request", timeout=_STOP_GRACE)
        if not asked:
            self._stop_engine(number, kill=False)

    def signal_engine(self, number: int, signum: int) -> bool:
        """Send an engine a signal through its agent; say whether there is such an engine."""
        link = self._link_of(number)
        if link is not None:
            link.signal_engine(number, signum)
        return link is not None

    def _link_of(self, number: int) -> AgentLink | None:
        engine = self.seen.engines.get(number)
        return None if engine is None or engine.phase == "absent" else self._links.get(engine.agent)

    def _bury_engine(self, name: str, death: Death, *, leaving: bool) -> None:
        number = death.number
        assert number is not None
        if not self._running:
            self.killed += death.status == -signal.SIGKILL
            return
        report = self.engines.pop(number, None)
        if report is not None and death.pid not in (None, report.pid):
            # An older one, told late.
            self.engines[number] = report
            return
        if death.status == NUMBER_TAKEN:
            self._taken.add(number)
        if lives.should_lower(self.seen, number, death) and not leaving:
            self.slots.pop(number, None)
        engine = self.seen.engines.get(number)
        log = str(self.plan.engine_log(number))
        self.history.note_death(f"engine {number}", death, log=log, why=None if engine is None else engine.why)
        self.seen = lives.lose_engine(self.seen, number, death, time.monotonic(), self.policies)
        if death.uuid:
            self.spawn(self._see_to_forgetting(number, death.uuid))
        self._on_change()
        self.poke()

    async def _see_to_forgetting(self, number: int, uuid: str) -> None:
        """The agent has told the hub; one that did not hear it is told again."""
        await asyncio.sleep(_FORGOTTEN)
        if self.hub is not None and self.hub.engines.get(number) == uuid:
            await self._unregister(number)

    async def _unregister(self, number: int) -> None:
        if self.hub is not None:
            await self.hub.unregister(number, timeout=_UNREGISTER)

    # What the hub knows.

    def _see_hub(self) -> None:
        if self.hub is None:
            return
        self._known = dict(self.hub.engines)
        for number, engine in self.seen.engines.items():
            known = self._is_known(number)
            if engine.phase == "starting" and known:
                engine = lives.note_ready(engine, time.monotonic())
            if engine.phase == "ready" and engine.known and not known:
                self.spawn(self._see_to_dropped(number, engine.starts))
            else:
                self.seen = self.seen.having(lives.note_known(engine, known))
        self.poke()

    def list_joined(self) -> list[int]:
        """List the engines that the hub knows and that are not this cluster's own."""
        known = {} if self.hub is None else self.hub.engines
        return sorted(known.keys() - self.slots.keys() - self.seen.engines.keys())

    def _is_known(self, number: int) -> bool:
        """Say whether the hub knows an engine; until it is told of a death, it knows the one before."""
        uuid = None if self.hub is None else self.hub.engines.get(number)
        return uuid not in (None, self._predecessors.get(number))

    async def _see_to_dropped(self, number: int, starts: int) -> None:
        """An agent that saw its engine die tells the hub and then us; the hub may be quicker."""
        await asyncio.sleep(_NEWS)
        if self.hub is None or not await self.hub.sync(timeout=2.0):
            return
        engine = self.seen.engines.get(number)
        if engine is None or (engine.phase, engine.starts) != ("ready", starts):
            return
        if not self._is_known(number):
            self.seen = self.seen.having(lives.note_known(engine, False))
            self.poke()

    async def _sync_now_and_then(self) -> None:
        while True:
            # What the hub tells while a new subscription is on its way is lost, and the first engines may be as quick.
            engines = [self.seen.engines.get(slot.number) for slot in self.wanted.slots]
            starting = any(engine is None or not (engine.phase == "ready" or engine.given_up) for engine in engines)
            await asyncio.sleep(_SYNC_OFTEN if starting else _SYNC)
            if self.hub is not None and self.seen.controller.phase == "ready" and await self.hub.sync(timeout=2.0):
                self._see_hub()

    # What is frozen.

    async def _watch_frozen(self) -> None:
        while True:
            patience = self.plan.settings.frozen_after
            step = min(1.0, patience / 4)
            await asyncio.sleep(step)
            # Steps, not seconds: what this process slept through itself does not count.
            self._count_frozen("controller", step if self.controller.is_frozen() else None)
            if self._frozen.get("controller", 0.0) >= patience:
                self._frozen.pop("controller")
                self._killed_frozen = self.controller.process
                self.controller.kill()
            local = {name: process for name, process in self.agents.items() if name not in self.hosts}
            for name, process in local.items():
                self._count_frozen(name, step if self._is_frozen_alone(name, process) else None)
                if self._frozen.get(name, 0.0) >= patience:
                    self._frozen.pop(name)
                    self._wake_agent(name, process)

    def _count_frozen(self, name: str, step: float | None) -> None:
        if step is None:
            self._frozen.pop(name, None)
        else:
            self._frozen[name] = self._frozen.get(name, 0.0) + step

    def _is_frozen_alone(self, name: str, process: ProcessId) -> bool:
        """Say whether an agent is stopped though its engines are not: a whole host that is stopped is left alone."""
        if read_state(process.pid) != "T":
            return False
        mine = [report.pid for number, report in self.engines.items() if self._agent_of(number) == name]
        return not mine or any(read_state(pid) != "T" for pid in mine)

    def _agent_of(self, number: int) -> str | None:
        engine = self.seen.engines.get(number)
        return None if engine is None else engine.agent

    def _wake_agent(self, name: str, process: ProcessId) -> None:
        # Its engines work on without it: waking it costs nothing, killing it costs them.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        self.history.note_event(f"agent {name}", "was stopped (SIGSTOP) for too long, and was continued")


def _choose_policies(plan: RunPlan) -> lives.Policies:
    engine = lives.RestartPolicy(start_timeout=plan.start_timeout)
    return lives.Policies(engine=engine, hosts=frozenset(plan.hosts))
