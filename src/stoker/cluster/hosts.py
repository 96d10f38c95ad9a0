"""The other hosts of a cluster: a line to each, what is known of it, and orders that hold there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from stoker.agent.order import Death, EngineOrder
from stoker.cluster.run_plan import RunPlan
from stoker.launch.ssh import HostCommand
from stoker.system.files import append_log, trim_log
from stoker.system.processes import ProcessId, identify

# Loaded when there is another host.
if TYPE_CHECKING:
    from stoker.launch.host_line import HostLine
    from stoker.launch.landing import Landed
    from stoker.launch.tunnels import NearEnd

__all__ = ["HostListener", "Hosts"]

_AT_ONCE = 32
"""Hosts that are reached at the same time."""


class HostListener(Protocol):
    """Who is told what happens to hosts."""

    plan: RunPlan

    def note_host_up(self, name: str, landed: Landed) -> None:
        """Take an agent that is attached, for the first time or again."""

    def note_host_away(self, name: str) -> None:
        """Note that the connection to an agent has ended."""

    def note_host_end(self, name: str, death: Death) -> None:
        """Note that an agent has ended, or that nothing more can be known of it."""

    def hear_host(self, name: str, message: dict[str, Any]) -> None:
        """Hear what an agent says."""


class Hosts:
    """The lines to the hosts on which a cluster has agents."""

    def __init__(self, listener: HostListener) -> None:
        self._listener = listener
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._near: NearEnd | None = None
        self.lines: dict[str, HostLine] = {}
        """By the agent's name."""

    def __contains__(self, name: object) -> bool:
        return name in self.lines

    @property
    def pids(self) -> set[int]:
        """The process numbers of all that was started here to reach them."""
        near = set() if self._near is None else self._near.pids
        return near.union(*(line.pids for line in self.lines.values()))

    def reach(self, command: HostCommand, do: Literal["start", "adopt"]) -> None:
        """Begin to reach a host, and start an agent there, or adopt the one that runs."""
        from stoker.launch.host_line import HostLine
        from stoker.launch.tunnels import NearEnd

        name = command.name
        listener = self._listener
        if self._near is None:
            self._near = NearEnd(Path(command.near), command.target, lease=listener.plan.settings.lease)

        def is_there() -> bool:
            return self.lines.get(name) is line

        def guard(tell: Callable[..., None]) -> Callable[..., None]:
            # What a line says that was given up is of no interest any more.
            return lambda *words: tell(name, *words) if is_there() else None

        line = HostLine(
            command,
            listener.plan.settings,
            gate=self._gate,
            near=self._near,
            on_up=guard(listener.note_host_up),
            on_away=guard(listener.note_host_away),
            on_end=guard(listener.note_host_end),
            hear=guard(listener.hear_host),
        )
        self.lines[name] = line
        line.begin(do)

    def identify(self, name: str) -> ProcessId | None:
        """Give the process here that is the connection to a host."""
        process = self.lines[name].process
        return None if process is None else identify(process.pid)

    def drop(self, name: str) -> None:
        """End an agent, where it is within reach, and the line to it."""
        line = self.lines.pop(name, None)
        if line is not None:
            line.leave(grace=0.0)

    async def place(self, name: str, order: EngineOrder) -> EngineOrder:
        """Give an order for an engine as it holds on a host.

        Raises:
            HostError: Engines there cannot reach the controller.
        """
        line = self.lines[name]
        connection = await line.route(order.connection)
        landed = line.landed
        assert landed is not None
        work_dir = None if order.work_dir is None else str(Path(landed.home) / order.work_dir)
        return replace(
            order,
            connection=connection,
            log=str(Path(landed.logs) / Path(order.log).name),
            arguments=(f"--profile-dir={landed.runtime}/profile", *order.arguments),
            work_dir=work_dir,
        )

    async def close(self) -> None:
        """Let go of all hosts, at the end of the cluster; agents that were not told to leave go on for their lease."""
        for line in self.lines.values():
            line.close()
        if self._near is not None:
            await self._near.end()

    def keep_log(self, name: str, message: Mapping[str, Any]) -> None:
        """Write what an agent tells of a log to the one here."""
        plan, number = self._listener.plan, message["number"]
        path = Path(plan.agent(name).log) if number is None else plan.engine_log(int(number))
        append_log(path, message["text"])
        trim_log(path, plan.settings.log_limit)

    def describe(self, name: str) -> dict[str, Any]:
        """Give what is known of an agent on a host for the status."""
        line = self.lines.get(name)
        link = None if line is None else line.link
        usage = {} if link is None else link.usage
        found = {key: usage.get(key) for key in ("pid", "seconds", "memory", "cpu")}
        return {**found, "way": "" if line is None else line.way}
