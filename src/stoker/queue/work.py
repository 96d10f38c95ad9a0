"""Working: a keeper for each worker fetches jobs, watches the child that runs them, and brings results home."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from stoker.errors import QueueError
from stoker.queue.batches import size_batch
from stoker.queue.frames import split_frames, write_frame
from stoker.queue.line import Line
from stoker.queue.plain import PlainError, dump_plain, load_plain
from stoker.queue.worker import DONE, READY
from stoker.system.children import Child, describe_status

__all__ = ["run_workers"]

_POLL = 0.1
_BRING = 0.25
"""Seconds after which results come home even if the batch is not at its end."""

_WAIT = 1.0
_START = 60.0
_SEND = 5
_STARTS = 3
_JOIN = 10.0
_ROOT = str(Path(__file__).parents[2])
_CODE = "import sys; sys.path.append({root!r}); from stoker.queue.worker import main; main({channel}, {file}, {parent})"

_Row = tuple[int, str, bytes, str, int, float]


def run_workers(count: int, open_line: Callable[[], Line], *, tell: Callable[[str], None] = lambda line: None) -> int:
    """Run jobs in so many processes until the queue is closed and all is done, or until interrupted.

    What is interrupted goes back to the queue.

    Args:
        count: How many processes.
        open_line: Gives a way to the server; called once for each.
        tell: Told what happens.

    Returns:
        How many results were brought home.

    Raises:
        QueueError: The server is away for too long or refuses, or processes cannot be started.
    """
    stop = threading.Event()
    token = secrets.token_hex(4)
    here = f"{socket.gethostname()}:{os.getpid()}"
    keepers = [_Keeper(f"{here}/{n} {token}", open_line(), stop, tell) for n in range(1, count + 1)]
    threads = [threading.Thread(target=keeper.keep, daemon=True) for keeper in keepers]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(_POLL)
    finally:
        stop.set()
        deadline = time.monotonic() + _JOIN
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for keeper in keepers:
            keeper.end_child()
    for keeper in keepers:
        if keeper.error is not None:
            raise keeper.error
    return sum(keeper.done for keeper in keepers)


@dataclass(slots=True)
class _Report:
    """What the server is to be told."""

    finished: list[_Row] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)
    died: _Row | None = None
    final: bool = False


class _Computer:
    """A child, the socket to it, and the file in which it writes down what came of each call."""

    def __init__(self) -> None:
        here, there = socket.socketpair()
        # One that is stopped does not read.
        here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _SEND, 0))
        self.socket = here
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed in end()
        # It stays at the end when the file is emptied.
        fcntl.fcntl(self.file, fcntl.F_SETFL, fcntl.fcntl(self.file, fcntl.F_GETFL) | os.O_APPEND)
        code = _CODE.format(root=_ROOT, channel=there.fileno(), file=self.file.fileno(), parent=os.getpid())
        try:
            self.child = Child([sys.executable, "-c", code], handles=(there.fileno(), self.file.fileno()))
        except BaseException:
            here.close()
            self.file.close()
            raise
        finally:
            there.close()
        self._read = 0

    def wait(self, seconds: float) -> bytes | None:
        """Wait for a word of it, up to so many seconds. None: there came none; empty: it has hung up."""
        if not select.select([self.socket], [], [], max(0.0, seconds))[0]:
            return None
        try:
            return self.socket.recv(1)
        except OSError:
            return b""

    def take(self) -> list[tuple[str, bytes, float]]:
        """Take the outcomes that it has written since the last time."""
        size = os.fstat(self.file.fileno()).st_size
        if size <= self._read:
            return []
        data = os.pread(self.file.fileno(), size - self._read, self._read)
        frames, used = split_frames(data)
        self._read += used
        return [load_plain(frame) for frame in frames]

    def give(self, calls: list[tuple[str, bytes]]) -> None:
        """Give it a batch. Everything of the one before has been taken."""
        os.ftruncate(self.file.fileno(), 0)
        self._read = 0
        with contextlib.suppress(OSError):
            write_frame(self.socket.fileno(), dump_plain(calls))

    def end(self) -> int:
        """End it, and give its exit status."""
        status = self.child.end()
        self.socket.close()
        self.file.close()
        return status


class _Keeper:
    """Keeps one worker busy."""

    def __init__(self, name: str, line: Line, stop: threading.Event, tell: Callable[[str], None]) -> None:
        self.error: QueueError | None = None
        self.done = 0
        self._name = name
        self._host = name.partition(":")[0]
        self._line = line
        line.stop = stop
        self._stop = stop
        self._tell = tell
        self._computer: _Computer | None = None
        self._lease_time = 30.0
        self._lease = 0

    def keep(self) -> None:
        """Fetch, run and bring home until all is done; whatever goes wrong ends the other workers too."""
        try:
            self._keep()
        except QueueError as error:
            self.error = error
            self._stop.set()
        except (OSError, PlainError) as error:
            self.error = QueueError(f"worker {self._name.partition(' ')[0]} cannot go on: {error}")
            self._stop.set()
        finally:
            self.end_child()
            self._line.hang_up()

    def end_child(self) -> None:
        """End the child, if there is one."""
        computer, self._computer = self._computer, None
        if computer is not None:
            computer.end()

    def _keep(self) -> None:
        report = _Report()
        size = 1
        while True:
            wanted = 0 if self._stop.is_set() else size
            if wanted:
                self._ready()
            self._lease, jobs, calls, over = self._exchange(report, held=0, want=wanted)
            if self._stop.is_set() and not jobs:
                return
            if over:
                return
            report = _Report()
            if jobs:
                begin = time.monotonic()
                self._run(jobs, calls, report)
                size = size_batch(jobs=len(jobs), seconds=time.monotonic() - begin)

    def _exchange(
        self, report: _Report, *, held: int, want: int, once: bool = False
    ) -> tuple[int, list[tuple[int, int, bytes]], dict[int, tuple[str, float]], bool]:
        parts = (report.finished, report.returned, report.died, report.final)
        lease, jobs, calls, over, self._lease_time = self._line.ask(
            "work", self._name, held, *parts, want, _WAIT, self._lease, once=once
        )
        self.done += len(report.finished) + (report.died is not None and report.final)
        return lease, jobs, calls, over

    def _ready(self) -> _Computer:
        for _ in range(_STARTS):
            if self._computer is not None and not self._computer.child.has_ended():
                return self._computer
            self.end_child()
            computer = self._computer = _Computer()
            if computer.wait(_START) == READY:
                return computer
        status = describe_status(self._computer.end()) if self._computer is not None else ""
        self._computer = None
        raise QueueError(f"a worker's process ends before its first job: it {status}")

    def _run(
        self,
        jobs: list[tuple[int, int, bytes]],
        calls: dict[int, tuple[str, float]],
        report: _Report,
    ) -> None:
        """Have a batch run; put what comes of it into the report, of which parts may go home before."""
        computer = self._ready()
        computer.give([(calls[call][0], arguments) for _, call, arguments in jobs])
        finished = 0
        began = heard = brought = time.monotonic()
        silent: float | None = None
        while True:
            limit = calls[jobs[min(finished, len(jobs) - 1)][1]][1]
            pause = min(_POLL, max(0.005, began + limit - time.monotonic())) if limit else _POLL
            word = computer.wait(pause)
            ended = word == b"" or computer.child.has_ended()
            outcomes = computer.take()
            now = time.monotonic()
            for kind, payload, seconds in outcomes:
                report.finished.append((jobs[finished][0], kind, payload, self._host, computer.child.pid, seconds))
                finished += 1
                began = now
            rest = [job[0] for job in jobs[finished:]]
            if word == DONE or not rest:
                if word != DONE and (ended or computer.wait(_START) != DONE):
                    self.end_child()
                return
            if ended:
                self._bury(report, rest, cause="", seconds=now - began)
                return
            if self._stop.is_set():
                report.returned = rest
                self.end_child()
                return
            if limit and now - began > limit:
                self._bury(report, rest, cause=f"took longer than its time limit of {limit:g} s", seconds=now - began)
                report.final = True
                return
            silent = (silent or now) if computer.child.is_stopped() else None
            if silent is not None and now - silent > self._lease_time:
                cause = f"its process was stopped (SIGSTOP) for {self._lease_time:g} s"
                self._bury(report, rest, cause=cause, seconds=now - began)
                return
            if now - heard > self._lease_time / 4 or (report.finished and now - brought > _BRING):
                heard = brought = now
                with contextlib.suppress(QueueError):
                    self._exchange(report, held=self._lease, want=0, once=True)
                    report.finished = []

    def _bury(self, report: _Report, rest: list[int], *, cause: str, seconds: float) -> None:
        """Report the job at which the child died, or at which it is ended now; the rest goes back."""
        computer, self._computer = self._computer, None
        assert computer is not None
        pid = computer.child.pid
        status = computer.end()
        cause = cause or f"its process {describe_status(status)}"
        self._tell(f"job {rest[0]}: {cause}")
        report.died = (rest[0], "died", cause.encode(), self._host, pid, seconds)
        report.returned = rest[1:]
