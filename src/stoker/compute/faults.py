"""Faults of items: the exceptions that engines report, built again here, each with the item that it belongs to."""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.compute.ledger import Piece
from stoker.compute.packing import unpack
from stoker.errors import EngineDiedError, ItemError, ItemTimeoutError

__all__ = ["ItemPlace", "RemoteTraceback", "build_death", "build_error", "show_call", "show_item"]

_TIMEOUT = "_ItemTimeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemPlace:
    """Which item an exception belongs to. It is the exception's attribute ``item``."""

    index: int
    """Its index in the call."""

    text: str
    """The item's repr, shortened."""

    engine: int | None
    """The number of the engine that ran it; None where nobody knows."""

    host: str
    attempt: int
    """Which try it was, from 1."""

    def __str__(self) -> str:
        engine = "an engine" if self.engine is None else f"engine {self.engine}"
        host = f" on {self.host}" if self.host else ""
        return f"item {self.index} ({self.text}), {engine}{host}, attempt {self.attempt}"


class RemoteTraceback(Exception):  # noqa: N818 - as concurrent.futures names its own
    """The cause of an exception that came from an engine: its traceback there, as text."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def build_error(record: Sequence[Any], place: ItemPlace) -> BaseException:
    """Build an item's exception again.

    Args:
        record: As the runner wrote it: the class's name, a line of text, the traceback, the packed exception or None.
        place: Which item it belongs to.
    """
    ename, text, trace, packed = record
    error: BaseException | None = None
    if ename == _TIMEOUT:
        error = ItemTimeoutError(f"{place}: {text}")
    elif packed is not None:
        with contextlib.suppress(Exception):
            loaded = unpack(packed)
            error = loaded if isinstance(loaded, BaseException) else None
    if error is None:
        error = ItemError(ename, text)
    elif isinstance(error, StopIteration):
        # Raised here it would end some iteration in silence (PEP 479).
        error = RuntimeError("the function raised StopIteration")
    elif not trace and ename != _TIMEOUT:
        # Its own text says nothing of what was wrong with the result.
        _add_note(error, text)
    if trace and error.__cause__ is None:
        _set(error, "__cause__", RemoteTraceback(trace))
    return _mark(error, place)


def build_death(piece: Piece, place: ItemPlace, *, cause: str, timeout: float | None) -> BaseException:
    """Build the exception for an item that was given up.

    Args:
        piece: The item alone.
        place: Where it was tried last.
        cause: What the engine died of; empty where nobody knows.
        timeout: Seconds that the item may take, if that is what its engine was ended for.
    """
    if timeout is not None:
        return _mark(
            ItemTimeoutError(f"{place}: took longer than {timeout:g} s and could not be stopped: its engine was ended"),
            place,
        )
    died = f"died of {cause}" if cause else "died"
    times = "" if piece.deaths == 1 else f" ({piece.deaths} engines did)"
    return _mark(EngineDiedError(f"{place}: the engine {died} while it ran this item{times}", cause=cause), place)


def show_item(piece: Piece, position: int) -> str:
    """Give the shortened repr of an item."""
    try:
        values = [column[position] for column in piece.columns]
        return reprlib.repr(values[0] if len(values) == 1 else tuple(values))
    except Exception as error:
        return f"its repr raised {type(error).__name__}"


def show_call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Give a call as it would be written, with shortened arguments."""
    name = getattr(function, "__name__", None) or type(function).__name__
    try:
        words = [*map(reprlib.repr, args), *(f"{word}={reprlib.repr(value)}" for word, value in kwargs.items())]
    except Exception as error:
        words = [f"their repr raised {type(error).__name__}"]
    return f"{name}({', '.join(words)})"


def _mark(error: BaseException, place: ItemPlace) -> BaseException:
    with contextlib.suppress(Exception):
        _set(error, "item", place)
    text = ""
    with contextlib.suppress(Exception):
        text = str(error)
    if str(place) not in text:
        _add_note(error, str(place))
    return error


def _add_note(error: BaseException, note: str) -> None:
    _set(error, "__notes__", [*getattr(error, "__notes__", ()), note])


def _set(error: BaseException, name: str, value: object) -> None:
    # A frozen dataclass refuses what is set in the ordinary way.
    object.__setattr__(error, name, value)
