"""The desk: the one object of the server that others can use. Whatever it is given may be wrong or come twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

from stoker.queue.batches import MOST, share_jobs
from stoker.queue.journal import Finished, Journal
from stoker.system.clocks import RunningClock

__all__ = ["METHODS", "VERSION", "Desk"]

VERSION = "stoker-queue-1"
"""The name of the desk; another one speaks another language."""

METHODS = ("put", "work", "results", "status", "close")
"""Whatever can be asked of the server."""

_LOOK = 0.25
_LONGEST_WAIT = 5.0
_MOST_RESULTS = 4000
_FORGET = 3
"""Leases of silence after which a worker that has nothing is forgotten."""


class _RefusedError(Exception):
    """What was asked makes no sense."""


@dataclass(slots=True)
class _Worker:
    heard: float
    done: int = 0


def _answer(method: Callable[..., object]) -> Callable[..., tuple[str, object]]:
    """Make every answer plain, errors too: the way back carries no exceptions."""

    @wraps(method)
    def answer(*arguments: object) -> tuple[str, object]:
        try:
            return "ok", method(*arguments)
        except _RefusedError as error:
            return "refused", str(error)
        except sqlite3.Error as error:
            return "failed", f"its journal cannot be written or read: {error}"
        # Numbers that are too large, rows that are too short ...: whatever it is, it came from outside.
        except Exception as error:
            return "refused", f"a request of another form than this server knows: {type(error).__name__}: {error}"

    return answer


class Desk:
    """Gives jobs out, takes results in. Every method may be called by many threads at once."""

    def __init__(self, journal: Journal, *, lease: float, attempts: int, time_limit: float | None = None) -> None:
        self._journal = journal
        self._lease = lease
        self._attempts = attempts
        self._time_limit = time_limit or 0.0
        self._changed = threading.Condition()
        self._clock = RunningClock(time.monotonic(), most=2 * _LOOK)
        self._now = 0.0
        self._workers: dict[str, _Worker] = {}
        # Nobody could be heard while no server was there: every lease begins anew.
        self._ends = dict.fromkeys(journal.leases(), lease)
        self._holders = journal.leases()
        self.address = ""

    @_answer
    def put(self, token: str, part: int, function: str, time_limit: float, arguments: Sequence[bytes]) -> object:
        """Add jobs; see ``Journal.put``. ``time_limit``: 0 for the queue's own."""
        _check(token, str), _check(function, str), _check(part, int)
        for item in arguments:
            _check(item, bytes)
        with self._changed:
            if self._journal.closed:
                raise _RefusedError("the queue is closed: it takes no more jobs; another: stoker queue serve --new")
            put = self._journal.put(token, part, function, float(time_limit) or self._time_limit, arguments)
            self._changed.notify_all()
            return put

    @_answer
    def work(
        self,
        worker: str,
        held: int,
        finished: Sequence[tuple[Any, ...]],
        returned: Sequence[int],
        died: tuple[Any, ...] | None,
        final: bool,
        want: int,
        wait: float,
        lease: int = 0,
    ) -> object:
        """Take what a worker brings, give it jobs if it wants any; wait for some, up to ``wait`` seconds.

        Returns:
            Lease, jobs, calls, whether all is done, and the seconds within which the worker must be heard again.
        """
        _check(worker, str)
        brought = [_parse_finished(row) for row in finished]
        blamed = None if died is None else _parse_finished(died)
        until = time.monotonic() + min(float(wait), _LONGEST_WAIT)
        with self._changed:
            me = self._workers.setdefault(worker, _Worker(self._now))
            while True:
                me.heard = self._now
                given = self._journal.exchange(
                    worker,
                    held=_check(held, int),
                    lease=_check(lease, int),
                    finished=brought,
                    returned=[_check(number, int) for number in returned],
                    died=blamed,
                    final=final,
                    attempts=self._attempts,
                    want=self._share(min(int(want), MOST)),
                )
                me.done += len(brought)
                self._hold(worker, held if held in self._ends else 0, given.lease if given.jobs else 0)
                if brought or returned or blamed:
                    self._changed.notify_all()
                brought, returned, blamed = [], (), None
                counts = self._journal.counts
                over = self._journal.closed and not counts.waiting + counts.leased
                left = until - time.monotonic()
                if given.jobs or over or not want or left <= 0:
                    return given.lease, given.jobs, given.calls, over, self._lease
                while not self._journal.counts.waiting and left > 0 and not over:
                    self._changed.wait(left)
                    counts = self._journal.counts
                    over = self._journal.closed and not counts.waiting + counts.leased
                    left = until - time.monotonic()

    @_answer
    def results(self, first: int, last: int, limit: int, in_order: bool, wait: float) -> object:
        """Give results in the order of their jobs; wait for the first, up to ``wait`` seconds.

        Returns:
            Rows, jobs put so far, whether the queue is closed, jobs not yet done.
        """
        until = time.monotonic() + min(float(wait), _LONGEST_WAIT)
        limit = min(_check(limit, int), _MOST_RESULTS)
        with self._changed:
            while True:
                rows = self._journal.results(_check(first, int), _check(last, int), limit, in_order=in_order)
                counts = self._journal.counts
                undone = counts.waiting + counts.leased
                left = until - time.monotonic()
                if rows or left <= 0 or (self._journal.closed and not undone):
                    return rows, counts.put, self._journal.closed, undone
                self._changed.wait(left)

    @_answer
    def status(self) -> object:
        """Tell how the queue is, as the fields of ``QueueStatus``."""
        with self._changed:
            counts = self._journal.counts
            running = dict.fromkeys(self._workers, 0)
            for lease, worker in self._holders.items():
                running[worker] = running.get(worker, 0) + self._journal.leased_to(lease)
            workers = [
                {
                    "name": name.partition(" ")[0],
                    "running": count,
                    "done": self._workers[name].done if name in self._workers else 0,
                    "silent": self._now - self._workers[name].heard if name in self._workers else self._now,
                }
                for name, count in sorted(running.items())
            ]
            return {
                "address": self.address,
                "closed": self._journal.closed,
                "put": counts.put,
                "waiting": counts.waiting,
                "running": counts.leased,
                "done": counts.done,
                "failed": counts.failed,
                "lease": self._lease,
                "attempts": self._attempts,
                "workers": workers,
            }

    @_answer
    def close(self) -> object:
        """Take no more jobs."""
        with self._changed:
            self._journal.close()
            self._changed.notify_all()
            return None

    def end(self) -> None:
        """Close the journal, for good: who asks from now on gets no answer, as after the process's end, which is near.

        Not while a thread is at it: sqlite3 of Python 3.11 ends the process where one closes a connection that another
        uses.
        """
        self._changed.acquire()
        self._journal.end()

    def watch(self, stop: threading.Event, tell: Callable[[str], None]) -> None:
        """Take back, again and again, the jobs of workers that are silent for too long."""
        while not stop.wait(_LOOK):
            with self._changed:
                self._now = self._clock.look(time.monotonic())
                for lease in [lease for lease, end in self._ends.items() if end <= self._now]:
                    worker = self._holders[lease]
                    name = worker.partition(" ")[0]
                    cause = f"its worker {name} was not heard for {self._lease:g} s"
                    try:
                        numbers = self._journal.expire(lease, cause=cause, attempts=self._attempts)
                    except sqlite3.Error as error:
                        tell(f"the journal cannot be written: {error}")
                        continue
                    del self._ends[lease], self._holders[lease]
                    if numbers:
                        tell(f"worker {name} was not heard for {self._lease:g} s: {len(numbers)} jobs are taken back")
                        self._changed.notify_all()
                idle = set(self._workers) - set(self._holders.values())
                for worker in idle:
                    if self._now - self._workers[worker].heard > _FORGET * self._lease:
                        del self._workers[worker]

    def _share(self, want: int) -> int:
        recent = sum(self._now - worker.heard < self._lease for worker in self._workers.values())
        # At least one is asked for, so that a worker's results and its wish are one transaction.
        waiting = max(1, self._journal.counts.waiting)
        return share_jobs(wanted=want, waiting=waiting, workers=recent) if want > 0 else 0

    def _hold(self, worker: str, held: int, given: int) -> None:
        for lease in [lease for lease, holder in self._holders.items() if holder == worker and lease != held]:
            del self._holders[lease]
            self._ends.pop(lease, None)
        for lease in {held, given} - {0}:
            self._holders[lease] = worker
            self._ends[lease] = self._now + self._lease


def _parse_finished(row: Sequence[Any]) -> Finished:
    number, kind, payload, host, pid, seconds = row
    if kind not in ("value", "error", "died"):
        raise _RefusedError(f"no result is of kind {kind!r}")
    return Finished(
        number=_check(number, int),
        kind=kind,
        payload=_check(payload, bytes),
        host=_check(host, str),
        pid=_check(pid, int),
        seconds=float(seconds),
    )


def _check(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise _RefusedError(f"{kind.__name__} is wanted, got {type(value).__name__}")
    return value
