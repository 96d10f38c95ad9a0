"""How far a map over items has come, as a bar, as plain lines, or told to the caller's own function.

The standing's own seconds pace the displays, and one that cannot write goes silent: no display ever breaks the map.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

__all__ = ["Progress", "Standing", "open_progress", "render_standing"]

_BAR_PERIOD = 0.1
"""Seconds between two drawings of a bar, at least."""

_LINE_PERIOD = 5.0
"""Seconds before the first plain line, and between two, at least."""

_LABEL = 24
"""Characters of a label that are shown: they leave room for the figures in 80 columns."""

_SMOOTHING = 0.1
"""Weight of the latest drawing in the bar's rate: tqdm's 0.3 jumps with every batch that comes home."""

_PERIODS = ((1.0, "a second"), (60.0, "a minute"), (3600.0, "an hour"))
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a call has come at one moment."""

    done: int
    """Items that are settled, those that failed among them."""

    total: int | None
    """Items in all; ``None`` while nobody knows."""

    failures: int
    """Items that failed for good."""

    engines: int
    """Engines that take part."""

    seconds: float
    """Seconds since the call began."""

    earlier: int = 0
    """Items of ``done`` that an earlier call had done."""

    note: str = ""
    """What else the user should know, such as ``no engines: waiting``."""


class Progress(Protocol):
    """A display of one call."""

    def show(self, standing: Standing) -> None:
        """Show a standing, unless the last one is too recent. Cheap enough to be called for every message."""

    def close(self, standing: Standing) -> None:
        """Show the last standing and end the display; a second time, do nothing."""


def open_progress(
    wanted: bool | Callable[[Standing], None] | None, *, label: str, stream: TextIO | None = None
) -> Progress:
    """Choose the display of a call.

    Args:
        wanted: ``True`` for a bar in a notebook or a terminal and plain lines elsewhere; a function to be told each
            standing, whose exceptions pass through; else nothing is shown.
        label: What the call is named; cut where it is long.
        stream: Where to write; ``None`` for the standard error stream. A notebook with widgets does without.
    """
    if wanted is not None and not isinstance(wanted, bool):
        return _Told(wanted)
    stream = sys.stderr if stream is None else stream
    # A program without a console has no standard error stream.
    if not wanted or stream is None:
        return _Nothing()
    outlet = _Outlet(stream)
    label = _cut(_flatten(label), _LABEL)
    if _is_notebook():
        return _Bar(outlet, label=label, notebook=True)
    if outlet.is_terminal():
        return _Bar(outlet, label=label, notebook=False)
    return _Lines(outlet, label=label)


def render_standing(standing: Standing, *, rate: float | None = None) -> str:
    """Say a standing in one plain line, without the parts that say nothing.

    Args:
        rate: Items a second, from which the time left follows; ``None`` leaves both out.
    """
    parts = [_render_items(standing)]
    if rate is not None and 0 < rate < math.inf:
        parts.append(_render_rate(rate))
        left = 0.0 if standing.total is None else (standing.total - standing.done) / rate
        if 0 < left < math.inf:
            parts.append(f"{_render_seconds(left)} left")
    parts.append(_render_rest(standing))
    return ", ".join(part for part in parts if part)


class _Nothing:
    """Shows nothing."""

    def show(self, standing: Standing) -> None:
        pass

    def close(self, standing: Standing) -> None:
        pass


class _Told:
    """Tells the caller's function each standing, and the last one once."""

    def __init__(self, tell: Callable[[Standing], None]) -> None:
        self._tell: Callable[[Standing], None] | None = tell

    def show(self, standing: Standing) -> None:
        # Unset meanwhile: a function that raised is not told again while its error ends the call.
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(standing)
            self._tell = tell

    def close(self, standing: Standing) -> None:
        self.show(standing)
        self._tell = None


class _Lines:
    """Writes plain lines, for a log or a pipe."""

    def __init__(self, outlet: _Outlet, *, label: str) -> None:
        self._outlet = outlet
        self._label = label
        self._due = _LINE_PERIOD
        self._shown = False
        self._closed = False

    def show(self, standing: Standing) -> None:
        if standing.seconds < self._due or self._closed:
            return
        self._due = standing.seconds + _LINE_PERIOD
        self._shown = True
        self._write(standing, rate=_measure_rate(standing))

    def close(self, standing: Standing) -> None:
        if self._closed:
            return
        self._closed = True
        if standing.done or self._shown:
            # Of a call that ends early, nothing is left to wait for.
            ended_early = standing.total is not None and standing.done < standing.total
            self._write(standing, rate=None if ended_early else _measure_rate(standing))

    def _write(self, standing: Standing, *, rate: float | None) -> None:
        line = render_standing(standing, rate=rate)
        self._outlet.write(f"{self._label}: {line}\n" if self._label else f"{line}\n")
        self._outlet.flush()


