"""Orphans: what becomes of a process whose parent ends."""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["adopt_orphans", "die_with_parent", "find_ended_child"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


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
