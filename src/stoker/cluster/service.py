"""The control socket: what the supervisor can be asked, one JSON object a line, each answered by one.

A request has ``version``, ``do`` and what that needs; the answer has ``ok``, and ``error`` where it is false.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from stoker.agent.order import EngineReport
from stoker.cluster import healing, lives
from stoker.cluster.run_plan import RunPlan
from stoker.cluster.supervisor import Supervisor
from stoker.errors import StokerError
from stoker.launch.agent_link import AgentCommand
from stoker.launch.ssh import HostCommand
from stoker.launch.supervisor_line import VERSION
from stoker.system.processes import ProcessId, find_marked, identify, read_age
from stoker.system.runtime import listen
from stoker.system.usage import read_usage

__all__ = ["Service"]

_LONGEST = 256 * 1024 * 1024
_REPORT = 3.0
_POLL = 0.02

_Answer = dict[str, Any]


class Service:
    """Answers for a supervisor."""

    def __init__(self, supervisor: Supervisor, *, run_variable: str) -> None:
        self._supervisor = supervisor
        self._run_variable = run_variable
        self._server: asyncio.Server | None = None
        self.down = asyncio.Event()
        """Set when somebody has ordered the end."""
        self.finished: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        """What those who ordered it are told."""
        self._requests: dict[str, Callable[[Mapping[str, Any]], Awaitable[_Answer]]] = {
            "hello": self._hello,
            "status": self._status,
            "scale": self._scale,
            "restart": self._restart,
            "signal": self._signal,
            "update": self._update,
            "setup": self._setup,
            "wait": self._wait,
            "down": self._down,
        }

    async def open(self) -> None:
        """Begin to answer."""
        listener = listen(self._supervisor.plan.control_socket)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_LONGEST)

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> _Answer:
        try:
            request = json.loads(line)
            if request.get("version") != VERSION:
                raise StokerError(
                    f"this supervisor speaks version {VERSION} of the protocol; update stoker, or restart"
                )
            answer = self._requests.get(request.get("do", ""))
            if answer is None:
                raise StokerError(f"no such request: {request.get('do')}")
            return {"ok": True, **await answer(request)}
        except StokerError as error:
            return {"ok": False, "error": str(error)}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return {"ok": False, "error": f"a request that is none: {type(error).__name__}: {error}"}

    # Requests.

    async def _hello(self, request: Mapping[str, Any]) -> _Answer:
        return {"pid": os.getpid(), "hindrances": self._supervisor.hindrances}

    async def _status(self, request: Mapping[str, Any]) -> _Answer:
        supervisor, history = self._supervisor, self._supervisor.history
        reports = await self._report(memory=bool(request.get("memory", True)))
        hub = supervisor.hub
        answers = hub is not None and await hub.sync(timeout=2.0)
        controller = supervisor.controller.process
        return {
            "joined": supervisor.list_joined(),
            "supervisor": self._describe(identify(os.getpid()), "supervisor"),
            "controller": {
                **self._describe(controller, "controller", children=True),
                "phase": supervisor.seen.controller.phase,
                "answers": answers,
            },
            "agents": [
                {
                    "name": agent.name,
                    "host": "" if isinstance(agent, AgentCommand) else agent.address,
                    "way": "",
                    "phase": _phase(supervisor.seen.agents.get(agent.name)),
                    "hindrance": supervisor.hindrances.get(agent.name, ""),
                    "log": agent.log,
                    **self._describe_agent(agent),
                }
                for agent in supervisor.plan.agents
            ],
            "engines": [
                self._describe_engine(number, reports.get(number)) for number in sorted({*supervisor.slots, *reports})
            ],
            "events": history.to_json()["events"],
            "plan": {
                "source": supervisor.plan.source,
                "encrypted": supervisor.plan.encrypted,
                "lease": supervisor.plan.settings.lease,
            },
        }

    async def _scale(self, request: Mapping[str, Any]) -> _Answer:
        supervisor = self._supervisor
        places = 1 + max(group.group for group in supervisor.plan.groups)
        group, count = request.get("group"), int(request["count"])
        if group is None and places > 1:
            raise StokerError(f"this cluster has {places} groups of engines: say which, 0 to {places - 1} (--group)")
        place = supervisor.plan.groups[0].group if group is None else int(group)
        mine = {n: each.count for n, each in enumerate(supervisor.plan.groups) if each.group == place}
        if not mine:
            raise StokerError(f"no group {place}: this cluster has {places}, counted from 0")
        if count < 0:
            raise StokerError(f"engines cannot be fewer than 0, got {count}")
        present = {each: sum(slot == each for slot in supervisor.slots.values()) for each in mine}
        added: list[int] = []
        leaving: list[int] = []
        for each, share in healing.share_out(count, present).items():
            more, fewer = await self._resize(each, share)
            added += more
            leaving += fewer
        timeout = supervisor.plan.start_timeout
        await self._until(lambda: all(_is_ready(supervisor.seen, n) for n in added), timeout, "the new engines")
        return {"added": added, "leaving": leaving, "wanted": len(supervisor.slots)}

    async def _restart(self, request: Mapping[str, Any]) -> _Answer:
        supervisor = self._supervisor
        timeout = supervisor.plan.start_timeout
        if request.get("controller"):
            before = supervisor.seen.controller.starts
            supervisor.seen = supervisor.seen.having(lives.note_restart(supervisor.seen.controller))
            supervisor.history.given_up.pop("controller", None)
            supervisor.poke()
            await self._until(
                lambda: supervisor.seen.controller.starts > before and supervisor.seen.controller.phase == "ready",
                timeout,
                "the controller",
            )
            return {"restarted": ["controller"]}
        numbers = [self._check_engine(request["engine"])] if request.get("engine") is not None else [*supervisor.slots]
        before_starts = {}
        for number in numbers:
            engine = supervisor.seen.engines.get(number)
            if engine is not None:
                before_starts[number] = engine.starts
                supervisor.seen = supervisor.seen.having(lives.note_restart(engine))
                supervisor.history.given_up.pop(f"engine {number}", None)
        supervisor.poke()
        await self._until(
            lambda: all(
                _is_ready(supervisor.seen, number) and supervisor.seen.engines[number].starts > starts
                for number, starts in before_starts.items()
            ),
            timeout,
            "the engines",
        )
        return {"restarted": [f"engine {number}" for number in numbers]}

    async def _signal(self, request: Mapping[str, Any]) -> _Answer:
        wanted = request.get("engine")
        numbers = [*self._supervisor.slots] if wanted is None else [self._check_engine(wanted)]
        signum = signal.Signals(int(request["signum"]))
        told = [number for number in numbers if self._supervisor.signal_engine(number, signum)]
        return {"engines": told}

    async def _update(self, request: Mapping[str, Any]) -> _Answer:
        """Take a plan whose differences can be made live: counts, further groups, lease, limits."""
        supervisor = self._supervisor
        plan = RunPlan.from_json(request["plan"])
        supervisor.change_plan(plan)
        added: list[int] = []
        leaving: list[int] = []
        for place, group in enumerate(supervisor.plan.groups):
            if group.count is None:
                # Its host is still to be counted.
                continue
            more, fewer = await self._resize(place, group.count)
            added += more
            leaving += fewer
        await self._until(
            lambda: all(_is_ready(supervisor.seen, number) for number in added), plan.start_timeout, "the new engines"
        )
        return {"added": added, "leaving": leaving}

    async def _setup(self, request: Mapping[str, Any]) -> _Answer:
        self._supervisor.setups[str(request["name"])] = str(request["packed"])
        self._supervisor.save()
        return {}

    async def _wait(self, request: Mapping[str, Any]) -> _Answer:
        timeout = float(request["within"])
        await self._until(lambda: self._supervisor.is_whole, timeout, "the cluster")
        return {}

    async def _down(self, request: Mapping[str, Any]) -> _Answer:
        self.down.set()
        return await asyncio.shield(self.finished)

    # Parts of them.

    async def _resize(self, place: int, count: int) -> tuple[list[int], list[int]]:
        supervisor = self._supervisor
        mine = [number for number, group in supervisor.slots.items() if group == place]
        if count > len(mine):
            strangers = () if supervisor.hub is None else supervisor.hub.engines
            taken = {
                *strangers,
                *supervisor.slots,
                *(n for n, each in supervisor.seen.engines.items() if each.phase != "absent"),
            }
            added = list(healing.choose_numbers(taken, count - len(mine)))
            supervisor.slots.update(dict.fromkeys(added, place))
            leaving: list[int] = []
        else:
            added = []
            reports = await self._report(memory=False) if count < len(mine) else {}
            busy = {number: _is_busy(reports.get(number)) for number in mine}
            leaving = list(healing.choose_to_leave(busy, len(mine) - count))
            for number in leaving:
                supervisor.slots.pop(number, None)
        supervisor.save()
        supervisor.poke()
        return added, leaving

    def _check_engine(self, number: object) -> int:
        numbers = sorted(self._supervisor.slots)
        if number not in numbers:
            listed = ", ".join(map(str, numbers)) or "none"
            raise StokerError(f"no engine {number}; there are: {listed}")
        assert isinstance(number, int)
        return number

    async def _until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        given_up = self._supervisor.history.given_up
        # Engines that were down before are not waited for.
        before = {who for who in given_up if who.startswith("engine ")}
        while not condition():
            if fresh := {who: cause for who, cause in given_up.items() if who not in before}:
                causes = "; ".join(f"{who}: {cause}" for who, cause in fresh.items())
                raise StokerError(f"{what} did not come up: {causes}; stoker logs tells more")
            if time.monotonic() > deadline:
                raise StokerError(f"{what} did not come up within {timeout:g} s; stoker status tells more")
            await asyncio.sleep(_POLL)

    async def _report(self, *, memory: bool) -> dict[int, EngineReport]:
        reports: dict[int, EngineReport] = {}
        for each in await self._supervisor.report(memory=memory, timeout=_REPORT):
            reports[each.number] = each
        return reports

    def _describe(self, process: ProcessId | None, who: str, *, children: bool = False) -> _Answer:
        history = self._supervisor.history
        death = history.last_death(who)
        found: _Answer = {
            "pid": None if process is None else process.pid,
            "restarts": history.deaths[who],
            "last_death": None if death is None else asdict(death),
            "given_up": history.given_up.get(who, ""),
            "seconds": None,
            "memory": None,
            "cpu": None,
        }
        if process is None:
            return found
        pids = [process.pid, *(self._supervisor.controller.list_children() if children else ())]
        usages = [read_usage(pid) for pid in pids]
        found["seconds"] = read_age(process)
        found["memory"] = sum(usage.pss or 0 for usage in usages) or None
        found["cpu"] = sum(usage.cpu or 0.0 for usage in usages)
        return found

    def _describe_agent(self, agent: AgentCommand | HostCommand) -> _Answer:
        supervisor, who = self._supervisor, f"agent {agent.name}"
        if isinstance(agent, AgentCommand):
            return self._describe(supervisor.agents.get(agent.name), who)
        return {**self._describe(None, who), **supervisor.hosts.describe(agent.name)}

    def _describe_engine(self, number: int, report: EngineReport | None) -> _Answer:
        supervisor = self._supervisor
        who, place = f"engine {number}", supervisor.slots.get(number)
        engine = supervisor.seen.engines.get(number)
        death = supervisor.history.last_death(who)
        return {
            "number": number,
            "group": None if place is None else supervisor.plan.groups[place].group,
            "host": "" if place is None else supervisor.plan.groups[place].host,
            "phase": self._phase_of(engine),
            "pid": None if report is None else report.pid,
            "process_state": None if report is None else report.state,
            "seconds": None if report is None else report.seconds,
            "busy": 0.0 if report is None else report.busy,
            "tasks_done": 0 if report is None else report.tasks_done,
            "cpu": None if report is None else report.cpu,
            "memory": None if report is None else report.pss,
            "uss": None if report is None else report.uss,
            "peak": None if report is None else report.peak,
            "restarts": supervisor.history.deaths[who],
            "last_death": None if death is None else asdict(death),
            "given_up": supervisor.history.given_up.get(who, ""),
            "log": str(supervisor.plan.engine_log(number)),
        }

    def _phase_of(self, engine: lives.EngineState | None) -> str:
        agent = None if engine is None else self._supervisor.seen.agents.get(engine.agent)
        if engine is not None and engine.phase == "ready" and agent is not None and agent.phase == "away":
            return "away"
        return _phase(engine)

    def count_processes(self) -> int:
        """Count the processes of the cluster that run, this one not among them."""
        found = find_marked(self._run_variable, self._supervisor.plan.run)
        return sum(process.pid != os.getpid() for process in found)


def _phase(life: lives.Life | None) -> str:
    if life is None:
        return "absent"
    return "given up" if life.given_up else life.phase


def _is_ready(seen: lives.Seen, number: int) -> bool:
    engine = seen.engines.get(number)
    return engine is not None and engine.phase == "ready"


def _is_busy(report: EngineReport | None) -> bool | None:
    return None if report is None or report.phase == "starting" else report.busy > 0
