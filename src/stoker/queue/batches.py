"""Batches: how many jobs a worker asks for, and how many it gets. Pure."""

from __future__ import annotations

__all__ = ["MOST", "share_jobs", "size_batch"]

MOST = 4000
"""Jobs of one batch at the most."""

_TARGET = 0.25
"""Seconds that a batch should take: a hundred times what fetching it costs."""

_GROWTH = 6
_SHARES = 3


def size_batch(*, jobs: int, seconds: float) -> int:
    """Say how many jobs the next batch of a worker should have.

    It grows from one by a bounded factor, because a few jobs tell little about the next ones, and shrinks at once.

    Args:
        jobs: How many the last batch had; 0 before the first.
        seconds: How long the worker took for them.
    """
    if not jobs:
        return 1
    fitting = int(_TARGET * jobs / max(seconds, 1e-9))
    return max(1, min(fitting, jobs * _GROWTH, MOST))


def share_jobs(*, wanted: int, waiting: int, workers: int) -> int:
    """Say how many of the waiting jobs one worker gets, so that at the end all have something to do.

    As in guided self-scheduling (Polychronopoulos and Kuck, 1987): a fixed part of what is left, never more.

    Args:
        wanted: How many it asks for.
        waiting: How many wait.
        workers: How many workers there are, this one included.
    """
    return min(wanted, max(1, -(-waiting // (_SHARES * max(1, workers)))), waiting)
