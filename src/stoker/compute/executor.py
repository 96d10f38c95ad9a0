"""Executors: engines behind the interface of ``concurrent.futures``, for programs that speak it already."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from stoker.compute.call import Explain
from stoker.compute.futures import CallFuture
from stoker.compute.options import MapOptions
from stoker.compute.pump import Pump
from stoker.compute.summary import Summary

__all__ = ["Executor", "submit"]

_lock = threading.Lock()


class Executor(concurrent.futures.Executor):
    """Runs calls on the engines of a view.

    Leaving it as a context manager waits for all calls. Those that were submitted when a program ends are finished
    first.
    """

    def __init__(self, view: Any, *, explain: Explain | None = None, stragglers: bool = False, **options: Any) -> None:
        """Make one; it costs nothing until something is submitted.

        Args:
            view: An ipyparallel ``LoadBalancedView`` or ``DirectView``, of any cluster.
            explain: Gives the cause of the death of an engine's process, by pid.
            stragglers: As of ``MapOptions``; here a call runs twice only if it is tried again.
            **options: ``timeout``, ``retries``, ``retry_on``, ``batch``, ``patience`` and ``label`` of ``MapOptions``.

        Raises:
            StokerError: An option is out of its range.
        """
        if unknown := options.keys() - _OPTIONS:
            raise TypeError(f"an executor has no option {', '.join(sorted(unknown))}; it has: {', '.join(_OPTIONS)}")
        chosen = MapOptions(stragglers=stragglers, **options)
        self._pump = Pump(view, chosen, explain=explain)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CallFuture:
        """Have a call run on an engine.

        Args:
            fn: Travels by value where it has to.
            *args: Futures among them, and among the keyword arguments, are waited for: the call gets their results.
                If one fails, so does this call, with the same exception.
            **kwargs: Keyword arguments.

        Returns:
            Its future. The exception of the call has the engine's traceback as its cause; others are
            ``EngineDiedError``, ``ItemTimeoutError``, and for what prevents all calls ``NoEnginesError``,
            ``ConnectError`` or ``StokerError``. Whatever dies, it comes within ``patience`` and half a minute of
            the moment from which on nobody can run the call.

        Raises:
            RuntimeError: The executor was shut down.
        """
        return self._pump.submit(fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **more: Any,
    ) -> Iterator[Any]:
        """Do as ``concurrent.futures.Executor.map``; batches have the size that suits them, whatever ``chunksize``."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        return super().map(fn, *iterables, timeout=timeout, **more)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: Whether to wait until all calls have ended.
            cancel_futures: Whether to cancel those that were not sent to an engine.

        Raises:
            DeadlockError: It was to wait, and this is a callback of one of its futures.
        """
        self._pump.close(cancel=cancel_futures)
        if wait:
            self._pump.join()

    def abandon(self) -> None:
        """Take no more calls, interrupt those that run, and resolve their futures with a ``ConnectError``."""
        self._pump.abandon()

    @property
    def summary(self) -> Summary:
        """What was done so far."""
        return self._pump.summary

    def __repr__(self) -> str:
        return f"<stoker.Executor {self.summary}>"


def submit(view: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CallFuture:
    """Have a call run on the engines of a view; see ``Executor.submit``. The view keeps an executor for this."""
    with _lock:
        executor: Executor | None = view.__dict__.get(_ATTRIBUTE)
        if executor is None:
            executor = view.__dict__[_ATTRIBUTE] = Executor(view)
    return executor.submit(fn, *args, **kwargs)


_ATTRIBUTE = "_stoker_executor"
_OPTIONS = ("timeout", "retries", "retry_on", "batch", "patience", "label")
