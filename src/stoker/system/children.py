"""Children: processes that work for this one over a channel of their own, and never outlive it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

__all__ = ["Child", "adopt_orphans", "describe_status", "die_with_parent", "find_ended_child"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class Child:
    """One child, in a session of its own so that the keys of a terminal reach this process alone."""

    def __init__(self, argv: Sequence[str], *, handles: Sequence[int] = ()) -> None:
        """Start it.

        Args:
            argv: The program and its arguments; no shell sees them.
            handles: Open files that it gets beside its standard output and error, under the same numbers.

        Raises:
            OSError: The program cannot be run.
        """
        self._process = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, pass_fds=tuple(handles), start_new_session=True
        )

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def has_ended(self) -> bool:
        """Say whether it has ended. It stays to be reaped by ``end``."""
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        return self._process.returncode is not None or _peek(self.pid, os.WEXITED)

    def is_stopped(self) -> bool:
        """Say whether it is stopped (SIGSTOP); never on systems that do not tell."""
        return hasattr(os, "waitid") and self._process.returncode is None and _peek(self.pid, os.WSTOPPED)

    def end(self) -> int:
        """Kill it with all that it started in its group, and give its exit status, negative for a signal."""
        if self._process.returncode is None:
            # Before it is reaped: afterwards its number may belong to another group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait()


def describe_status(status: int) -> str:
    """Say in words how a process ended."""
    if status >= 0:
        return f"left with exit status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    hint = " (sent by someone, or for want of memory)" if -status == signal.SIGKILL else ""
    return f"died of {name}{hint}"


def die_with_parent(parent: int) -> None:
    """Have the system kill this process when its parent ends, however that ends; only Linux can.

    Args:
        parent: The parent's process number: it may have ended before this is asked for.
    """
    if sys.platform != "linux":
        return
    import ctypes

    # prctl(2). What counts as the parent is the thread that started this process.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> bool:
    """Become the parent of what descendants leave behind, so that it can be ended and reaped; say whether that can be.

    Only Linux can.
    """
    if sys.platform != "linux":
        return False
    import ctypes

    # prctl(2).
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def find_ended_child() -> int | None:
    """Find a child that has ended and was not reaped; it stays so. None where there is none, or nobody can tell."""
    if not hasattr(os, "waitid"):
        return None
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if ended is None else ended.si_pid


def _peek(pid: int, what: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, what | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
