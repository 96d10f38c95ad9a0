"""Submissions: calls that wait to be sent, as a source of items without end, and the futures of those under way.

An item is a call: its function, its positional and its keyword arguments. Batches mix functions, and each function has
a pace of its own: a slow one right after many quick ones is not taken for one of them.
"""

from __future__ import annotations

import collections
import copy
import functools
import logging
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import InvalidStateError
from typing import Any

from stoker.compute.batching import Pace
from stoker.compute.call import Settled
from stoker.compute.futures import CallFuture, resolve_all
from stoker.compute.source import Columns

__all__ = ["Submissions", "Submitted"]

Submitted = tuple[CallFuture, Callable[..., Any], tuple[Any, ...], dict[str, Any]]

_LOGGER = logging.getLogger("stoker")
_KEPT = 256
"""Functions whose paces are kept."""
_STRANGERS = 4
"""Calls of functions whose pace is unknown that may travel together."""
_NONE: dict[str, Any] = {}
"""One for all calls without keyword arguments: in a batch it is packed once."""


class Submissions:
    """Calls that wait, and calls under way. ``put`` is for any thread, the rest for the one that feeds engines."""

    whole = None

    def __init__(self) -> None:
        self._waiting: collections.deque[Submitted] = collections.deque()
        self._running: dict[int, CallFuture] = {}
        self._next = 0
        self._overall = Pace()
        self._paces: collections.OrderedDict[Hashable, Pace] = collections.OrderedDict()
        self.hungry = True
        """Whether the next call could be sent at once: who puts it then has to wake the one that feeds engines."""

    @property
    def left(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    def restart(self) -> None:
        """Count items from 0 again, for another call to be fed with them."""
        self._next = 0

    def put(self, submitted: Submitted) -> None:
        """Add a call."""
        self._waiting.append(submitted)

    def take(self, count: int) -> Columns | None:
        """Take up to ``count`` calls, fewer where those behind the first take longer than it; futures become running.

        Returns:
            Three columns: functions, tuples of arguments, dictionaries of keyword arguments.
        """
        running, index = self._running, self._next
        rows: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        functions, arguments, keywords = rows
        budget = count * (self.pace.seconds_per_item or 0.0)
        spent = each = 0.0
        strangers = 0
        last: object = None
        while len(functions) < count and (first := self._peek()) is not None:
            function = first[1]
            if function is not last:
                last = function
                seconds = self._estimate(function)
                strangers += seconds is None
                each = budget / _STRANGERS if seconds is None else seconds
            if functions and (spent + each > budget * 1.001 or strangers > _STRANGERS):
                break
            if (submitted := self._pop()) is None:
                break
            future, function, args, kwargs = submitted
            if not future.begin():
                continue
            spent += each
            running[index] = future
            index += 1
            functions.append(function)
            arguments.append(args)
            keywords.append(kwargs or _NONE)
        self._next = index
        return rows if functions else None

    @property
    def pace(self) -> Pace:
        """The pace of the function that is the next to be called; of all together where it is unknown."""
        first = self._peek()
        return self._overall if first is None else self._paces.get(_key(first[1]), self._overall)

    def expect(self, functions: Sequence[Callable[..., Any]]) -> float | None:
        """Give the seconds that calls of these functions will take; None where one of them is unknown."""
        total = 0.0
        for function in functions:
            seconds = self._estimate(function)
            if seconds is None:
                return None
            total += seconds
        return total

    def note(self, functions: Sequence[Callable[..., Any]], *, seconds: float, size_bytes: int) -> None:
        """Take in a batch that came home.

        Args:
            functions: Those of its calls that have run.
            seconds: What they took, all together.
            size_bytes: Bytes of arguments and results.
        """
        count = len(functions)
        self._overall.note(count=count, seconds=seconds, size_bytes=size_bytes)
        counts = collections.Counter(map(_key, functions))
        mean = seconds / count
        # A mixed batch tells no more than its sum.
        weights = {key: number * (self._look(key) or mean or 1.0) for key, number in counts.items()}
        total = sum(weights.values())
        for key, number in counts.items():
            pace = self._paces.get(key)
            if pace is None:
                pace = self._paces[key] = Pace()
                while len(self._paces) > _KEPT:
                    self._paces.popitem(last=False)
            pace.note(count=number, seconds=seconds * weights[key] / total, size_bytes=size_bytes * number // count)

    def resolve(self, settled: Settled) -> None:
        """Hand results to the futures that they belong to."""
        pop, first = self._running.pop, settled.first
        if settled.errors or settled.again:
            results = [(pop(first + position), value) for position, value in _list_good(settled)]
        else:
            results = [(pop(index), value) for index, value in enumerate(settled.values, first)]
        awaited = resolve_all(results)
        for future, value in awaited:
            _finish(future, future.set_result, value)
        for position, error in settled.errors.items():
            future = pop(first + position)
            _finish(future, future.set_exception, error)
        if awaited and len(results) == 1:
            # Who waits for a lone call goes on before this thread does its books.
            time.sleep(0)

    def fail(self, error: BaseException) -> None:
        """Resolve everything that waits or is under way with an error, each with a copy of its own."""
        running, self._running = list(self._running.values()), {}
        while (submitted := self._pop()) is not None:
            if submitted[0].begin():
                running.append(submitted[0])
        for future in running:
            _finish(future, future.set_exception, _copy(error))

    def cancel(self) -> None:
        """Cancel what waits."""
        while (submitted := self._pop()) is not None:
            submitted[0].cancel()

    def _peek(self) -> Submitted | None:
        # Another thread may cancel what waits, at any moment.
        try:
            return self._waiting[0]
        except IndexError:
            return None

    def _pop(self) -> Submitted | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _estimate(self, function: Callable[..., Any]) -> float | None:
        return self._look(_key(function))

    def _look(self, key: Hashable) -> float | None:
        pace = self._paces.get(key)
        return None if pace is None else pace.seconds_per_item


def _list_good(settled: Settled) -> Iterator[tuple[int, Any]]:
    for position, value in enumerate(settled.values):
        if position not in settled.errors and position not in settled.again:
            yield position, value


def _finish(future: CallFuture, finish: Callable[[Any], None], outcome: Any) -> None:
    try:
        finish(outcome)
    except InvalidStateError:
        # Someone else has resolved it.
        pass
    except BaseException:
        # Of a callback that was to end the program, not this thread; its other errors are logged by the future.
        _LOGGER.critical("a callback of %r raised", future, exc_info=True)


def _key(function: Callable[..., Any]) -> Hashable:
    """Give what calls of the same pace have in common, without keeping the function itself alive."""
    code = getattr(function, "__code__", None)
    if code is not None:
        return code  # type: ignore[no-any-return]
    if isinstance(function, functools.partial):
        return _key(function.func)
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else f"{type(function).__module__}.{type(function).__qualname__}"


def _copy(error: BaseException) -> BaseException:
    # Each time it is raised an exception's traceback grows.
    try:
        fresh = copy.copy(error)
    except Exception:
        return error
    fresh.__cause__ = error
    return fresh
