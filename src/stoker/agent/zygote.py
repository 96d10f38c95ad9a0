"""The zygote: a child of the agent that imports what engines need, forks them one by one, and ends.

So the agent stays small, and no process keeps what the engines, once they live, have copies of. Each engine is forked
by a process in between that ends at once, and so becomes the agent's own child: the agent sees its death, and it dies
with the agent, whatever has become of the zygote.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stoker.agent.birth import become_engine, close_handles, set_name
from stoker.agent.order import EngineOrder
from stoker.agent.page import EnginePage, Pages, open_nameless
from stoker.agent.preload import find_hindrance, preload
from stoker.system.orphans import die_with_parent

__all__ = ["Born", "Zygote", "ZygoteLife", "fork_zygote", "load"]

_LONGEST = 1 << 16
_CHANNEL = 3
"""The number of its one open file beside the standard ones."""
_GO = b"g"
_FAILED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Born:
    """What a process that has just been forked is to be."""

    order: EngineOrder
    page: EnginePage


class Zygote:
    """The agent's end."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel

    def fileno(self) -> int:
        """Give the open file that becomes readable when there is something to hear."""
        return self._channel.fileno()

    def send(self, order: EngineOrder, place: int) -> None:
        """Order an engine; to be called when the one before was answered.

        Args:
            order: What it is to be.
            place: Its page.

        Raises:
            OSError: Nobody listens any more.
        """
        # Not on the channel itself: a large order would keep this process waiting for that one.
        handle = open_nameless()
        try:
            with open(handle, "wb", closefd=False) as file:
                file.write(json.dumps(order.to_json()).encode())
            os.lseek(handle, 0, os.SEEK_SET)
            socket.send_fds(self._channel, [str(place).encode()], [handle])
        finally:
            os.close(handle)

    def hear(self) -> dict[str, Any] | None:
        """Give what it says: first ``loaded`` or ``failed``, then for each order ``pid`` or ``problem``.

        None: it has ended.
        """
        with contextlib.suppress(ConnectionResetError):
            if data := self._channel.recv(_LONGEST):
                said: dict[str, Any] = json.loads(data)
                return said
        return None

    def close(self) -> None:
        """Let it end."""
        self._channel.close()

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ChildProcessError):
            # While it is this process's child, its number is nobody else's.
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            os.kill(self.pid, signal.SIGKILL)


def fork_zygote(pages: Pages) -> Zygote | ZygoteLife:
    """Fork a zygote. This function returns twice: in the child, what that is to live.

    Args:
        pages: The pages of all engines.

    Raises:
        OSError: The system gives no more processes.
    """
    agent = os.getpid()
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        its.close()
        raise
    if pid:
        its.close()
        return Zygote(pid, ours)
    ours.close()
    return ZygoteLife(its, pages, agent=agent)


class ZygoteLife:
    """The zygote's end: its life."""

    def __init__(self, channel: socket.socket, pages: Pages, *, agent: int) -> None:
        self._channel = channel
        self._pages = pages
        self._agent = agent

    def live(self) -> Born:
        """Import, and fork engines until the agent wants no more. Returns in each engine; here it never does."""
        try:
            return self._live()
        except BrokenPipeError:
            # The agent wants no more.
            os._exit(0)
        except BaseException:
            # Whoever called would go on as a second agent.
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(_FAILED)

    def _live(self) -> Born:
        die_with_parent(self._agent)
        self._part_from_agent()
        set_name("zygote")
        answer = load()
        self._say(answer)
        if "failed" in answer:
            os._exit(_FAILED)
        while True:
            place, handles, _, _ = socket.recv_fds(self._channel, _LONGEST, 1)
            if not place:
                os._exit(0)
            with os.fdopen(handles[0], "rb") as file:
                order = EngineOrder.from_json(json.load(file))
            born = self._bear(order, int(place))
            if born is not None:
                return born

    def _part_from_agent(self) -> None:
        signal.set_wakeup_fd(-1)
        for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD):
            signal.signal(signum, signal.SIG_DFL)
        # Nobody is to wait for the end of the agent's connections because of this one.
        if (handle := self._channel.detach()) != _CHANNEL:
            os.dup2(handle, _CHANNEL, inheritable=False)
        close_handles(_CHANNEL + 1)
        self._channel = socket.socket(fileno=_CHANNEL)

    def _bear(self, order: EngineOrder, place: int) -> Born | None:
        """Fork an engine and tell the agent."""
        from stoker.agent.engine import read_arguments

        read_arguments(tuple(order.arguments))
        if hindrance := find_hindrance():
            self._say({"hindrance": hindrance})
            return None
        waits, goes = os.pipe()
        try:
            pid = _fork_twice()
        except OSError as error:
            pid = -1
            self._say({"problem": f"no process could be started: {error.strerror or error}"})
        if pid == 0:
            os.close(goes)
            # It begins when the agent is its parent and was told of it; nothing comes where the zygote has ended.
            if os.read(waits, 1) != _GO:
                os._exit(_FAILED)
            become_engine(order, agent=self._agent)
            return Born(order=order, page=self._pages.open(place))
        if pid > 0:
            self._say({"pid": pid})
            # It may have been killed by now.
            with contextlib.suppress(BrokenPipeError):
                os.write(goes, _GO)
        os.close(waits)
        os.close(goes)
        return None

    def _say(self, answer: Mapping[str, Any]) -> None:
        self._channel.send(json.dumps(answer).encode())


def load() -> dict[str, Any]:
    """Import what engines need, and say how that went.

    Returns:
        ``loaded``, ipyparallel's version, and ``hindrance``, what stands against forking now; or ``failed``: its
        ``kind`` (``missing``, ``error``), the ``module`` that is missing, the ``problem`` and the ``lines`` of a trace.
    """
    try:
        preload()
        from ipyparallel._version import __version__
    except BaseException as error:
        traceback.print_exc()
        return {
            "failed": {
                "kind": "missing" if isinstance(error, ModuleNotFoundError) else "error",
                "module": getattr(error, "name", "") or "",
                "problem": f"{type(error).__name__}: {error}",
                "lines": traceback.format_exc().splitlines()[-10:],
            }
        }
    return {"loaded": __version__, "hindrance": find_hindrance()}


def _fork_twice() -> int:
    """Fork a grandchild that its grandparent's nearest reaper has adopted when this returns; 0 in that one.

    Raises:
        OSError: The system gives no more processes.
    """
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:
        # Whatever is raised here is raised nowhere.
        try:
            pid = os.fork()
            if pid:
                os.write(writer, str(pid).encode())
        except OSError:
            pid = -1
        if pid:
            os._exit(0)
        os.close(reader)
        os.close(writer)
        return 0
    os.close(writer)
    os.waitpid(between, 0)
    pid_there = os.read(reader, 32)
    os.close(reader)
    if not pid_there:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return int(pid_there)
