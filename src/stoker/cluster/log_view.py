"""Logs of a cluster, as they are and as they grow: needs no supervisor, only what lies on the disk."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stoker.cluster.record import read_record, record_file
from stoker.cluster.target import Address
from stoker.errors import NotRunningError
from stoker.system.files import read_last_lines

__all__ = ["LogLine", "choose_logs", "follow_logs", "read_logs"]

_POLL = 0.1
_LOOK_EVERY = 1.0
_FIRST = 65536
"""Bytes of the end of a log in which its last lines are looked for."""
_MEMORY = 4096
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Colours and the like: IPython writes tracebacks in colour even into a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line of a log."""

    origin: str
    """Whose: ``engine 3``, ``agent local``, ``controller`` or ``supervisor``."""

    text: str

    def __str__(self) -> str:
        return f"{self.origin} | {self.text}"


def choose_logs(
    address: Address,
    *,
    engine: int | None = None,
    controller: bool = False,
    supervisor: bool = False,
    agent: bool = False,
) -> dict[str, Path]:
    """Choose logs of a cluster; all, where none is asked for.

    Args:
        address: The cluster's.
        engine: The number of one.
        controller: Whether the controller's is wanted; so the others.

    Returns:
        The files by origin: supervisor, controller, agents, engines by number.

    Raises:
        NotRunningError: No cluster that stoker started runs there, or none with this engine.
    """
    record = read_record(record_file(address.directory, address.cluster_id))
    if record is None:
        raise NotRunningError(
            f"{address.name}: no cluster that stoker started runs under this profile; "
            f"the logs of ended ones are in {address.directory.log}"
        )
    plan = record.plan
    numbers = sorted({*record.slots, *(each.number for each in record.engines)})
    if engine is not None and engine not in numbers:
        listed = ", ".join(map(str, numbers)) or "none"
        raise NotRunningError(f"{address.name}: no engine {engine}; there are: {listed}")
    every = engine is None and not (controller or supervisor or agent)
    chosen: dict[str, Path] = {}
    if every or supervisor:
        chosen["supervisor"] = plan.supervisor_log
    if every or controller:
        chosen["controller"] = Path(plan.controller.log)
    if every or agent:
        chosen |= {f"agent {each.name}": Path(each.log) for each in plan.agents}
    wanted = numbers if every else [engine] if engine is not None else []
    return chosen | {f"engine {number}": plan.engine_log(number) for number in wanted}


def read_logs(logs: Mapping[str, Path], *, lines: int) -> tuple[LogLine, ...]:
    """Read the last lines of each log.

    Args:
        logs: Files by origin.
        lines: How many of each at the most.
    """
    return tuple(
        LogLine(origin=origin, text=_clean(text))
        for origin, path in logs.items()
        for text in read_last_lines(path, lines)
    )


def follow_logs(choose: Callable[[], Mapping[str, Path]], *, lines: int) -> Iterator[LogLine]:
    """Give the last lines of each log, and then what is added, until the cluster is gone.

    A log that is cut because it grew too long is followed from where it was; one begun anew, from its beginning.

    Args:
        choose: Gives the files by origin, as ``choose_logs`` does. Is asked again and again, for what comes later.
        lines: How many of each at first at the most.

    Raises:
        NotRunningError: There was nothing to follow in the first place.
    """
    tails = {origin: _Tail(path, lines=lines) for origin, path in choose().items()}
    last_look = time.monotonic()
    while True:
        yield from _read_all(tails)
        if time.monotonic() - last_look > _LOOK_EVERY:
            last_look = time.monotonic()
            try:
                chosen = choose()
            except NotRunningError:
                yield from _read_all(tails)
                return
            for origin in chosen.keys() - tails.keys():
                tails[origin] = _Tail(chosen[origin], lines=lines)
        time.sleep(_POLL)


def _read_all(tails: Mapping[str, _Tail]) -> list[LogLine]:
    return [LogLine(origin=origin, text=_clean(text)) for origin, tail in tails.items() for text in tail.read()]


def _clean(text: str) -> str:
    # Of what a progress bar wrote over itself, what a terminal would show in the end.
    return _ESCAPES.sub("", text.rstrip("\r").rpartition("\r")[2])


class _Tail:
    """The growing end of one file."""

    def __init__(self, path: Path, *, lines: int) -> None:
        self._path = path
        self._lines: int | None = lines
        """How many of those that are there already are wanted; None once they were read."""
        self._place = 0
        self._seen = b""
        """What lies before the place: by it the place is found again in a file that was cut."""
        self._rest = b""
        self._in_doubt = False

    def read(self) -> Sequence[str]:
        """Give the whole lines that were added."""
        first, self._lines = self._lines, None
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                data = self._read_added(file, size) if first is None else self._read_from(file, max(0, size - _FIRST))
        except OSError:
            return ()
        if not data:
            return ()
        self._seen = (self._seen + data)[-_MEMORY:]
        *whole, self._rest = (self._rest + data).split(b"\n")
        if first is not None:
            whole = whole[-first:] if first else []
        return [line.decode(errors="replace") for line in whole]

    def _read_added(self, file: BinaryIO, size: int) -> bytes:
        if size == self._place and not self._in_doubt:
            return b""
        if self._is_in_place(file, size):
            return self._read_from(file, self._place)
        whole = self._read_from(file, 0)
        found = whole.rfind(self._seen)
        if found < 0 and not (whole and self._in_doubt):
            # One that is being cut is empty for a moment, then not whole for another.
            self._in_doubt = True
            return b""
        self._in_doubt = False
        if found >= 0:
            return whole[found + len(self._seen) :]
        self._seen = self._rest = b""
        return whole

    def _read_from(self, file: BinaryIO, place: int) -> bytes:
        file.seek(place)
        data = file.read()
        self._place = place + len(data)
        return data

    def _is_in_place(self, file: BinaryIO, size: int) -> bool:
        if size < self._place or self._in_doubt:
            return False
        file.seek(self._place - len(self._seen))
        return file.read(len(self._seen)) == self._seen
