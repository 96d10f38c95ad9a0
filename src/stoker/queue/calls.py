"""Calls: a function by its name, and its arguments as bytes that the server never looks into."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from stoker.errors import QueueError

__all__ = ["PRIMES", "find_function", "name_function", "pack_call", "parse_call", "parse_calls", "show_call"]

PRIMES = "stoker.queue.primes:nth_prime"
"""What ``primes`` stands for."""

_SHOWN = 120


def name_function(function: str | Callable[..., object]) -> str:
    """Give the name by which workers import a function: ``module:function``.

    Raises:
        QueueError: It has no such name.
    """
    if isinstance(function, str):
        return _check_name(function)
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not module or not name or "<" in name:
        raise QueueError(f"{function!r}: workers import functions by name, and this one has none; def it in a module")
    if module == "__main__":
        raise QueueError(f"{name}: it lives in the program that runs, which workers cannot import; put it in a module")
    text = f"{module}:{name}"
    try:
        found = find_function(text)
    except Exception as error:
        raise QueueError(f"{text}: cannot be imported by this name: {error}") from error
    if found is not function:
        raise QueueError(f"{text}: workers would find another object of this name: {found!r}")
    return text


def find_function(name: str) -> Callable[..., object]:
    """Import a function by its name.

    Raises:
        ImportError: There is no such module.
        AttributeError: It has no such function.
        TypeError: It is no function.
    """
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{name} is not a function but {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def pack_call(arguments: Sequence[object], keywords: Mapping[str, object]) -> bytes:
    """Turn arguments into bytes.

    Raises:
        QueueError: They cannot be pickled.
    """
    try:
        return pickle.dumps((tuple(arguments), dict(keywords)), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise QueueError(f"arguments cannot be pickled: {error}") from error


def show_call(function: str, packed: bytes) -> str:
    """Render a call as one would write it, shortened. This unpickles its arguments."""
    try:
        arguments, keywords = pickle.loads(packed)  # noqa: S301 - the caller's own jobs
        shown = [_shorten(repr(value)) for value in arguments]
        shown += [f"{name}={_shorten(repr(value))}" for name, value in keywords.items()]
    except Exception as error:
        return f"{function} with arguments that cannot be read here ({error})"
    return f"{function}({', '.join(shown)})"


def parse_calls(lines: Iterable[str], *, source: str) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Read one call's arguments from each line of JSON; empty lines are passed over.

    Raises:
        QueueError: A line is not JSON.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield parse_call(json.loads(line))
            except ValueError as error:
                raise QueueError(f"{source}, line {number}: is not JSON: {error}; nothing was put") from None


def parse_call(value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Take a list as the positional arguments, an object as the keyword ones, anything else as the only one."""
    if isinstance(value, list):
        return tuple(value), {}
    if isinstance(value, dict):
        return (), value
    return (value,), {}


def _check_name(text: str) -> str:
    module, colon, path = text.partition(":")
    parts = [*module.split("."), *path.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise QueueError(f"{text!r}: write a function as module:function, such as {PRIMES}")
    return sys.intern(text)


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
