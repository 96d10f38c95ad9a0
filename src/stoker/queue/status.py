"""What a queue's server tells of itself."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["QueueStatus", "WorkerStatus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """One worker, as its server knows it."""

    name: str
    """``host:pid/number``: where it runs, the process that started it, which one of that process's workers."""

    running: int
    """Jobs that it has."""

    done: int
    """Results it brought since the server was started."""

    silent: float
    """Seconds since it was last heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """How a queue is."""

    address: str
    closed: bool
    """Whether no more jobs come."""

    put: int
    """Jobs so far; each is waiting, running or done."""

    waiting: int
    running: int
    done: int
    failed: int
    """Of those done, how many gave no value."""

    lease: float
    """Seconds of silence after which a worker's jobs go to others."""

    attempts: int
    """How many workers a job may kill."""

    workers: tuple[WorkerStatus, ...]
