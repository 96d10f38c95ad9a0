"""The log feed: what is written to logs on a host, piece by piece, for a supervisor that keeps it elsewhere too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LogFeed"]

_MOST = 1 << 16
"""Bytes of one log in one piece; of what is more, the older part is left out."""


@dataclass(slots=True)
class _Log:
    path: Path
    offset: int
    ended: bool = False


class LogFeed:
    """Follows log files."""

    def __init__(self) -> None:
        self._logs: dict[int | None, _Log] = {}

    def follow(self, number: int | None, path: str) -> None:
        """Follow a log from its end on.

        Args:
            number: An engine's; None: the agent itself.
            path: The log.
        """
        self._logs[number] = _Log(path=Path(path), offset=_size(Path(path)))

    def end(self, number: int) -> None:
        """Follow a log no more once it has been read to its end."""
        if number in self._logs:
            self._logs[number].ended = True

    def read(self) -> Iterator[tuple[int | None, str]]:
        """Give what was written since the last time, by engine."""
        for number, log in list(self._logs.items()):
            text = _read(log)
            if text:
                yield number, text
            if log.ended:
                del self._logs[number]


def _read(log: _Log) -> str:
    size = _size(log.path)
    # It was cut meanwhile: what is in it has been read.
    if size <= log.offset:
        log.offset = size
        return ""
    first = max(log.offset, size - _MOST)
    try:
        with log.path.open("rb") as file:
            file.seek(first)
            data = file.read(size - first)
    except OSError:
        return ""
    left_out = f"[{first - log.offset} bytes were left out]\n" if first > log.offset else ""
    log.offset = size
    return left_out + data.decode(errors="replace")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
