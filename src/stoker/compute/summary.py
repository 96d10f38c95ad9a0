"""The summary of a call: what was done, where, how long it took, and what had to be done again."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["EngineShare", "OnSummary", "Summary", "Tally"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineShare:
    """What one engine had of a call."""

    engine: int | None
    """Its number; None: engines that had left when their results came."""

    host: str
    items: int
    batches: int

    busy: float
    """Seconds in the function."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Summary:
    """What became of a call, or of all calls of an executor."""

    label: str
    items: int
    """Items that are settled, those that failed among them."""

    failures: int
    """Items that failed for good."""

    seconds: float
    """Seconds from the first message to the last result; without those in which an executor had nothing to do."""

    again: int
    """Items that were sent again: they failed or took too long, their engine died, or it could not take them."""

    deaths: int
    """Batches that died with their engine."""

    stragglers: int
    """Batches that were also given to an idle engine, because they took far longer than the others."""

    engines: tuple[EngineShare, ...]
    """Who did it, by number."""

    @property
    def batches(self) -> int:
        """Batches that came home."""
        return sum(share.batches for share in self.engines)

    @property
    def busy(self) -> float:
        """Seconds in the function, of all engines together."""
        return sum(share.busy for share in self.engines)

    @property
    def overhead(self) -> float:
        """Seconds that these engines were there and not in the function, together: waiting, packing, under way."""
        return max(self.seconds * len(self.engines) - self.busy, 0.0)

    def __str__(self) -> str:
        return f"{self.label}: {_render_line(self)}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def __rich__(self) -> Group:
        """Give it as a line and a table; what rich calls to show it."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("engine")
        table.add_column("host")
        for name in _FIGURES:
            table.add_column(name, justify="right")
        for row in _render_rows(self):
            table.add_row(*row)
        return Group(Text(str(self)), table)

    def _repr_html_(self) -> str:
        cells = [("th", ("engine", "host", *_FIGURES)), *(("td", row) for row in _render_rows(self))]
        rows = "".join(
            "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in row) + "</tr>" for tag, row in cells
        )
        return f"<table><caption>{html.escape(str(self))}</caption>{rows}</table>"


OnSummary = Callable[[Summary], None]


class Tally:
    """Counts what a call does."""

    def __init__(self) -> None:
        self.sent = 0
        """Items that were sent, each time, less those that no engine took."""
        self.failures = 0
        self.deaths = 0
        self.stragglers = 0
        self._items = self._taken = 0
        self._seconds = 0.0
        self._shares: dict[int | None, EngineShare] = {}

    def note(self, *, engine: int | None, host: str, items: int, busy: float) -> None:
        """Take in a batch that came home.

        Args:
            engine: The engine's number.
            host: Its host's name.
            items: How many of its items have run.
            busy: Seconds that they took.
        """
        known = self._shares.get(engine)
        self._shares[engine] = EngineShare(
            engine=engine,
            host=host,
            items=items + (known.items if known else 0),
            batches=1 + (known.batches if known else 0),
            busy=busy + (known.busy if known else 0.0),
        )

    def go_on(self, *, items: int, taken: int, seconds: float) -> None:
        """Note that a call has ended, and that another is counted with it; the arguments are those of ``sum_up``."""
        self._items += items
        self._taken += taken
        self._seconds += seconds

    def sum_up(self, *, label: str, items: int, taken: int, seconds: float) -> Summary:
        """Give the summary so far.

        Args:
            label: What the call is named.
            items: How many are settled.
            taken: How many were ever sent.
            seconds: Since the call began.
        """
        return Summary(
            label=label,
            items=self._items + items,
            failures=self.failures,
            seconds=self._seconds + seconds,
            again=max(self.sent - self._taken - taken, 0),
            deaths=self.deaths,
            stragglers=self.stragglers,
            engines=tuple(sorted(self._shares.values(), key=_place)),
        )


_FIGURES = ("items", "share", "batches", "seconds in function")


def _place(share: EngineShare) -> tuple[bool, int]:
    return share.engine is None, share.engine or 0


def _render_line(summary: Summary) -> str:
    parts = [
        f"{summary.items:,} item{'' if summary.items == 1 else 's'}",
        f"{summary.batches:,} batch{'' if summary.batches == 1 else 'es'}",
        f"{summary.seconds:.2f} s",
        f"{summary.busy:.2f} s in the function",
        f"{summary.overhead:.2f} s overhead",
    ]
    return ", ".join([*parts, *_render_troubles(summary)])


def _render_troubles(summary: Summary) -> Iterator[str]:
    if summary.failures:
        yield f"{summary.failures:,} failed"
    if summary.again:
        yield f"{summary.again:,} sent again"
    if summary.deaths:
        yield f"{summary.deaths:,} death{'' if summary.deaths == 1 else 's'}"
    if summary.stragglers:
        yield f"{summary.stragglers:,} straggler{'' if summary.stragglers == 1 else 's'}"


def _render_rows(summary: Summary) -> Iterator[tuple[str, ...]]:
    total = max(sum(share.items for share in summary.engines), 1)
    for share in summary.engines:
        yield (
            "gone" if share.engine is None else str(share.engine),
            share.host,
            f"{share.items:,}",
            f"{share.items / total:.0%}",
            f"{share.batches:,}",
            f"{share.busy:.2f}",
        )
