"""What users hold of a queue: put jobs, read results, see how it is."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from stoker.errors import QueueError
from stoker.queue.calls import name_function, pack_call
from stoker.queue.directory import Address, QueueDirectory, parse_address
from stoker.queue.line import Line
from stoker.queue.outcome import Result, unpack_result
from stoker.queue.status import QueueStatus, WorkerStatus
from stoker.queue.worker import LARGEST

__all__ = ["Queue", "connect"]

_PART = 1000
_PART_BYTES = 8 << 20
_END = 1 << 62
_POLL = 2.0


def connect(
    directory: Path | str | None = None,
    *,
    address: str | Address | None = None,
    key: Path | str | None = None,
    wait: float = 60.0,
    tell: Callable[[str], None] = lambda line: None,
) -> Queue:
    """Connect to a queue.

    Args:
        directory: The queue's directory on this machine. None: the default one.
        address: ``HOST:PORT`` of a server elsewhere.
        key: The file with its key. None: the one in the directory.
        wait: Seconds for which a server that does not answer is tried again, each time.
        tell: Told when it is away, and when it is back.

    Raises:
        QueueError: It does not answer, or refuses the key.
    """
    place = QueueDirectory.default() if directory is None else QueueDirectory(Path(directory).expanduser())
    where = parse_address(address) if isinstance(address, str) else address
    line = Line(place, address=where, key=None if key is None else Path(key).expanduser(), wait=wait, tell=tell)
    queue = Queue(line)
    queue.status()
    return queue


class Queue:
    """A job queue, served somewhere. Not for several threads at once."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def put(
        self, function: str | Callable[..., object], items: Iterable[object], *, time_limit: float | None = None
    ) -> list[int]:
        """Put one job for each item, which is the function's only argument.

        Args:
            function: One that workers can import, or its name ``module:function``.
            items: What it is called with.
            time_limit: Seconds that each job may take; None: as the queue says.

        Returns:
            The jobs' numbers, in the order of the items.

        Raises:
            QueueError: The queue is closed or away, or something cannot travel.
        """
        return self.put_calls(function, (((item,), {}) for item in items), time_limit=time_limit)

    def put_calls(
        self,
        function: str | Callable[..., object],
        calls: Iterable[tuple[Sequence[object], Mapping[str, object]]],
        *,
        time_limit: float | None = None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> list[int]:
        """Put one job for each pair of positional and keyword arguments; else as ``put``.

        Args:
            function: As of ``put``.
            calls: What it is called with.
            time_limit: As of ``put``.
            progress: Told how many have been put, again and again.
        """
        if time_limit is not None and time_limit <= 0:
            raise QueueError(f"a time limit must be above 0, got {time_limit:g}")
        name = name_function(function)
        token = secrets.token_hex(16)
        numbers: list[int] = []
        for part, arguments in enumerate(_split(calls)):
            first, count = self._line.ask("put", token, part, name, float(time_limit or 0), arguments)
            numbers.extend(range(first, first + count))
            progress(len(numbers))
        return numbers

    def results(
        self,
        numbers: Sequence[int] | None = None,
        *,
        follow: bool = True,
        after: int = 0,
        timeout: float | None = None,
    ) -> Iterator[Result]:
        """Give each result once, in the order of the jobs.

        Results stay with the server: whoever asks again gets them again.

        Args:
            numbers: Only of these jobs, in this order. None: of all.
            follow: Whether to wait for those that are not there yet: until the jobs asked for are done, or, where
                all were asked for, until the queue is closed and all is done.
            after: Where all were asked for, only of jobs with higher numbers.
            timeout: Seconds to wait for each next result; None: for as long as the server answers.

        Raises:
            QueueError: The server is away, or no result came in time.
        """
        runs = [(after + 1, _END)] if numbers is None else list(_join(numbers))
        for first, last in runs:
            yield from self._run_of_results(first, last, follow=follow, timeout=timeout, bounded=numbers is not None)

    def status(self) -> QueueStatus:
        """Ask how the queue is."""
        fields = self._line.ask("status")
        return QueueStatus(**{**fields, "workers": tuple(WorkerStatus(**worker) for worker in fields["workers"])})

    def close(self) -> None:
        """Take no more jobs: workers end when all is done."""
        self._line.ask("close")

    def disconnect(self) -> None:
        """Hang up. The queue itself goes on."""
        self._line.hang_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.disconnect()

    def _run_of_results(
        self, first: int, last: int, *, follow: bool, timeout: float | None, bounded: bool
    ) -> Iterator[Result]:
        heard = time.monotonic()
        while first <= last:
            wait = _POLL if timeout is None else max(0.0, min(_POLL, heard + timeout - time.monotonic()))
            rows, put, closed, undone = self._line.ask("results", first, last, _PART, follow, wait if follow else 0.0)
            for row in rows:
                yield unpack_result(row)
            if rows:
                first = rows[-1][0] + 1
                heard = time.monotonic()
                continue
            if not follow or (closed and not undone):
                return
            if bounded and first > put:
                raise QueueError(f"there is no job {first}: {put} were put")
            if timeout is not None and time.monotonic() - heard >= timeout:
                raise QueueError(f"no result of job {first} within {timeout:g} s")


def _split(calls: Iterable[tuple[Sequence[object], Mapping[str, object]]]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for position, keyword in calls:
        packed = pack_call(position, keyword)
        if len(packed) > LARGEST:
            raise QueueError(f"a job's arguments may have {LARGEST >> 20} MiB, got {len(packed) / (1 << 20):.0f} MiB")
        part.append(packed)
        size += len(packed)
        if len(part) >= _PART or size >= _PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _join(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Join numbers that follow one another to ranges, each with its last."""
    begin = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
            yield numbers[begin], numbers[end - 1]
            begin = end
