"""The end of a process, told to an asyncio loop at once: also of one that somebody else has started."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable

from stoker.system.processes import ProcessId, is_running

__all__ = ["EndWatch"]

_POLL = 0.1


class EndWatch:
    """Watches one process and tells its end once, with its exit status where that can be known."""

    def __init__(
        self, process: ProcessId, child: subprocess.Popen[bytes] | None, on_end: Callable[[int | None], None]
    ) -> None:
        """Begin to watch.

        Args:
            process: The process.
            child: The same, where this process has started it: it is reaped, and its status is known.
            on_end: Called with the exit status, negative for a signal; None where only its parent knows it.
        """
        self._process = process
        self._child = child
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._handle = self._open()
        if self._handle is None:
            self._look()
        else:
            self._loop.add_reader(self._handle, self._look)

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._handle is not None:
            self._loop.remove_reader(self._handle)
            os.close(self._handle)
            self._handle = None

    def _open(self) -> int | None:
        try:
            handle = os.pidfd_open(self._process.pid)
        except (AttributeError, OSError):
            return None
        if self._child is None and not is_running(self._process):
            # The number belongs to another already.
            os.close(handle)
            return None
        return handle

    def _look(self) -> None:
        status = None if self._child is None else self._child.poll()
        ended = status is not None if self._child is not None else not is_running(self._process)
        if ended:
            self.close()
            self._on_end(status)
        elif self._timer is None or self._handle is None:
            self._timer = self._loop.call_later(_POLL, self._look)
