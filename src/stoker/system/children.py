"""Children: processes that work for this one over a channel of their own, and never outlive it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

__all__ = ["Child", "describe_status"]


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


def _peek(pid: int, what: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, what | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
