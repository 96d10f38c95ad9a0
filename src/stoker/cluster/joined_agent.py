"""The agent of engines that join a controller elsewhere: a child of the process that heals them, and of no cluster."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stoker.agent.order import Death, EngineOrder, EngineReport
from stoker.cluster.end_watch import EndWatch
from stoker.errors import StokerError
from stoker.launch.agent_link import AgentCommand, AgentLink, AgentSettings
from stoker.launch.marks import AGENT_VARIABLE
from stoker.system.files import make_directory
from stoker.system.processes import find_marked, kill_marked
from stoker.system.runtime import make_runtime_directory, remove_runtime_directory, runtime_directory

__all__ = ["JoinedAgent"]

_ANSWER = 2.0
_GRACE = 5.0
_KILLED = 2.0
_HUNG_UP = 5.0
_POLL = 0.02


class JoinedAgent:
    """One agent after another, each started when the one before it has ended."""

    def __init__(
        self,
        settings: AgentSettings,
        *,
        work_dir: Path,
        log: Path,
        hear: Callable[[Mapping[str, Any]], None],
        on_end: Callable[[Death], None],
    ) -> None:
        """Prepare; nothing is started.

        Args:
            settings: What it keeps to.
            work_dir: Where it runs.
            log: The file that gets what it prints.
            hear: Called with what it says.
            on_end: Called when it has ended, and everything that came of it with it; not after ``leave``.
        """
        self._settings = settings
        self._work_dir = work_dir
        self.log = log
        self._hear = hear
        self._on_end = on_end
        self._mark = uuid.uuid4().hex
        self._runtime = runtime_directory(f"join {self._mark}")
        self._link: AgentLink | None = None
        self._watch: EndWatch | None = None
        self._leaving = False

    @property
    def profile(self) -> Path:
        """A profile directory in which nothing is, for as long as it runs."""
        return self._runtime / "profile"

    async def start(self) -> bool:
        """Start it; say whether it takes orders. Where it does not, its end is told.

        Raises:
            OSError: There is no place for it.
        """
        # One that left in order has removed it.
        make_runtime_directory(self._runtime)
        make_directory(self.profile)
        command = AgentCommand(
            name="joined",
            python=None,
            env={AGENT_VARIABLE: self._mark},
            cwd=str(self._work_dir),
            log=str(self.log),
            socket=str(self._runtime / "agent.sock"),
            tidy=True,
        )
        link = AgentLink(lambda message: self._take(link, message))
        try:
            process = link.start(command)
        except OSError as error:
            self._on_end(Death(problem=f"{error.filename}: {error.strerror}"))
            return False
        self._link = link
        self._watch = EndWatch(process, link.process, lambda status: self._note_end(link, status))
        try:
            await link.attach(self._settings)
        except StokerError:
            self.kill()
            return False
        return True

    def start_engine(self, order: EngineOrder) -> bool:
        """Have it start an engine; say whether it could be told."""
        if self._link is None or not self._link.is_open:
            return False
        self._link.start_engine(order)
        return True

    def stop_engine(self, number: int, *, kill: bool) -> None:
        """Have it end an engine, or kill it at once."""
        if self._link is not None and kill:
            self._link.signal_engine(number, signal.SIGKILL)
        elif self._link is not None:
            self._link.stop_engines([number], grace=_GRACE)

    async def report(self) -> list[EngineReport]:
        """Ask how its engines are; nothing where it does not answer."""
        if self._link is not None and self._link.is_open:
            with contextlib.suppress(TimeoutError):
                answer = await self._link.report(memory=False, timeout=_ANSWER)
                return [EngineReport.from_json(each) for each in answer]
        return []

    def kill(self) -> None:
        """Kill it with everything that came of it."""
        kill_marked(AGENT_VARIABLE, self._mark)

    async def leave(self) -> None:
        """Have it end its engines and leave; what does not is killed."""
        self._leaving = True
        if self._link is not None:
            self._link.leave(grace=_GRACE, tells_hub=True)
            process = self._link.process
            deadline = time.monotonic() + _GRACE + _KILLED
            while process is not None and process.poll() is None and time.monotonic() < deadline:
                await asyncio.sleep(_POLL)
            self._link.close()
        if self._watch is not None:
            self._watch.close()
        deadline = time.monotonic() + _KILLED
        while find_marked(AGENT_VARIABLE, self._mark) and time.monotonic() < deadline:
            self.kill()
            await asyncio.sleep(_POLL)
        remove_runtime_directory(self._runtime)

    def _take(self, link: AgentLink, message: dict[str, Any] | None) -> None:
        if self._link is not link or self._leaving:
            return
        if message is None:
            # One that has hung up: nobody could tell it anything.
            asyncio.get_running_loop().call_later(_HUNG_UP, self._insist_on_end, link)
            return
        self._hear(message)

    def _insist_on_end(self, link: AgentLink) -> None:
        if self._link is link and not self._leaving:
            self.kill()

    def _note_end(self, link: AgentLink, status: int | None) -> None:
        if self._leaving:
            return
        self._link = None
        link.close()
        # Its engines die with it; what they started does not.
        self.kill()
        self._on_end(Death(status=status, problem=link.fault))
