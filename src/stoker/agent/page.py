"""The page: a little memory that an agent shares with one engine. It outlives whatever kills the engine.

The engine writes, the agent reads. Nobody waits for anybody.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable

__all__ = ["LEAVING", "PHASES", "READY", "STARTING", "EnginePage", "Pages", "open_nameless", "open_page"]

STARTING, READY, LEAVING = range(3)
PHASES = ("starting", "ready", "leaving")

_SIZE = mmap.PAGESIZE
# Each number has eight bytes of its own: they are written and read whole.
_PHASE, _DONE, _SINCE, _NUMBER = 0, 8, 16, 24
_UUID, _UUID_LENGTH = 64, 64
_WILL_LENGTH, _WILL = 128, 136
_MOST_PAGES = 4096


def open_nameless() -> int:
    """Open a file that has no name, so that nobody else can; it is gone when all have closed it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("engine", os.MFD_CLOEXEC)
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def open_page() -> int:
    """Open a file for a new page; the caller closes it."""
    handle = open_nameless()
    os.ftruncate(handle, _SIZE)
    return handle


class Pages:
    """The pages of the engines that an agent forks, in memory that no file is behind.

    Whatever is forked after this was made shares them.
    """

    def __init__(self) -> None:
        # Untouched, a page takes no memory.
        self._memory = memoryview(mmap.mmap(-1, _MOST_PAGES * _SIZE))
        self._free: list[int] = []
        self._taken = 0

    def take(self) -> tuple[int, EnginePage]:
        """Take an empty page that nobody has, and say where it is. Closed, it may be taken again.

        Raises:
            OSError: There are no more.
        """
        if not self._free and self._taken == _MOST_PAGES:
            raise OSError(f"an agent forks no more than {_MOST_PAGES} engines at a time")
        if self._free:
            place = self._free.pop()
        else:
            place, self._taken = self._taken, self._taken + 1

        def give_back() -> None:
            self._find(place)[:] = bytes(_SIZE)
            self._free.append(place)

        return place, EnginePage(self._find(place), on_close=give_back)

    def open(self, place: int) -> EnginePage:
        """Give the page at a place that another process has taken."""
        return EnginePage(self._find(place))

    def _find(self, place: int) -> memoryview:
        return self._memory[place * _SIZE : (place + 1) * _SIZE]


class EnginePage:
    """What an engine notes about itself."""

    def __init__(self, memory: memoryview | mmap.mmap, *, on_close: Callable[[], None] = lambda: None) -> None:
        """Read and write a page that is in some memory.

        Args:
            memory: All of it is the page.
            on_close: Called when nobody will write it any more.
        """
        self._memory = memory
        self._on_close = on_close

    @classmethod
    def map(cls, handle: int) -> EnginePage:
        """Map an open file of one page, which may be closed afterwards; the mapping keeps one of its own."""
        memory = mmap.mmap(handle, _SIZE)
        return cls(memory, on_close=memory.close)

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
    def will(self) -> bytes:
        """What is to be sent to the hub when it has ended, as of ``notice.write_will``; empty: nothing."""
        return bytes(self._memory[_WILL : _WILL + int(self._read("q", _WILL_LENGTH))])

    @will.setter
    def will(self, will: bytes) -> None:
        # One that does not fit is as good as none: the hub misses the heartbeat.
        kept = will if len(will) <= _SIZE - _WILL else b""
        # It may be read at any moment: never with the length of another.
        self._write("q", _WILL_LENGTH, 0)
        self._memory[_WILL : _WILL + len(kept)] = kept
        self._write("q", _WILL_LENGTH, len(kept))

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
        self._on_close()

    def _read(self, kind: str, place: int) -> float:
        number: float = struct.unpack_from(f"={kind}", self._memory, place)[0]
        return number

    def _write(self, kind: str, place: int, value: float) -> None:
        struct.pack_into(f"={kind}", self._memory, place, value)
