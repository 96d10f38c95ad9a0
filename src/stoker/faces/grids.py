"""Grids: the two shapes that all of stoker's tables have."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table

__all__ = ["make_grid", "make_table"]

_LONG = ("log", "result", "remarks", "where", "setting", "today", "what to do", "spec", "why", "last death")
_NUMBERS = (
    "CPU",
    "efficiency",
    "engines",
    "items",
    "memory",
    "pid",
    "restarts",
    "rounds",
    "seconds",
    "since",
    "speed-up",
    "tasks",
    "workers",
)


def make_grid() -> Table:
    """Make a table of names and what they stand for."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table


def make_table(*columns: str) -> Table:
    """Make a table with a head; columns of numbers are set to the right, those of long texts are folded."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        right: Any = "right" if column in _NUMBERS else "left"
        table.add_column(column, justify=right, overflow="fold", no_wrap=column not in _LONG)
    return table
