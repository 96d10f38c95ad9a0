"""A lease on a file: whoever holds it goes on as long as somebody touches the file."""

from __future__ import annotations

from pathlib import Path

from stoker.system.clocks import RunningClock

__all__ = ["Lease", "read_mark"]


class Lease:
    """How long its holder has run since the file was touched. Time is an argument."""

    def __init__(self, seconds: float, *, mark: int | None, now: float) -> None:
        """Start to count.

        Args:
            seconds: How long it holds, in running time of the holder.
            mark: What ``read_mark`` gave.
            now: Seconds of a monotonic clock.
        """
        self.period = min(1.0, seconds / 4)
        """Seconds between two looks."""
        self._seconds = seconds
        self._mark = mark
        self._clock = self._start(now)

    def is_over(self, *, mark: int | None, now: float) -> bool:
        """Look, and say whether it has run out.

        Args:
            mark: What ``read_mark`` gave; None, for a file that is missing, counts as unchanged.
            now: Seconds of the same clock.
        """
        if mark is not None and mark != self._mark:
            self._mark = mark
            self._clock = self._start(now)
        return self._clock.look(now) > self._seconds

    def _start(self, now: float) -> RunningClock:
        # A holder that was stopped for longer than this has heard nobody meanwhile.
        return RunningClock(now, most=2 * self.period)


def read_mark(path: Path) -> int | None:
    """Read what changes when a file is touched; None where there is no file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
