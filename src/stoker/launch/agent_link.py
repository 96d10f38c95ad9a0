"""The supervisor's end of the wire to an agent: start one, or attach to one that runs. For an asyncio loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stoker
from stoker.agent.order import EngineOrder
from stoker.agent.wire import VERSION, LineBuffer, encode_line
from stoker.errors import StokerError
from stoker.system.files import open_private
from stoker.system.processes import ProcessId, identify

__all__ = ["AgentCommand", "AgentLink", "AgentSettings"]

_PIECE = 1 << 16
_HELLO = 30.0
_MOST_NOISE = 4096
_BEATS = 8
"""How often within a lease the agent hears of its supervisor at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCommand:
    """How to start an agent."""

    name: str
    """Tells it from the others of its cluster."""

    python: str | None
    """The interpreter; None: this one."""

    env: Mapping[str, str]
    """Environment variables in addition to this process's."""

    cwd: str
    log: str
    socket: str
    tidy: bool = False
    """Whether it removes the directory of its socket when it leaves."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The program and its arguments. No key is among them."""
        arguments = ("--socket", self.socket, "--log", self.log, *(("--tidy",) if self.tidy else ()))
        if self.python is None or self.python == sys.executable:
            return (sys.executable, "-m", "stoker.agent", *arguments)
        # Stoker need not be installed there: the agent's modules come from here, and nothing else does.
        place = str(Path(stoker.__file__).parent.parent)
        return (self.python, "-c", _BOOTSTRAP, place, *arguments)


