"""The page: a little memory that an agent shares with one engine. It outlives whatever kills the engine.

The engine writes, the agent reads. Nobody waits for anybody; where the engine was forked, no file is behind it.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time

__all__ = ["LEAVING", "PHASES", "READY", "STARTING", "EnginePage", "open_nameless", "open_page"]

STARTING, READY, LEAVING = range(3)
PHASES = ("starting", "ready", "leaving")

_SIZE = mmap.PAGESIZE
# Each number has eight bytes of its own: they are written and read whole.
_PHASE, _DONE, _SINCE, _NUMBER = 0, 8, 16, 24
_UUID, _UUID_LENGTH = 64, 64


def open_nameless() -> int:
    """Open a file that has no name, so that nobody else can; it is gone when all have closed it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("engine", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def open_page() -> int:
    """Open a file for a new page; the caller closes it."""
    handle = open_nameless()
    os.ftruncate(handle, _SIZE)
    return handle


class EnginePage:
    """What an engine notes about itself."""

    def __init__(self, handle: int | None = None) -> None:
        """Map a page.

        Args:
            handle: An open file of at least one page, which may be closed afterwards; the mapping keeps one of its own.
                None: memory without a file, which this process shares with what it forks from now on.
        """
        self._memory = mmap.mmap(-1 if handle is None else handle, _SIZE)

    @property
    def phase(self) -> int:
        """``STARTING``, ``READY`` or ``LEAVING``."""
        return int(self._read("q", _PHASE))

    @phase.setter
    def phase(self, phase: int) -> None:
        self._write("q", _PHASE, phase)

    @property
    def uuid(self) -> str:
        """Its name for the hub; empty before it registers."""
        return bytes(self._memory[_UUID : _UUID + _UUID_LENGTH]).rstrip(b"\0").decode(errors="replace")

    @uuid.setter
    def uuid(self, uuid: str) -> None:
        self._memory[_UUID : _UUID + _UUID_LENGTH] = uuid.encode()[:_UUID_LENGTH].ljust(_UUID_LENGTH, b"\0")

    @property
    def number(self) -> int | None:
        """The number that the hub gave it; None before."""
        number = int(self._read("q", _NUMBER))
        return number - 1 if number else None

    @number.setter
    def number(self, number: int) -> None:
        self._write("q", _NUMBER, number + 1)

    @property
    def tasks_done(self) -> int:
        """How many tasks it has finished, well or not."""
        return int(self._read("q", _DONE))

    @property
    def busy(self) -> float:
        """Seconds that the running task has taken; 0 where none runs."""
        since = float(self._read("d", _SINCE))
        return max(1e-9, time.monotonic() - since) if since else 0.0

    def begin_task(self) -> None:
        """Note that a task begins."""
        self._write("d", _SINCE, time.monotonic())

    def end_task(self) -> None:
        """Note that it has ended."""
        self._write("q", _DONE, self.tasks_done + 1)
        self._write("d", _SINCE, 0.0)

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()

    def _read(self, kind: str, place: int) -> float:
        number: float = struct.unpack_from(f"={kind}", self._memory, place)[0]
        return number

    def _write(self, kind: str, place: int, value: float) -> None:
        struct.pack_into(f"={kind}", self._memory, place, value)
