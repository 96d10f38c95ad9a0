"""Landing: from nothing to an attached agent on a host, stage by stage over one ssh connection, each within a bound."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stoker.errors import HostError, HostGoneError, StokerError
from stoker.launch.agent_link import AgentLink, AgentSettings
from stoker.launch.cargo import pack_cargo, read_bootstrap
from stoker.launch.explanation import STAGES, Evidence, Stage, explain, read_stage
from stoker.launch.ssh import MARKER, HostCommand, render_program, render_ssh
from stoker.system.files import append_log

__all__ = ["Landed", "Landing"]

_BOUNDS: Mapping[Stage, float] = {
    "resolve": 8.0,
    "connect": 8.0,
    "authenticate": 10.0,
    "shell": 10.0,
    "python": 10.0,
    "import": 30.0,
    "agent": 10.0,
}
"""Seconds that each stage may take."""
_KEPT_LINES = 50
_ENDING = 1.0
_POLL = 0.02
_NEXT: Mapping[str, Stage] = {"shell": "python", "python": "import", "imported": "agent"}
"""What begins with what is said."""
_PLACE = ("runtime", "logs", "home", "cores", "physical", "client")
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """What is known of a host once its agent is attached."""

    runtime: str
    """The agent's runtime directory there."""

    logs: str
    """The directory of the logs there."""

    home: str
    cores: int
    physical: int
    """As of ``Cores``."""

    client: str
    """The address of this machine as the host sees it; empty where it does not tell."""

    hello: Mapping[str, Any]
    """What the agent says of itself."""


