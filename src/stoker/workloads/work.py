"""A workload with its parameters filled in: what to call, on which items, and how to judge the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stoker.errors import StokerError
from stoker.workloads.outcome import Figures

__all__ = ["Verdict", "Work", "check_whole", "whole"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether results are right, and what they are in short."""

    correct: bool
    """Whether there is exactly the right result for each item."""

    figures: Figures
    """As in ``Outcome``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A workload with its parameters filled in."""

    name: str
    """``sum`` or ``primes``."""

    parameters: tuple[tuple[str, int], ...]
    """The parameters, by name."""

    task: Callable[[int], int]
    """The task function. It uses nothing of its module, so that engines need no stoker."""

    items: Sequence[int]
    """What the task function is given on the cluster."""

    serial_items: Sequence[int]
    """What it is given in the serial run."""

    judge: Callable[[Sequence[int], Sequence[object]], Verdict]
    """Judges the results of items, both in order. It never raises, whatever the results are."""


def check_whole(workload: str, name: str, value: int, *, low: int, high: int | None = None) -> None:
    """Refuse a parameter that is not a whole number from ``low`` to ``high``.

    Raises:
        StokerError: It is not.
    """
    right = f"{low} or more" if high is None else f"{low} to {high}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise StokerError(f"{workload}: {name} must be a whole number, {right}, got {value!r}")
    if value < low or (high is not None and value > high):
        raise StokerError(f"{workload}: {name} must be {right}, got {value}")


def whole(value: object) -> int | None:
    """Give back a whole number, and None for anything else."""
    return value if isinstance(value, int) else None
