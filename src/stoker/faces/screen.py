"""Screens: where commands show what they have to say. One for the terminal, one for IPython."""

from __future__ import annotations

import contextlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import typer
from rich.console import Console

from stoker.faces.data import render_json
from stoker.faces.tables import render_table, render_text

__all__ = ["Collector", "Screen", "Terminal", "screen_of", "until_nobody_reads"]


_WIDE = 10_000
"""Columns of a pipe, which has no width: nothing is folded or cut there."""


class Screen(ABC):
    """Where one command shows its result, its progress and its warnings."""

    @abstractmethod
    def show(self, value: object, *, as_json: bool = False) -> None:
        """Show a result."""

    def stream(self, line: str) -> None:
        """Show a line of a result that has no end yet."""
        print(line, flush=True)  # noqa: T201

    @abstractmethod
    def tell(self, line: str) -> None:
        """Show progress: a line that is no part of the result."""

    @abstractmethod
    def warn(self, line: str) -> None:
        """Show a warning."""

    @abstractmethod
    def fail(self, text: str) -> None:
        """Show an error."""


def screen_of(context: typer.Context) -> Screen:
    """Give the screen of a command."""
    screen = context.obj
    assert isinstance(screen, Screen)
    return screen


@contextlib.contextmanager
def until_nobody_reads() -> Iterator[None]:
    """Print lines in here; it ends quietly where whoever reads them has seen enough (``| head``)."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain about it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Terminal(Screen):
    """Results on standard output, all else on standard error. A pipe gets plain lines."""

    def __init__(self) -> None:
        # Neither markup nor emoji: names, paths and causes are shown as they are, also [Errno 2] and lab:fire:.
        self._out = Console(markup=False, emoji=False)
        self._error = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)

    def show(self, value: object, *, as_json: bool = False) -> None:
        if as_json:
            print(render_json(value))  # noqa: T201
        elif self._out.is_terminal:
            self._out.print(render_table(value))
        else:
            print(render_text(value, width=_WIDE))  # noqa: T201

    def tell(self, line: str) -> None:
        self._error.print(line, style="dim")

    def warn(self, line: str) -> None:
        self._error.print(f"warning: {line}", style="yellow")

    def fail(self, text: str) -> None:
        self._error.print(text, style="red")


class Collector(Screen):
    """Keeps results for a caller; warnings and progress go where the caller says."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.values: list[object] = []
        self._write = write

    def show(self, value: object, *, as_json: bool = False) -> None:
        if as_json:
            self._write(render_json(value))
        else:
            self.values.append(value)

    def tell(self, line: str) -> None:
        pass

    def warn(self, line: str) -> None:
        self._write(f"warning: {line}")

    def fail(self, text: str) -> None:
        self._write(text)
