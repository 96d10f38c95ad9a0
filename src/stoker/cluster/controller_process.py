"""The controller, a child of this supervisor or of one before it: started, watched, found sound, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stoker.cluster.end_watch import EndWatch
from stoker.cluster.run_plan import ControllerPlan
from stoker.system.files import remove_file
from stoker.system.processes import ProcessId, identify, is_running, list_children
from stoker.system.usage import read_state

__all__ = ["ControllerProcess", "is_open", "list_ports", "read_connection_file"]

_POLL = 0.02
_CHILDREN_GONE = 3.0


class ControllerProcess:
    """One controller: the hub and its children."""

    def __init__(self, plan: ControllerPlan, on_end: Callable[[ProcessId, int | None], None]) -> None:
        self._plan = plan
        self._on_end = on_end
        self._watch: EndWatch | None = None
        self._children: set[ProcessId] = set()
        self._begun = False
        self.process: ProcessId | None = None
        """The hub's process; None while none runs."""

    def start(self, *, again: bool) -> None:
        """Start it.

        Args:
            again: In the place of one that died: same ports, same keys, the engines that it knew.

        Raises:
            OSError: It cannot be started.
        """
        remove_file(Path(self._plan.end_note))
        # What the one before it said, perhaps a moment ago, is not lost.
        fresh = not (again or self._begun)
        self._begun = True
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_TRUNC if fresh else 0)
        log = os.open(self._plan.log, flags, 0o600)
        try:
            os.fchmod(log, 0o600)
            child = subprocess.Popen(
                [*self._plan.argv, *(self._plan.again if again else ())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._plan.cwd,
                start_new_session=True,
            )
        finally:
            os.close(log)
        self._follow(identify(child.pid) or ProcessId(pid=child.pid, started=0), child)

    def adopt(self, process: ProcessId) -> None:
        """Take over one that an earlier supervisor has started."""
        self._follow(process, None)
        self.count_children()

    def was_ordered(self) -> bool:
        """Say whether a client has ordered its end."""
        return Path(self._plan.end_note).exists()

    def count_children(self) -> int:
        """Count its children that run."""
        if self.process is None:
            return 0
        found = [identify(pid) for pid in list_children(self.process.pid)]
        living = {child for child in found if child is not None}
        self._children |= living
        return len(living)

    def list_children(self) -> tuple[int, ...]:
        """List its children that were seen, by number."""
        return tuple(child.pid for child in self._children if is_running(child))

    def is_frozen(self) -> bool:
        """Say whether it, or one of its children, is stopped."""
        if self.process is None:
            return False
        return any(read_state(each.pid) == "T" for each in (self.process, *self._children))

    def signal(self, signum: int) -> None:
        """Send the hub a signal."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signum)

    def kill(self) -> None:
        """Kill it and its children."""
        for each in (*((self.process,) if self.process else ()), *self._children):
            if is_running(each):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGKILL)

    async def stop(self, *, grace: float) -> None:
        """Ask it to end, and insist."""
        process = self.process
        self.count_children()
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        deadline = asyncio.get_running_loop().time() + grace
        # Another may be started in its place meanwhile.
        while self.process == process is not None:
            if asyncio.get_running_loop().time() > deadline:
                self.kill()
                return
            await asyncio.sleep(_POLL)

    async def wait_for_children(self) -> None:
        """Wait until the children of one that ended are gone, so that their ports are free."""
        deadline = asyncio.get_running_loop().time() + _CHILDREN_GONE
        while any(is_running(each) for each in self._children) and asyncio.get_running_loop().time() < deadline:
            self.kill()
            await asyncio.sleep(_POLL)
        self._children.clear()

    def close(self) -> None:
        """Watch it no more."""
        if self._watch is not None:
            self._watch.close()

    def _follow(self, process: ProcessId, child: subprocess.Popen[bytes] | None) -> None:
        self.process = process
        self._watch = EndWatch(process, child, lambda status: self._note_end(process, status))

    def _note_end(self, process: ProcessId, status: int | None) -> None:
        self.process = None
        self._on_end(process, status)


def read_connection_file(path: str) -> dict[str, Any] | None:
    """Read a connection file; None while it is missing or half written."""
    try:
        data = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) and "registration" in data else None


def list_ports(connection: Mapping[str, Any]) -> list[tuple[str, int]]:
    """List where a connection file says that a controller listens."""
    address = str(connection["interface"]).removeprefix("tcp://")
    host = "127.0.0.1" if address in ("*", "0.0.0.0") else address  # noqa: S104 - how it was told to listen
    ports: list[int] = []
    for name, value in connection.items():
        if name in ("registration", "control", "mux", "task", "iopub", "notification", "hb_ping", "hb_pong"):
            ports.append(value)
        elif name == "broadcast":
            ports += value if isinstance(value, list) else [value]
    return [(host, int(port)) for port in ports]


def is_open(address: tuple[str, int]) -> bool:
    """Say whether somebody listens at a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(address) == 0