_BOOTSTRAP = """
import importlib, sys
place = sys.argv.pop(1)
sys.path.insert(0, place)
importlib.import_module("stoker")
sys.path.remove(place)
sys.argv[0] = "stoker.agent"
importlib.import_module("stoker.agent.__main__").main()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """What an agent keeps to."""

    lease: float
    """Seconds of its own running time that it goes on without a supervisor."""

    frozen_after: float = 5.0
    """Seconds that an engine may be stopped before it is killed."""

    log_limit: int = 10_000_000
    """Bytes a log may have."""


class AgentLink:
    """A connection to one agent. What the agent says comes to a callback; ``None`` when the connection ends."""

    def __init__(self, hear: Callable[[dict[str, Any] | None], None]) -> None:
        self._hear = hear
        self._reader: int | None = None
        self._writer: int | None = None
        self._unsent = bytearray()
        self._buffer = LineBuffer()
        self._loop = asyncio.get_running_loop()
        self._hello: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._beats: asyncio.Task[None] | None = None
        self._asked = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._skip: bytes | None = None
        self.noise = bytearray()
        """What came before the first message of a host."""
        self.usage: dict[str, Any] = {}
        """What the agent last told of its own process."""
        self.process: subprocess.Popen[bytes] | None = None
        """The agent's process, where this one started it."""
        self.fault = ""
        """Why nothing can be had from it; empty where that is not so."""

    @property
    def is_open(self) -> bool:
        """Whether the agent still listens."""
        return self._writer is not None

    def start(self, command: AgentCommand) -> ProcessId:
        """Start an agent.

        Raises:
            OSError: It cannot be started.
        """
        # A plain file beside it gets what it prints before it takes its log itself.
        with open(command.log, "ab", opener=open_private) as log:
            self.process = subprocess.Popen(
                command.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=command.cwd,
                env={**os.environ, **command.env},
                start_new_session=True,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        # These objects would close the handles a second time.
        reader, writer = os.dup(self.process.stdout.fileno()), os.dup(self.process.stdin.fileno())
        self.process.stdout.close()
        self.process.stdin.close()
        self._open(reader, writer)
        return identify(self.process.pid) or ProcessId(pid=self.process.pid, started=0)

    def take_over(self, reader: int, writer: int, *, first: bytes, marker: bytes) -> None:
        """Speak with what is at the other end of two handles.

        Args:
            reader: Where it is heard.
            writer: Where it is spoken to.
            first: What is sent before any message.
            marker: What comes in before any message; what is before that is noise.
        """
        self._skip = marker
        self._unsent += first
        self._open(reader, writer)
        self._flush()

    async def connect(self, socket: str) -> None:
        """Attach to an agent that runs.

        Raises:
            OSError: Nobody listens there.
        """
        import socket as sockets

        peer = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        peer.setblocking(False)
        try:
            await asyncio.wait_for(self._loop.sock_connect(peer, socket), 5.0)
        except BaseException:
            peer.close()
            raise
        handle = peer.detach()
        self._open(handle, os.dup(handle))

    async def attach(self, settings: AgentSettings, *, feeds_logs: bool = False) -> dict[str, Any]:
        """Become its supervisor, and give what it says of itself.

        Args:
            settings: What it is to keep to.
            feeds_logs: Whether it tells what is written to its logs and its engines'.

        Raises:
            StokerError: It refuses, or does not answer.
        """
        more = {"feeds_logs": True} if feeds_logs else {}
        self.say({"do": "attach", "version": VERSION, **_render(settings), **more})
        try:
            hello = await asyncio.wait_for(asyncio.shield(self._hello), _HELLO)
        except TimeoutError:
            self.fault = f"it did not answer within {_HELLO:g} s"
            raise StokerError(self.fault) from None
        self._beats = self._loop.create_task(self._beat(settings.lease / _BEATS))
        return hello

    def settle(self, settings: AgentSettings) -> None:
        """Tell it new settings."""
        self.say({"do": "settings", **_render(settings)})

    def start_engine(self, order: EngineOrder) -> None:
        """Have it start an engine; it answers ``started`` or ``refused``."""
        self.say({"do": "start", "order": order.to_json()})

    def stop_engines(self, numbers: Sequence[int] | None, *, grace: float) -> None:
        """Have it end engines."""
        self.say({"do": "stop", "numbers": None if numbers is None else list(numbers), "grace": grace})

    def signal_engine(self, number: int, signum: int) -> None:
        """Have it send an engine a signal."""
        self.say({"do": "signal", "number": number, "signum": int(signum)})

    def leave(self, *, grace: float, tells_hub: bool = False) -> None:
        """Have it end its engines and leave.

        Args:
            grace: Seconds that engines have to end by themselves.
            tells_hub: Whether it tells the hub that they are gone; needless where that ends, too.
        """
        self.say({"do": "leave", "grace": grace, "tells_hub": tells_hub})

    async def report(self, *, memory: bool, timeout: float) -> list[dict[str, Any]]:
        """Ask how its engines are.

        Raises:
            TimeoutError: It does not answer.
        """
        answer = await self.ask("report", timeout=timeout, memory=memory)
        self.usage = answer.get("agent", {})
        engines: list[dict[str, Any]] = answer["engines"]
        return engines

    async def ask(self, do: str, *, timeout: float, **words: Any) -> dict[str, Any]:
        """Ask it for something, and give its answer.

        Raises:
            TimeoutError: It does not answer.
        """
        self._asked += 1
        number = self._asked
        answer = self._answers[number] = self._loop.create_future()
        self.say({"do": do, "id": number, **words})
        try:
            return await asyncio.wait_for(answer, timeout)
        finally:
            del self._answers[number]

    def say(self, message: Mapping[str, Any]) -> None:
        """Send it something; nothing where the connection has ended."""
        if self._writer is None:
            return
        waited = bool(self._unsent)
        self._unsent += encode_line(message)
        if not waited:
            self._flush()

    def close(self) -> None:
        """End the connection; the agent goes on for its lease."""
        if self._beats is not None:
            self._beats.cancel()
        if self._reader is None or self._writer is None:
            return
        self._loop.remove_reader(self._reader)
        self._loop.remove_writer(self._writer)
        os.close(self._reader)
        os.close(self._writer)
        self._reader = self._writer = None

    def _open(self, reader: int, writer: int) -> None:
        for handle in (reader, writer):
            os.set_blocking(handle, False)
        self._reader, self._writer = reader, writer
        self._loop.add_reader(reader, self._read)

    def _read(self) -> None:
        assert self._reader is not None
        try:
            data = os.read(self._reader, _PIECE)
            messages = self._buffer.feed(self._cut(data)) if data else []
        except BlockingIOError:
            return
        except OSError:
            data, messages = b"", []
        except StokerError as error:
            # Such as what a program in place of Python prints.
            self.fault = f"it said what is none of its messages: {error}"
            data, messages = b"", []
        for message in messages:
            self._take(message)
        if not data:
            self._end()

    def _cut(self, data: bytes) -> bytes:
        """Give what comes after the marker."""
        if self._skip is None:
            return data
        self.noise += data
        before, found, rest = bytes(self.noise).partition(self._skip)
        if not found:
            # The marker may be in two pieces.
            del self.noise[:-_MOST_NOISE]
            return b""
        self.noise[:] = before[-_MOST_NOISE:]
        self._skip = None
        self._hear({"say": "shell"})
        return rest

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("say") in ("answer", "report"):
            answer = self._answers.get(message["id"])
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif message.get("say") == "hello":
            if not self._hello.done():
                self._hello.set_result(message)
        elif message.get("say") == "refused" and "number" not in message:
            if not self._hello.done():
                self._hello.set_exception(StokerError(message["problem"]))
        else:
            self._hear(message)

    def _end(self) -> None:
        self.close()
        if not self._hello.done():
            self._hello.set_exception(StokerError("the agent ended before it answered"))
            # Perhaps nobody asks any more.
            with contextlib.suppress(StokerError):
                self._hello.exception()
        for each in self._answers.values():
            if not each.done():
                each.set_exception(TimeoutError())
        self._hear(None)

    def _flush(self) -> None:
        if self._writer is None:
            return
        try:
            while self._unsent:
                sent = os.write(self._writer, self._unsent[:_PIECE])
                del self._unsent[:sent]
        except BlockingIOError:
            self._loop.add_writer(self._writer, self._flush)
            return
        except OSError:
            # The reader will see the end too.
            self._unsent.clear()
        self._loop.remove_writer(self._writer)

    async def _beat(self, period: float) -> None:
        while self._writer is not None:
            await asyncio.sleep(min(period, 5.0))
            self.say({"do": "beat"})


def _render(settings: AgentSettings) -> dict[str, float]:
    return {"lease": settings.lease, "frozen_after": settings.frozen_after, "log_limit": settings.log_limit}
