"""What came of a workload: one value for each way it was run, and one for all of them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Figures", "Outcome", "Report"]

Figures = tuple[tuple[str, int | None], ...]
"""Named whole numbers, in the order in which they are shown; None where there is no such number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of running a workload in one way."""

    workload: str
    """``sum`` or ``primes``."""

    via: str
    """The way: ``serial``, ``map``, ``parallel`` or ``call``."""

    items: int
    """How many items were run."""

    seconds: float
    """From handing over the first item to holding the last result, on this machine's clock."""

    speedup: float | None
    """Serial seconds per item / seconds per item; 1 for serial itself, None where serial was not run."""

    efficiency: float | None
    """Speed-up / cores, where cores are those of the report: ``min(engines, cores of this machine)``.

    In other words: serial seconds, scaled to the same number of items, / (seconds x cores). 1 for serial itself,
    which keeps one core busy. None where serial was not run.
    """

    correct: bool
    """Whether every result is right, by a closed form or an independent method; never by another run."""

    figures: Figures
    """The results in short. Of the sum: ``each``, the value that each sum has (or the first wrong one). Of the
    primes: ``last`` and ``sum``. None where the results hold no such number.
    """

    def __post_init__(self) -> None:
        if self.items < 1:
            raise ValueError(f"items: an outcome is of 1 item or more, got {self.items}")
        if not self.seconds > 0:
            raise ValueError(f"seconds: a run takes some time, got {self.seconds}")

    @property
    def summary(self) -> str:
        """The figures as text, such as ``last 7919, sum 3682913``."""
        return ", ".join(f"{name} {'?' if value is None else value}" for name, value in self.figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of running a workload in several ways."""

    workload: str
    """``sum`` or ``primes``."""

    parameters: tuple[tuple[str, int], ...]
    """The workload's parameters, by name."""

    engines: int
    """How many engines there were, as the caller told."""

    cores: int
    """``min(engines, cores of this machine that this process may use)``: what efficiency is measured against.

    For engines on other machines this is not what they have; go by ``engines`` and ``speedup`` there.
    """

    outcomes: tuple[Outcome, ...]
    """In the order in which they were run: serial first, then as asked for."""

    @property
    def correct(self) -> bool:
        """Whether every outcome is correct."""
        return all(outcome.correct for outcome in self.outcomes)
