"""Maps over a view: a function, its items, and what comes of them, however many engines die meanwhile.

``map`` waits for all, ``imap`` gives results as they come, ``starmap`` calls with several arguments an item. All take
the options of ``MapOptions`` as keywords.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from stoker.compute.call import Call, Explain, Settled
from stoker.compute.options import MapOptions
from stoker.compute.resume import JournalledCall
from stoker.compute.source import Source, open_source, open_star_source

__all__ = ["MappedFunction", "gather", "imap", "iterate_lists", "map", "open_call", "starmap"]


def map(  # noqa: A001 - as the builtin
    view: Any, function: Callable[..., Any], *iterables: Iterable[Any], explain: Explain | None = None, **options: Any
) -> list[Any]:
    """Call a function for each item, on the engines of a view, and wait for all results.

    Args:
        view: An ipyparallel ``LoadBalancedView`` or ``DirectView``, of any cluster.
        function: Travels by value where it has to: lambdas, closures, and functions of modules that engines lack.
        *iterables: Its arguments; the shortest ends the map, as with the builtin. Lists, ranges and arrays are sliced.
        explain: Gives the cause of the death of an engine's process, by pid.
        **options: The fields of ``MapOptions``.

    Returns:
        The results, in the order of the items.

    Raises:
        Exception: What an item raised first, with its remote traceback as ``__cause__`` and its ``ItemPlace`` as
            ``item``; the other items were cancelled.
        EngineDiedError: An item was given up: engines died whenever it ran.
        ItemTimeoutError: An item took longer than ``timeout``.
        NoEnginesError: There was no engine for ``patience`` seconds.
        JournalError: The journal is of another function or other inputs, is in use, or cannot be written; what is in it
            is safe.
        StokerError: An option is wrong, or engines cannot load the function or the items.
    """
    chosen = MapOptions(**options)
    return gather(open_call(view, function, iterables, chosen, explain=explain), chosen)


def starmap(
    view: Any,
    function: Callable[..., Any],
    items: Iterable[Iterable[Any]],
    *,
    explain: Explain | None = None,
    **options: Any,
) -> list[Any]:
    """Do as ``map``, with each item holding the arguments of one call."""
    chosen = MapOptions(**options)
    return gather(open_call(view, function, [items], chosen, star=True, explain=explain), chosen)


def imap(
    view: Any,
    function: Callable[..., Any],
    *iterables: Iterable[Any],
    ordered: bool = True,
    explain: Explain | None = None,
    **options: Any,
) -> Generator[Any, None, None]:
    """Do as ``map``, but give each result as soon as it is there.

    Items are read as engines need them, so that they may come from a generator without end. Nothing is sent before the
    first result is asked for, and while nobody asks, engines finish what they have and wait. Closing the iterator
    cancels the rest.

    Args:
        view: As of ``map``.
        function: As of ``map``.
        *iterables: As of ``map``.
        ordered: Whether results come in the order of the items, or as they are done.
        explain: As of ``map``.
        **options: The fields of ``MapOptions``.
    """
    chosen = MapOptions(**options)
    call = open_call(view, function, iterables, chosen, explain=explain)
    return _iterate(iterate_lists(call, chosen, ordered=ordered))


class MappedFunction:
    """A function whose calls are spread over engines, one call for each item, in batches."""

    def __init__(
        self, view: Any, function: Callable[..., Any], *, explain: Explain | None = None, **options: Any
    ) -> None:
        # First, because it brings along whatever attributes the function carries, of any name.
        functools.update_wrapper(self, function)
        self._view = view
        self._function = function
        self._explain = explain
        self._options = options

    def __repr__(self) -> str:
        name = getattr(self._function, "__qualname__", repr(self._function))
        return f"<{type(self).__name__} {name} on {self._view!r}>"

    def map(self, *iterables: Iterable[Any]) -> list[Any]:
        """Call the function for each item; see ``map``."""
        return map(self._view, self._function, *iterables, explain=self._explain, **self._options)

    def __call__(self, *iterables: Iterable[Any]) -> list[Any]:
        """Do what its ``map`` does."""
        return self.map(*iterables)


def open_call(
    view: Any,
    function: Callable[..., Any],
    iterables: Sequence[Iterable[Any]],
    options: MapOptions,
    *,
    star: bool = False,
    explain: Explain | None,
) -> Call | JournalledCall:
    """Open a call of a function for each item, with the journal that the options name."""

    def make_call(source: Source, **more: Any) -> Call:
        return Call(view, function, source, options, star=star, explain=explain, **more)

    source = open_star_source(*iterables) if star else open_source(iterables)
    if options.journal is None:
        return make_call(source)
    return JournalledCall(function, source, iterables, Path(options.journal), star=star, make_call=make_call)


def gather(call: Call | JournalledCall, options: MapOptions) -> list[Any]:
    """Run a call to its end, and give its results in order; without those that were cancelled."""
    parts = sorted(_list_parts(call, options), key=lambda part: part[0])
    if len(parts) == 1:
        return parts[0][1]
    return list(itertools.chain.from_iterable(values for _, values in parts))


def _list_parts(call: Call | JournalledCall, options: MapOptions) -> list[tuple[int, list[Any]]]:
    parts: list[tuple[int, list[Any]]] = []
    run = call.run()
    try:
        for settled in run:
            parts.extend((first, _as_list(values)) for first, values in _choose(settled, options))
    finally:
        # What is raised here comes only after the rest was cancelled.
        run.close()
    return parts


def iterate_lists(
    call: Call | JournalledCall, options: MapOptions, *, ordered: bool
) -> Generator[Sequence[Any], None, None]:
    """Run a call, and give its results as they come, as many at a time as there are."""
    run = call.run()
    waiting: dict[int, tuple[int, Sequence[Any]]] = {}
    stored: dict[int, tuple[int, Sequence[Any]]] = {}
    following = 0
    try:
        for settled in run:
            if not ordered:
                for _, values in _choose(settled, options):
                    yield values
                continue
            for first, length, values in _choose_parts(settled, options):
                (stored if settled.stored else waiting)[first] = (length, values)
            while part := waiting.pop(following, None) or stored.pop(following, None):
                length, values = part
                following += length
                yield values
            call.hold(len(waiting))
    finally:
        run.close()


def _as_list(values: Sequence[Any]) -> list[Any]:
    return values if isinstance(values, list) else list(values)


def _iterate(lists: Generator[Sequence[Any], None, None]) -> Generator[Any, None, None]:
    try:
        for values in lists:
            yield from values
    finally:
        lists.close()


def _choose(settled: Settled, options: MapOptions) -> Iterator[tuple[int, Sequence[Any]]]:
    return ((first, values) for first, _, values in _choose_parts(settled, options))


def _choose_parts(settled: Settled, options: MapOptions) -> Iterator[tuple[int, int, Sequence[Any]]]:
    """Cut settled items where some are still to come, and treat errors as the options say.

    Yields:
        The index of the first item, how many items these are, and what the caller gets for them.
    """
    if settled.errors and options.on_error == "raise":
        raise settled.errors[min(settled.errors)]
    if not settled.errors and not settled.again:
        yield settled.first, len(settled.values), settled.values
        return
    begin = 0
    for end in sorted({*settled.again, len(settled.values)}):
        if end > begin:
            values = [
                settled.errors.get(position, settled.values[position])
                for position in range(begin, end)
                if not (position in settled.errors and options.on_error == "skip")
            ]
            yield settled.first + begin, end - begin, values
        begin = end + 1
