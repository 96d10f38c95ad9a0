"""Futures of calls on engines: those of ``concurrent.futures``, but made and resolved by the thousand.

A standard future has a lock of its own, which costs more to make than a batched call costs in all. Here it is made when
someone first waits for the future, adds a callback, or prints it. Two steps go without: that a call is sent rather than
cancelled is decided by who first writes it into the future's dictionary, and a future without a lock that is resolved
gets a ``_Gate`` in its place. (Writing a dictionary's missing key, ``setdefault``, is one step.)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from stoker.errors import ConnectError, DeadlockError

__all__ = ["CallFuture", "Resolver", "resolve_all"]


class Resolver:
    """Who resolves futures: a thread of a process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.thread: threading.Thread | None = None


class _Late:
    """An attribute that is made when it is first read."""

    def __init__(self, make: Any) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        return instance.__dict__.setdefault(self._name, self._make())


class CallFuture(Future[Any]):
    """The result of a call that engines run, when it is there."""

    _condition = _Late(threading.Condition)
    _waiters = _Late(list)
    _done_callbacks = _Late(list)
    _state = "PENDING"
    _result: Any = None
    _exception: BaseException | None = None

    def __init__(self, resolver: Resolver) -> None:
        # What the base makes here is made later, if at all.
        self._resolver = resolver

    def begin(self) -> bool:
        """Note that the call is about to be sent, and tell whether it may be: it was not cancelled."""
        if self.__dict__.setdefault("_decided", "sent") != "sent":
            return False
        self._state = "RUNNING"
        return True

    def cancel(self) -> bool:
        """Cancel the call, if it was not sent yet; see ``concurrent.futures.Future.cancel``."""
        if self.__dict__.setdefault("_decided", "cancelled") != "cancelled":
            return False
        cancelled = super().cancel()
        with self._condition:
            if self._state == "CANCELLED":
                # Nobody else is going to tell those who wait for it.
                self.set_running_or_notify_cancel()
        return cancelled

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result; see ``concurrent.futures.Future.result``.

        Raises:
            DeadlockError: This is a callback: the result can only come when it has returned. No error where ``timeout``
                gives the waiting an end.
            ConnectError: This process was forked from the one that made the call: the result goes there.
        """
        if self._state == "FINISHED" and self._exception is None:
            return self._result
        if timeout is None:
            self._check_wait()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for what the call raised; see ``concurrent.futures.Future.exception``, and ``result`` for errors."""
        if timeout is None:
            self._check_wait()
        return super().exception(timeout)

    def _check_wait(self) -> None:
        if self._state not in ("PENDING", "RUNNING"):
            return
        if self._resolver.process != os.getpid():
            raise ConnectError("this call was made by the process that this one was forked from: its result goes there")
        if self._resolver.thread is threading.current_thread():
            raise DeadlockError(
                "a callback waits for a call on the same engines: results can only come when it has returned; "
                "hand the call to a thread, or give the future as an argument to the next call"
            )


def resolve_all(results: Iterable[tuple[CallFuture, Any]]) -> list[tuple[CallFuture, Any]]:
    """Resolve the futures of which nobody has asked for anything yet.

    Args:
        results: Futures that have begun, each with its result.

    Returns:
        The others.
    """
    others = []
    gate = _Gate()
    with gate.lock:
        for future, result in results:
            attributes = future.__dict__
            if attributes.setdefault("_condition", gate) is gate:
                attributes["_result"] = result
                attributes["_state"] = "FINISHED"
            else:
                others.append((future, result))
    return others


class _Gate:
    """The lock of futures that are resolved: whoever takes it waits until they are, and then holds nothing.

    Nothing of a resolved future changes any more, so that there is nothing to hold.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def acquire(self) -> bool:
        with self.lock:
            return True

    def release(self) -> None:
        pass

    def notify_all(self) -> None:
        pass

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *problem: object) -> None:
        pass
