"""Marks: memory in which batches note the item that they run. It tells what an engine was at when it died.

Engines of the same host open it through the client's own descriptors; it has no name, and is gone with the client.
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
import time
from dataclasses import dataclass

from stoker.system.machine import read_boot

__all__ = ["Mark", "Marks"]

_TOKEN = 16
_FIRST = 64
_SLOT = struct.Struct("=QQQQQ")
_SLOTS = 2048
_SIZE = _FIRST + _SLOTS * _SLOT.size
_FINISHED = (1 << 64) - 1
_STEP_BITS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is known of a batch that an engine of this host has begun."""

    low: int
    """The first item, counted within the batch, that may have been running; those before it had run."""

    high: int
    """The first after those."""

    loading: bool
    """Whether the engine was still reading the function and the items."""

    finished: bool
    """Whether all had run."""

    seconds: float
    """Seconds since the step with these items began."""

    pid: int
    """The engine's process."""

    engine: int
    """The engine's uuid, as ``runner.shorten_name`` has it."""


class Marks:
    """The marks of a client's batches."""

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None
        self._handle = -1
        self._token = secrets.token_bytes(_TOKEN)
        self._boot = read_boot()
        if self._boot and hasattr(os, "memfd_create"):
            self._handle = os.memfd_create("stoker-marks", os.MFD_CLOEXEC)
            os.ftruncate(self._handle, _SIZE)
            self._memory = mmap.mmap(self._handle, _SIZE)
            self._memory[:_TOKEN] = self._token

    def place(self, number: int) -> tuple[str, int, int, bytes, int] | None:
        """Give what a batch needs to find its slot; None where there is no such memory."""
        if self._memory is None:
            return None
        return self._boot, os.getpid(), self._handle, self._token, _offset(number)

    def read(self, number: int) -> Mark | None:
        """Read what is known of a batch; None where it has not begun, or not on this host."""
        if self._memory is None:
            return None
        owner, where, since, pid, engine = _SLOT.unpack_from(self._memory, _offset(number))
        if owner != number:
            return None
        low = max((where >> _STEP_BITS) - 1, 0)
        step = where & (1 << _STEP_BITS) - 1
        return Mark(
            low=low,
            high=low + step,
            loading=step == (1 << _STEP_BITS) - 1 and where != _FINISHED,
            finished=where == _FINISHED,
            seconds=(time.monotonic_ns() - since) / 1e9,
            pid=pid,
            engine=engine,
        )

    def close(self) -> None:
        """Give the memory back."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
            os.close(self._handle)


def _offset(number: int) -> int:
    return _FIRST + number % _SLOTS * _SLOT.size