class Landing:
    """One connection to a host, and the agent at its end."""

    def __init__(self, command: HostCommand, *, hear: Callable[[dict[str, Any] | None], None]) -> None:
        """Prepare.

        Args:
            command: How the host is reached.
            hear: Told, from ``release`` on, what the agent says; None when the connection ends.
        """
        self.command = command
        self.stage: Stage = "resolve"
        self.process: subprocess.Popen[bytes] | None = None
        self.end: Mapping[str, Any] | None = None
        """What was said of the agent's end; None where the connection alone ended."""
        self.is_replaced = False
        """Whether another supervisor has attached."""
        self._hear = hear
        self._attached = False
        self._finds = False
        self._early: list[dict[str, Any] | None] | None = []
        self._errors: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
        self._partial = b""
        self._stderr: int | None = None
        self._failure: Mapping[str, Any] = {}
        self._place: dict[str, Any] = {}
        self._changed = asyncio.Event()
        self._is_over = False
        self.link = AgentLink(self._take)

    async def run(self, do: Literal["start", "connect"], settings: AgentSettings) -> Landed:
        """Go through all stages.

        Args:
            do: ``start`` an agent, or ``connect`` to the one that is there.
            settings: What it is to keep to.

        Raises:
            HostError: It failed, and why.
            HostGoneError: There is no agent to connect to.
        """
        self._finds = do == "connect"
        try:
            self._spawn(do)
            await self._advance()
            self._attached = True
            hello = await self.link.attach(settings, feeds_logs=True)
        except OSError as error:
            self._failure = {"problem": f"ssh cannot be run: {error.strerror}"}
            raise await self._describe(None) from error
        except (HostError, HostGoneError):
            raise
        except StokerError as error:
            self._failure = self._failure or {"problem": f"its agent: {error}"}
            raise await self._describe(None) from error
        except BaseException:
            self.close()
            raise
        return Landed(**{name: self._place[name] for name in _PLACE}, hello=hello)

    def close(self) -> None:
        """End the connection; an agent that is attached goes on for its lease."""
        self.link.close()
        self._close_errors()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def read_errors(self) -> tuple[str, ...]:
        """Give what ssh last wrote to standard error."""
        return tuple(self._errors)

    def _spawn(self, do: str) -> None:
        command = self.command
        # One that a killed process has left would be taken for a connection.
        Path(command.control).unlink(missing_ok=True)
        self.process = subprocess.Popen(
            render_ssh(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **command.env},
            start_new_session=True,
        )
        handles = []
        for pipe in (self.process.stdout, self.process.stdin, self.process.stderr):
            assert pipe is not None
            # These objects would close the handles a second time.
            handles.append(os.dup(pipe.fileno()))
            pipe.close()
        reader, writer, self._stderr = handles
        os.set_blocking(self._stderr, False)
        asyncio.get_running_loop().add_reader(self._stderr, self._read_errors)
        cargo = pack_cargo()
        request = {
            "do": do,
            "python": list(sys.version_info[:2]),
            "cargo": len(cargo),
            "place": command.place,
            "logs": command.logs,
            "name": f"agent-{command.name}",
            "lease": command.lease,
            "env": dict(command.env),
        }
        first = render_program(read_bootstrap()) + json.dumps(request).encode() + b"\n" + cargo
        self.link.take_over(reader, writer, first=first, marker=MARKER)

    async def _advance(self) -> None:
        """Wait until everything is there that the agent needs."""
        while self.stage != "agent":
            self._changed.clear()
            before, bound = self.stage, _BOUNDS[self.stage]
            if self._is_over:
                if self.end is not None and not self._failure:
                    raise HostGoneError(f"{self.command.address}: its agent has ended")
                raise await self._describe(None)
            try:
                await asyncio.wait_for(self._changed.wait(), bound)
            except TimeoutError:
                if self.stage == before:
                    raise await self._describe(bound) from None

    async def _describe(self, waited: float | None) -> HostError:
        stage = self.stage
        if waited is None and self.process is not None:
            # What it wrote last comes in meanwhile.
            await self._await_end()
        if self._failure.get("stage") in STAGES:
            stage = self._failure["stage"]
        status = None if self.process is None else self.process.poll()
        self.close()
        noise = self.link.noise.decode(errors="replace").splitlines()
        return HostError(
            explain(
                Evidence(
                    host=self.command.address,
                    stage=stage,
                    waited=waited,
                    status=status,
                    errors=self.read_errors(),
                    noise=tuple(noise[-_KEPT_LINES:]),
                    failure=self._failure,
                    python=self.command.python,
                    version=_VERSION,
                )
            )
        )

    async def _await_end(self) -> None:
        assert self.process is not None
        deadline = asyncio.get_running_loop().time() + _ENDING
        while asyncio.get_running_loop().time() < deadline:
            if self.process.poll() is not None and self._stderr is None:
                return
            await asyncio.sleep(_POLL)

    def _take(self, message: dict[str, Any] | None) -> None:
        if message is None:
            self._is_over = True
        elif message["say"] in ("gone", "replaced"):
            if message["say"] == "gone":
                self.end = message
            else:
                self.is_replaced = True
            # One that is gone waits for that.
            self.link.close()
            self._is_over = True
            message = None
        elif message["say"] == "failed":
            self._failure = message
            self._is_over = True
        elif message["say"] == "landed":
            self._place = message
            self._move("agent" if self._finds else "import")
        elif message["say"] in _NEXT:
            self._move(_NEXT[message["say"]])
        else:
            self._tell(message)
        self._changed.set()
        if message is None and self._attached:
            self._tell(None)

    def release(self) -> None:
        """Tell what was heard since the agent is attached, and from now on at once."""
        early, self._early = self._early or [], None
        for message in early:
            self._hear(message)

    def _tell(self, message: dict[str, Any] | None) -> None:
        if self._early is None:
            self._hear(message)
        else:
            self._early.append(message)

    def _move(self, stage: Stage) -> None:
        if STAGES.index(stage) > STAGES.index(self.stage):
            self.stage = stage
            self._changed.set()

    def _read_errors(self) -> None:
        assert self._stderr is not None
        try:
            data = os.read(self._stderr, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close_errors()
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._note_error(line.decode(errors="replace").rstrip("\r"))

    def _note_error(self, line: str) -> None:
        stage = read_stage(line)
        if stage is not None:
            self._move(stage)
        elif not line.startswith(("debug1: ", "OpenSSH_", "Authenticated to ", "Transferred: ", "Bytes per second: ")):
            self._errors.append(line)
            append_log(Path(self.command.log), f"ssh: {line}\n")

    def _close_errors(self) -> None:
        if self._stderr is not None:
            asyncio.get_running_loop().remove_reader(self._stderr)
            os.close(self._stderr)
            self._stderr = None