class _Bar:
    """Draws a tqdm bar."""

    def __init__(self, outlet: _Outlet, *, label: str, notebook: bool) -> None:
        self._outlet = outlet
        self._label = label
        self._notebook = notebook
        self._due = -math.inf
        self._bar: Any = None
        self._closed = False

    def show(self, standing: Standing) -> None:
        if standing.seconds < self._due or self._closed or self._outlet.broken:
            return
        self._due = standing.seconds + _BAR_PERIOD
        fresh = self._bar is None
        bar = self._place(standing)
        if standing.done != bar.n:
            bar.update(standing.done - bar.n)
        elif not fresh:
            # An update by 0 would take the time without news out of tqdm's rate.
            bar.refresh()

    def close(self, standing: Standing) -> None:
        if self._closed:
            return
        self._closed = True
        if self._bar is None and standing.done == 0:
            return
        bar = self._place(standing)
        bar.n = standing.done
        bar.close()
        self._bar = None

    def _place(self, standing: Standing) -> Any:
        """Give the bar, drawn if it is new, with all of the standing but the count."""
        side = _render_rest(standing)
        width = None if self._notebook else self._outlet.read_width()
        if self._bar is None:
            # Both periods are 0, as the pace is kept here: tqdm draws when it is told.
            self._bar = _load_bar(notebook=self._notebook)(
                desc=self._label,
                total=standing.total,
                file=self._outlet,
                ncols=width,
                initial=standing.earlier,
                mininterval=0,
                miniters=0,
                smoothing=_SMOOTHING,
                postfix=side,
            )
            # A bar that TQDM_DISABLE turned off has no clock.
            if not self._bar.disable:
                self._bar.start_t -= standing.seconds
                self._bar.last_print_t = self._bar.start_t
        self._bar.total = standing.total
        self._bar.ncols = width
        self._bar.postfix = side
        return self._bar


class _Outlet:
    """A stream as a display writes to it: after a failure it takes everything and shows nothing.

    Were a failure to reach tqdm, its lock would stay taken, and other threads' bars would wait for ever.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.broken = False
        self.encoding = getattr(stream, "encoding", None)

    def write(self, text: str) -> int:
        if not self.broken:
            try:
                try:
                    self._stream.write(text)
                except UnicodeEncodeError:
                    self._stream.write(text.encode("ascii", "replace").decode())
            except (OSError, ValueError):
                self.broken = True
        return len(text)

    def flush(self) -> None:
        if self.broken:
            return
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self.broken = True

    def is_terminal(self) -> bool:
        try:
            return self._stream.isatty()
        except (AttributeError, OSError, ValueError):
            return False

    def read_width(self) -> int | None:
        """Read how many columns a line may fill; ``None`` if the terminal does not tell."""
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (AttributeError, OSError, ValueError):
            return None
        # Some terminals say 0; and some wrap a line that fills them.
        return columns - 1 if columns > 1 else None


def _is_notebook() -> bool:
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython is not None and hasattr(get_ipython(), "kernel")


def _load_bar(*, notebook: bool) -> Any:
    """Give tqdm's class, without its thread that watches bars, and without its lock between processes.

    Making that lock would fix the start method of multiprocessing, which is the user's to choose.
    """
    with warnings.catch_warnings():
        # In a notebook without widgets a bar of text is all one can have.
        warnings.filterwarnings("ignore", message="IProgress not found")
        module = importlib.import_module("tqdm.auto" if notebook else "tqdm.std")
    members: dict[str, object] = {"monitor_interval": 0}
    if not hasattr(module.tqdm, "_lock"):
        members["_lock"] = importlib.import_module("tqdm.std").TqdmDefaultWriteLock.th_lock
    return type("Bar", (module.tqdm,), members)


def _measure_rate(standing: Standing) -> float | None:
    return (standing.done - standing.earlier) / standing.seconds if standing.seconds > 0 else None


def _render_items(standing: Standing) -> str:
    if standing.total is None:
        return f"{standing.done:,} {_name(standing.done, 'item')}"
    return f"{standing.done:,} of {standing.total:,} {_name(standing.total, 'item')}"


def _render_rest(standing: Standing) -> str:
    failed = f"{standing.failures:,} failed" if standing.failures else ""
    # None are left when a call has ended; while it waits for some, the note says so.
    engines = f"{standing.engines:,} {_name(standing.engines, 'engine')}" if standing.engines else ""
    return ", ".join(part for part in (failed, engines, _flatten(standing.note)) if part)


def _render_rate(rate: float) -> str:
    """Say items a second in the shortest period that sees one; ``""`` where not even an hour sees a tenth of one."""
    seconds, period = next((pair for pair in _PERIODS if rate * pair[0] >= 1), _PERIODS[-1])
    count = rate * seconds
    text = f"{count:,.0f}" if count >= 9.95 else f"{count:.1f}".removesuffix(".0")
    return "" if text == "0" else f"{text} {period}"


def _render_seconds(seconds: float) -> str:
    """Say a time in its two largest units, such as ``2 h 5 min``; at least one second."""
    left = max(1, int(seconds))
    parts: list[str] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count:,} {unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts)


def _name(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


def _flatten(text: str) -> str:
    """Make one line of a text, without what would move a terminal's cursor."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
