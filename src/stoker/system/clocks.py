"""Clocks: time as a process lives it."""

from __future__ import annotations

__all__ = ["RunningClock"]


class RunningClock:
    """Counts the seconds in which its process could run.

    A process that was stopped, or whose machine slept, has heard nobody meanwhile; so silence is measured in this
    time. What lies between two looks counts up to ``most`` only.
    """

    def __init__(self, now: float, *, most: float) -> None:
        """Start at 0.

        Args:
            now: Seconds of a monotonic clock.
            most: Seconds between two looks that are still believed.
        """
        self._last = now
        self._most = most
        self._seconds = 0.0

    def look(self, now: float) -> float:
        """Give the seconds until now.

        Args:
            now: Seconds of the same monotonic clock.
        """
        self._seconds += min(max(0.0, now - self._last), self._most)
        self._last = now
        return self._seconds
