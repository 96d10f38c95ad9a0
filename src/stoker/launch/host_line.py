"""The line to one host: an agent there, kept within reach over one ssh connection, which is made again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from stoker.agent.order import Death
from stoker.agent.tunnel import name_interface
from stoker.errors import HostError, HostFault, HostGoneError, StokerError
from stoker.launch.addresses import list_addresses, list_engine_ports
from stoker.launch.agent_link import AgentLink, AgentSettings
from stoker.launch.explanation import Evidence, Stage, explain
from stoker.launch.landing import Landed, Landing
from stoker.launch.ssh import HostCommand, render_forward
from stoker.launch.tunnels import NearEnd
from stoker.system.clocks import RunningClock

__all__ = ["HostLine"]

_PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Seconds between two attempts to reach the host again; the last is repeated."""
_STEP = 10.0
"""Seconds between two looks at the clock that are still believed."""
_ANSWER = 8.0
_FORWARD = 8.0
_POLL = 0.02


class HostLine:
    """Keeps one agent within reach. For an asyncio loop."""

    def __init__(
        self,
        command: HostCommand,
        settings: AgentSettings,
        *,
        gate: asyncio.Semaphore,
        near: NearEnd,
        on_up: Callable[[Landed], None],
        on_away: Callable[[], None],
        on_end: Callable[[Death], None],
        hear: Callable[[dict[str, Any]], None],
    ) -> None:
        """Prepare.

        Args:
            command: How the host is reached.
            settings: What the agent is to keep to.
            gate: How many hosts are reached at the same time.
            near: The near end of the cluster's tunnels, should one be needed.
            on_up: Told when the agent is attached, for the first time or again.
            on_away: Told when the connection has ended; the agent's lease runs.
            on_end: Told, once, when the agent has ended or nothing more can be known of it.
            hear: Told what the agent says.
        """
        self.command = command
        self.settings = settings
        self.landed: Landed | None = None
        self.way = ""
        """How engines there reach the controller: its address, or ``tunnel``; empty while nobody knows."""
        self.is_whole = True
        """Whether the tunnel has lost nothing since the connection before."""
        self._gate = gate
        self._near = near
        self._on_up, self._on_away, self._on_end, self._hear = on_up, on_away, on_end, hear
        self._landing: Landing | None = None
        self._up: Landing | None = None
        self._helpers: set[subprocess.Popen[bytes]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._finding = asyncio.Lock()
        self._tunnels = 0
        self._ports: list[int] = []
        self._is_closing = False

    @property
    def link(self) -> AgentLink | None:
        """The connection to the agent; None while there is none."""
        return self._up.link if self._up is not None and self._up.link.is_open else None

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The ssh that is the connection, or tries to be."""
        return None if self._landing is None else self._landing.process

    @property
    def pids(self) -> set[int]:
        """The process numbers of what this has started and waits for."""
        processes = [*self._helpers, *([] if self.process is None else [self.process])]
        return {process.pid for process in processes if process.returncode is None}

    def begin(self, do: Literal["start", "adopt"]) -> None:
        """Begin to reach the host, and start an agent there, or adopt the one that runs."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep(do))

    def close(self) -> None:
        """Hang up; the agent goes on for its lease, unless it was told to leave."""
        self._is_closing = True
        if self._keeper is not None:
            self._keeper.cancel()
        if self._landing is not None:
            self._landing.close()

    def leave(self, *, grace: float) -> None:
        """Have the agent end its engines and leave; the connection ends with it."""
        self._is_closing = True
        link = self.link
        if link is None:
            self.close()
        else:
            link.leave(grace=grace)

    # The connection.

    async def _keep(self, do: Literal["start", "adopt"]) -> None:
        try:
            if do == "start":
                await self._land("start")
            else:
                await self._find_again()
            while True:
                await self._lost.wait()
                await self._reap()
                if self._landing is not None and self._landing.end is not None:
                    end = self._landing.end
                    self._finish(Death(status=end.get("status"), last_lines=tuple(end.get("lines", ()))))
                    return
                if self._is_closing:
                    return
                self._on_away()
                if self._landing is not None and self._landing.is_replaced:
                    # It comes back well before the lease ends, should the other have gone.
                    await asyncio.sleep(self.settings.lease / 4)
                await self._find_again()
        except HostGoneError:
            await self._reap()
            self._finish(Death(problem="it ended while its host was out of reach"))
        except HostError as error:
            await self._reap()
            explanation = error.explanation
            self._finish(Death(problem=str(explanation), last_lines=explanation.lines))

    async def _find_again(self) -> None:
        """Reach the agent again before its lease is over.

        Raises:
            HostGoneError: It has ended.
            HostError: It was out of reach for too long; and why it still is.
        """
        clock = RunningClock(time.monotonic(), most=_STEP)
        for attempt in itertools.count():
            try:
                await self._land("connect")
                return
            except HostError as error:
                if clock.look(time.monotonic()) >= self.settings.lease:
                    raise _expire(error, self.settings.lease) from None
            await self._reap()
            await asyncio.sleep(_PAUSES[min(attempt + 1, len(_PAUSES) - 1)])

    async def _land(self, do: Literal["start", "connect"]) -> None:
        async with self._gate:
            landing = self._landing = Landing(self.command, hear=lambda message: self._take(landing, message))
            landed = await landing.run(do, self.settings)
        self._lost.clear()
        self.landed, self._up, self.is_whole = landed, landing, True
        # Those of engines that another process has led through a tunnel, too.
        self._ports = self._ports or list(landed.hello["tunnel"])
        if self._ports:
            self.way = "tunnel"
            try:
                await self._open_tunnel(self._ports)
            except HostError:
                landing.close()
                raise
        self._on_up(landed)
        landing.release()

    def _take(self, landing: Landing, message: dict[str, Any] | None) -> None:
        if landing is not self._landing:
            return
        if message is None:
            self._lost.set()
        else:
            self._hear(message)

    async def _reap(self) -> None:
        """Wait for the end of an ssh whose connection has ended."""
        if self._landing is None or self._landing.process is None:
            return
        process = self._landing.process
        self._landing.close()
        for patience in (20, 100):
            for _ in range(patience):
                if process.poll() is not None:
                    return
                await asyncio.sleep(_POLL)
            process.kill()

    def _finish(self, death: Death) -> None:
        if not self._is_closing:
            self._on_end(death)

    # The way back.

    async def route(self, connection: Mapping[str, Any]) -> dict[str, Any]:
        """Give the engines' connection file as it holds on this host.

        Args:
            connection: Its content as the controller wrote it; holds keys.

        Raises:
            HostError: Engines there cannot reach the controller.
        """
        async with self._finding:
            if not self.way:
                self.way = await self._find_way(connection)
        landed = self.landed
        assert landed is not None
        if self.way == "tunnel":
            return {**connection, "interface": name_interface(landed.runtime)}
        return {**connection, "interface": f"tcp://{self.way}", "location": self.way}

    async def _find_way(self, connection: Mapping[str, Any]) -> str:
        command = self.command
        if command.tunnel is not True:
            if command.location is not None:
                return command.location
            address, problem = await self._ask_reach(connection)
            if address is not None:
                return address
            if command.tunnel is False:
                raise self._describe("connect back", {"problem": problem})
        ports = list_engine_ports(connection)
        await self._open_tunnel(ports)
        self._ports = ports
        return "tunnel"

    async def _ask_reach(self, connection: Mapping[str, Any]) -> tuple[str | None, str]:
        link, landed = self.link, self.landed
        addresses = list_addresses(connection, seen_as="" if landed is None else landed.client)
        if not addresses:
            return None, "it listens on this machine's loopback only"
        if link is None:
            raise self._describe("connect back", {"problem": "the connection ended"})
        port = int(connection["registration"])
        try:
            answer = await link.ask("reach", timeout=_ANSWER, addresses=addresses, port=port)
        except TimeoutError:
            raise self._describe("connect back", {"problem": "its agent does not answer"}) from None
        problems = ", ".join(f"{address}:{port} {why}" for address, why in answer["problems"].items())
        return answer["address"], problems

    async def _open_tunnel(self, ports: Sequence[int]) -> None:
        landing, link = self._up, self.link
        if landing is None or link is None:
            raise self._describe("connect back", {"problem": "the connection ended"})
        self._tunnels += 1
        try:
            ended = await self._near.hold()
        except StokerError as error:
            raise self._describe("connect back", {"problem": str(error)}) from error
        try:
            place = await link.ask("tunnel", timeout=_ANSWER, number=self._tunnels)
            await self._forward(landing, place["carrier"])
            answer = await link.ask("use tunnel", timeout=_ANSWER, carrier=place["carrier"], ports=list(ports))
        except TimeoutError:
            raise self._describe("connect back", {"problem": "its agent does not answer"}) from None
        except OSError as error:
            problem = f"ssh cannot be run: {error.strerror}"
            raise self._describe("connect back", {"problem": problem}) from error
        if answer["problem"]:
            raise self._describe("connect back", {"problem": answer["problem"]})
        self.is_whole = answer["whole"]
        # Without it the tunnel leads nowhere; with a new connection there is a new one.
        ended.add_done_callback(lambda task: None if task.cancelled() else self._hang_up(landing))

    def _hang_up(self, landing: Landing) -> None:
        if landing is self._landing and not self._is_closing:
            landing.close()
            self._lost.set()

    async def _forward(self, landing: Landing, carrier: str) -> None:
        argv = render_forward(self.command, carrier=carrier)
        helper = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **self.command.env},
            start_new_session=True,
        )
        self._helpers.add(helper)
        assert helper.stderr is not None
        try:
            deadline = time.monotonic() + _FORWARD
            while helper.poll() is None:
                if time.monotonic() > deadline:
                    raise TimeoutError
                await asyncio.sleep(_POLL)
            lines = helper.stderr.read().decode(errors="replace").splitlines()
            if helper.returncode != 0:
                errors = [line for line in lines if not line.startswith("debug1: ")]
                raise self._describe("connect back", {}, errors=(*landing.read_errors(), *errors))
        finally:
            helper.stderr.close()
            if helper.returncode is None:
                helper.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    helper.wait(1.0)
            self._helpers.discard(helper)

    def _describe(self, stage: Stage, failure: Mapping[str, Any], *, errors: tuple[str, ...] = ()) -> HostError:
        return HostError(explain(Evidence(host=self.command.address, stage=stage, failure=failure, errors=errors)))


def _expire(error: HostError, lease: float) -> HostError:
    last = error.explanation
    return HostError(
        HostFault(
            host=last.host,
            stage=last.stage,
            cause=f"out of reach for the {lease:g} s of its lease, so that its engines have ended; last: {last.cause}",
            step=last.step,
            lines=last.lines,
        )
    )
