"""Locks between processes: a file that one process holds, and that ends with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from stoker.errors import BusyError

__all__ = ["hold_lock"]

_POLL = 0.05


@contextlib.contextmanager
def hold_lock(path: Path, *, wait: float, purpose: str) -> Iterator[None]:
    """Hold a lock file while the block runs.

    The lock is the kernel's (``flock``): it ends with its holder, however that dies. The file stays,
    because removing it would let two holders in.

    Args:
        path: Its directory exists.
        wait: Seconds to wait for another holder.
        purpose: What the holder does; others are told, with its process number.

    Raises:
        BusyError: Another process still holds it after ``wait`` seconds.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        start = time.monotonic()
        while not _try_lock(handle):
            if time.monotonic() - start >= wait:
                holder = os.pread(handle, 200, 0).decode(errors="replace") or "another process"
                raise BusyError(path, holder=holder, waited=wait)
            time.sleep(_POLL)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{purpose} (process {os.getpid()})".encode(), 0)
        yield
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
