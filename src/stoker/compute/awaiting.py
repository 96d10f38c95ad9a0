"""Maps for asyncio: each runs in a thread of its own, and ends with the task that awaits it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stoker.compute.call import Call, Explain
from stoker.compute.mapping import gather, iterate_lists, open_call
from stoker.compute.options import MapOptions
from stoker.compute.resume import JournalledCall

__all__ = ["aimap", "amap"]


async def amap(
    view: Any, function: Callable[..., Any], *iterables: Iterable[Any], explain: Explain | None = None, **options: Any
) -> list[Any]:
    """Do as ``map``, while the event loop does other things; cancelling it cancels the map.

    Iterables are read in another thread.

    Raises:
        asyncio.CancelledError: It was cancelled; what ran was interrupted.
        Exception: As of ``map``.
    """
    chosen = MapOptions(**options)
    call = open_call(view, function, iterables, chosen, explain=explain)
    thread = ThreadPoolExecutor(1, thread_name_prefix="stoker-amap")
    try:
        return await _run(thread, call, gather, call, chosen)  # type: ignore[no-any-return]
    finally:
        thread.shutdown(wait=False)


def aimap(
    view: Any,
    function: Callable[..., Any],
    *iterables: Iterable[Any],
    ordered: bool = True,
    explain: Explain | None = None,
    **options: Any,
) -> AsyncGenerator[Any, None]:
    """Do as ``imap``, for ``async for``; its ``aclose``, or cancelling the task that awaits it, cancels the rest."""
    chosen = MapOptions(**options)
    call = open_call(view, function, iterables, chosen, explain=explain)
    return _iterate(call, iterate_lists(call, chosen, ordered=ordered))


async def _iterate(
    call: Call | JournalledCall, lists: Generator[Sequence[Any], None, None]
) -> AsyncGenerator[Any, None]:
    thread = ThreadPoolExecutor(1, thread_name_prefix="stoker-aimap")
    try:
        while (values := await _run(thread, call, _take_list, lists)) is not None:
            for value in values:
                yield value
    finally:
        call.stop()
        await _run(thread, call, lists.close)
        thread.shutdown(wait=False)


def _take_list(lists: Generator[Sequence[Any], None, None]) -> list[Any] | None:
    # What a journal has is read here, in the thread that has it open.
    values = next(lists, None)
    return None if values is None else list(values)


async def _run(
    thread: ThreadPoolExecutor, call: Call | JournalledCall, function: Callable[..., Any], *arguments: Any
) -> Any:
    pending = asyncio.wrap_future(thread.submit(function, *arguments))
    try:
        return await asyncio.shield(pending)
    except asyncio.CancelledError:
        call.stop()
        # Within two seconds: engines answer, or are left to themselves.
        with contextlib.suppress(Exception):
            await pending
        raise
