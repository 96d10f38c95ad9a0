"""Parcels: memory in which large batches and their results travel between a client and the engines of its host.

A message passes the client, the scheduler and the engine, encrypted anew for each hop, and a copy goes to the hub. What
lies in a parcel does not: engines open it through the client's own descriptors, as they do ``marks``, which only the
same user may. It has no name, is the client's, and is gone with it; an engine that dies takes no result along that it
had written. A parcel whose batch did not come home is never used again: its engine may still write to it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct

from stoker.system.machine import read_boot

__all__ = ["Parcel", "Parcels"]

_HEAD = struct.Struct("=16sQ")
"""A secret, and the number of the batch."""
_SPARE, _SMALL = 2, 1 << 16
"""So many parcels of at most so many bytes outlive their call: to make and to end one takes as long as to send it."""


class Parcel:
    """One batch's memory: its items, and later, in their place, its results."""

    def __init__(self) -> None:
        self._handle = os.memfd_create("stoker-parcel", os.MFD_CLOEXEC)
        self._token = secrets.token_bytes(16)

    def address(self, number: int) -> tuple[str, int, int, bytes]:
        """Give the parcel to a batch, and say what its engine needs to find it."""
        head = _HEAD.pack(self._token, number)
        os.pwrite(self._handle, head, 0)
        return read_boot(), os.getpid(), self._handle, head

    def write(self, packed: bytes) -> None:
        """Lay something in it.

        Raises:
            OSError: There is no memory for it.
        """
        at = 0
        with memoryview(packed) as whole:
            while at < len(whole):
                at += os.pwrite(self._handle, whole[at:], _HEAD.size + at)

    def read(self, length: int) -> bytes:
        """Take out what was laid in it.

        Raises:
            EOFError: It holds less than ``length`` bytes.
        """
        parts = []
        at = _HEAD.size
        while at < _HEAD.size + length:
            part = os.pread(self._handle, _HEAD.size + length - at, at)
            if not part:
                raise EOFError(f"a parcel holds {at - _HEAD.size} bytes instead of {length}")
            parts.append(part)
            at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def size(self) -> int:
        """Its bytes."""
        return os.fstat(self._handle).st_size

    def close(self) -> None:
        """Give the memory back."""
        os.close(self._handle)


class Parcels:
    """The parcels of one call."""

    def __init__(self, spare: list[Parcel]) -> None:
        """Prepare.

        Args:
            spare: Of the client, whose calls may run in several threads: some that an earlier one has left are used
                first, and some are left for later ones.
        """
        self._spare = spare
        self._free: list[Parcel] = []
        self._used: dict[int, Parcel] = {}
        self.usable = hasattr(os, "memfd_create")
        """Whether they are to be used, as far as this host and its engines are known."""

    def take(self, number: int) -> Parcel | None:
        """Take a parcel for a batch; None where there is none to be had."""
        for free in (self._free, self._spare):
            with contextlib.suppress(IndexError):
                self._used[number] = free.pop()
                return self._used[number]
        try:
            self._used[number] = Parcel()
        except OSError:
            # Too many open files, for instance.
            return None
        return self._used[number]

    def read(self, number: int, length: int) -> bytes:
        """Take out what a batch's engine laid in its parcel.

        Raises:
            EOFError: It holds less than ``length`` bytes.
        """
        return self._used[number].read(length)

    def give_back(self, number: int) -> None:
        """Have a parcel used again, whose batch came home and was read."""
        if (parcel := self._used.pop(number, None)) is not None:
            self._free.append(parcel)

    def drop(self, number: int) -> None:
        """Use a parcel no more."""
        if (parcel := self._used.pop(number, None)) is not None:
            parcel.close()

    def close(self) -> None:
        """Give the memory back, or leave it for later calls where it is little."""
        for parcel in self._free:
            if len(self._spare) < _SPARE and parcel.size <= _SMALL:
                self._spare.append(parcel)
            else:
                parcel.close()
        for parcel in self._used.values():
            parcel.close()
        self._free.clear()
        self._used.clear()
