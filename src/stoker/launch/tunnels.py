"""The near end of tunnels, as its supervisor has it: found or started, held, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path

from stoker.errors import StokerError
from stoker.launch.tunnel_program import END, HOLD

__all__ = ["NearEnd"]

_START = 8.0
_LEAVE = 2.0
_POLL = 0.02


class NearEnd:
    """One for all hosts of a cluster; nothing runs before it is needed. For an asyncio loop."""

    def __init__(self, path: Path, target: str, *, lease: float) -> None:
        """Prepare.

        Args:
            path: Where it is, or will be, reached; a Unix socket.
            target: The controller's address.
            lease: Seconds of its own running time that it goes on when nobody holds it.
        """
        self.path = path
        self._argv = (sys.executable, "-m", "stoker.launch.tunnel_program", str(path), target, f"{lease:g}")
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._ended: asyncio.Task[None] | None = None
        self._holding = asyncio.Lock()

    @property
    def pids(self) -> set[int]:
        """The process number of what this has started and has not ended."""
        return {self._process.pid} if self._process is not None and self._process.returncode is None else set()

    async def hold(self) -> asyncio.Task[None]:
        """See that it runs and goes on; give what is done when it has ended.

        Raises:
            StokerError: It does not start.
        """
        async with self._holding:
            if self._ended is None or self._ended.done():
                reader, self._writer = await self._connect()
                self._writer.write(HOLD)
                self._ended = asyncio.get_running_loop().create_task(self._await_end(reader))
            return self._ended

    async def end(self) -> None:
        """End it, unless somebody else holds it too."""
        if self._writer is None or self._ended is None:
            return
        self._writer.write(END)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended, 2 * _LEAVE)
        self.close()

    def close(self) -> None:
        """Let go of it; it goes on for its lease."""
        if self._writer is not None:
            self._writer.close()
        if self._ended is not None:
            self._ended.cancel()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                return await asyncio.open_unix_connection(str(self.path))
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(self._argv, stdin=subprocess.DEVNULL, start_new_session=True)
            await asyncio.sleep(_POLL)
        raise StokerError(f"{self.path}: the near end of the tunnels does not start")

    async def _await_end(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        deadline = time.monotonic() + _LEAVE
        while self._process is not None and self._process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(_POLL)
