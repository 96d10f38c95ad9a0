"""The pump: one thread that feeds engines with submitted calls, and resolves their futures.

It begins with the first call, ends when nothing was submitted for a while, and begins again with the next. A lone call
is sent at once; those that come while engines are busy are gathered into batches.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from stoker.compute.batching import DEPTH, Load, Pace
from stoker.compute.call import Call, Explain, Settled
from stoker.compute.faults import show_call
from stoker.compute.futures import CallFuture, Resolver
from stoker.compute.ledger import Piece
from stoker.compute.options import MapOptions
from stoker.compute.submissions import Submissions, Submitted
from stoker.compute.summary import Summary, Tally
from stoker.errors import ConnectError, DeadlockError

__all__ = ["Pump"]

_LINGER = 10.0
"""Seconds without a call after which the thread ends."""


class Pump(Resolver):
    """Feeds the engines of a view with submitted calls."""

    def __init__(self, view: Any, options: MapOptions, *, explain: Explain | None = None) -> None:
        super().__init__()
        self._view = view
        # Each call's errors are its own.
        self._options = replace(options, on_error="return", label=options.label or "submit")
        self._explain = explain
        self._calls = Submissions()
        self._tally = Tally()
        self._lock = threading.Lock()
        self._feed: _Feed | None = None
        self._dependents: dict[CallFuture, Submitted | None] = {}
        """Calls whose arguments are still to come; None: they have come, and it is about to wait as others do."""
        self._independent = threading.Condition(self._lock)
        self._closed = self._abandoned = False
        _pumps.add(self)

    def submit(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> CallFuture:
        """Take a call; those of its arguments that are futures are waited for.

        Raises:
            RuntimeError: The pump was closed, or the interpreter ends.
            ConnectError: This process was forked from the one that made it.
        """
        if self._closed:
            self._refuse()
        future = CallFuture(self)
        submitted = (future, function, args, kwargs)
        for value in (*args, *kwargs.values()) if kwargs else args:
            if isinstance(value, Future):
                self._depend(submitted)
                return future
        self._put(submitted)
        return future

    @property
    def summary(self) -> Summary:
        """What was done so far."""
        if (feed := self._feed) is not None:
            return feed.summary
        return self._tally.sum_up(label=self._options.label, items=0, taken=0, seconds=0.0)

    def close(self, *, cancel: bool = False) -> None:
        """Take no more calls; the thread ends when all are done.

        Args:
            cancel: Whether calls that were not sent are cancelled.
        """
        self._closed = True
        if cancel:
            self._calls.cancel()
            for future in list(self._dependents):
                future.cancel()
        if (feed := self._feed) is not None:
            feed.wake()

    def abandon(self) -> None:
        """Cancel what waits, interrupt what runs, and resolve its futures with a ``ConnectError``; wait for that.

        In a callback it does not wait.
        """
        self._abandoned = True
        self.close(cancel=True)
        if (feed := self._feed) is not None:
            feed.stop()
        if self.thread is not threading.current_thread():
            self.join()

    def join(self) -> None:
        """Wait until all calls are done and the thread has ended.

        Raises:
            DeadlockError: This is a callback, which that thread runs.
        """
        if self.thread is threading.current_thread():
            raise DeadlockError("a callback waits for the end of all calls: that can only come when it has returned")
        while True:
            with self._lock:
                self._independent.wait_for(lambda: not self._dependents)
                thread = self.thread
            if thread is None:
                return
            thread.join()

    def drop_strangers(self) -> None:
        """Cancel calls that wait for futures of others, which may never come."""
        for future, submitted in list(self._dependents.items()):
            if submitted and not all(isinstance(each, CallFuture) or each.done() for each in _list_needed(submitted)):
                future.cancel()

    def disown(self) -> None:
        """Be of no use, in a process that was forked: the thread is not there, and locks are as they happened to be."""
        self._closed = True
        self.thread = self._feed = None
        self._dependents.clear()
        self._lock = threading.Lock()
        self._independent = threading.Condition(self._lock)

    def _refuse(self) -> None:
        if self.process != os.getpid():
            raise ConnectError("this executor belongs to the process that this one was forked from: connect again")
        when = "interpreter shutdown" if _exiting else "shutdown"
        # The words of concurrent.futures.
        raise RuntimeError(f"cannot schedule new futures after {when}")

    def _put(self, submitted: Submitted) -> None:
        calls = self._calls
        calls.put(submitted)
        if calls.hungry:
            calls.hungry = False
            self._wake()

    def _wake(self) -> None:
        with self._lock:
            if self.thread is None:
                self.thread = threading.Thread(target=self._run, name="stoker-submit", daemon=True)
                self.thread.start()
            elif self._feed is not None:
                self._feed.wake()

    # Arguments that are futures.

    def _depend(self, submitted: Submitted) -> None:
        future = submitted[0]
        needed = _list_needed(submitted)
        left = len(needed)

        def note(done: Future[Any]) -> None:
            nonlocal left
            with self._lock:
                left -= 1
                last = left == 0
            if last or done.cancelled() or done.exception() is not None:
                self._release(submitted)

        with self._lock:
            self._dependents[future] = submitted
        # Also told when it is cancelled itself.
        future.add_done_callback(lambda _: self._release(submitted))
        for each in needed:
            each.add_done_callback(note)

    def _release(self, submitted: Submitted) -> None:
        """Let a call wait as others do, or resolve it as one that it needs has failed."""
        future, function, args, kwargs = submitted
        with self._lock:
            if self._dependents.get(future) is None:
                return
            self._dependents[future] = None
        failed = next((each for each in _list_needed(submitted) if _is_failed(each)), None)
        if failed is None and not future.cancelled():
            values = tuple(_fetch(value) for value in args), {name: _fetch(value) for name, value in kwargs.items()}
            self._put((future, function, *values))
        elif failed is None or failed.cancelled():
            future.cancel()
        elif future.begin():
            future.set_exception(failed.exception())
        with self._lock:
            del self._dependents[future]
            self._independent.notify_all()

    # In the thread.

    def _run(self) -> None:
        while True:
            failure: BaseException | None = None
            try:
                self._calls.restart()
                self._feed = feed = _Feed(self, self._view, self._calls, self._options, self._tally, self._explain)
                if self._abandoned:
                    feed.stop()
                for settled in feed.run():
                    self._calls.resolve(settled)
                if self._abandoned:
                    failure = ConnectError("the connection was closed before this call had ended")
            except BaseException as error:
                failure = error
            # What it did is in the tally by now, before anybody who waits for a future looks there.
            self._feed = None
            if failure is not None:
                self._calls.fail(failure)
            with self._lock:
                self._calls.hungry = True
                if not self._calls.left:
                    self.thread = None
                    return
                self._calls.hungry = False

    @property
    def closed(self) -> bool:
        """Whether no more calls are taken."""
        return self._closed


class _Feed(Call):
    """The call that one run of the thread is: its items are calls, and more may come while it runs."""

    def __init__(
        self,
        pump: Pump,
        view: Any,
        calls: Submissions,
        options: MapOptions,
        tally: Tally,
        explain: Explain | None,
    ) -> None:
        super().__init__(view, _make_trampoline(), calls, options, explain=explain)
        self._pump = pump
        self._calls = calls
        self._tally = tally
        self._active = 0.0
        self._idle_since: float | None = None

    def wake(self) -> None:
        """Have it look around, from another thread."""
        self._channel.wake()

    def run(self) -> Generator[Settled, None, None]:
        """Feed the engines until there was nothing to do for a while, or the pump was closed; see ``Call.run``."""
        try:
            yield from super().run()
        finally:
            self._tally.go_on(items=self._ledger.settled, taken=self._ledger.taken, seconds=self._elapsed())

    def _elapsed(self) -> float:
        return self._active + (0.0 if self._idle_since is not None else super()._elapsed())

    def _is_over(self) -> bool:
        if not super()._is_over():
            if self._idle_since is not None:
                self._idle_since, self._begun = None, time.monotonic()
            return False
        if self._idle_since is None:
            self._active += super()._elapsed()
            self._idle_since = time.monotonic()
        return self._pump.closed or time.monotonic() - self._idle_since >= _LINGER

    def _choose_wait(self) -> float:
        return _LINGER if self._idle_since is not None else super()._choose_wait()

    def _check_engines(self, now: float) -> None:
        if super()._is_over():
            self._alone_since = None
        else:
            super()._check_engines(now)

    def _fill(self) -> None:
        super()._fill()
        while not self._calls.left:
            # Another thread's call wakes this one from now on; one that has just come was not.
            self._calls.hungry = True
            if not self._calls.left:
                return
            self._calls.hungry = False
            super()._fill()

    @property
    def pace(self) -> Pace:
        return self._calls.pace

    def _size(self, engines: int) -> Load:
        load, left = super()._size(engines), self._ledger.left
        if self._options.batch is not None or not load.items or not left:
            return load
        # The pace may mislead: these may take longer than the calls before. Then they are at least spread.
        return load._replace(items=min(load.items, -(-left // (DEPTH * engines - self._ledger.flying))))

    def _send(self, piece: Piece, *, limit: float, engine: str | None = None) -> int:
        try:
            return super()._send(piece, limit=limit, engine=engine)
        except ConnectError:
            raise
        except Exception as error:
            # It is still at the head of what is to be sent.
            number = self._channel.number()
            again = self._ledger.take(piece.count)
            assert again is not None
            self._ledger.depart(again, number)
            self._refuse(number, error)
            return number

    def _refuse(self, number: int, error: Exception) -> None:
        """Find which call of a batch cannot be run: each part is tried again; one that is alone has that error."""
        if self._leave_to_twin(number):
            return
        piece = self._ledger.look(number)
        assert piece is not None
        self._forget(number)
        given_up = self._ledger.lose(number, 0, piece.count, known=False, last=True)
        if given_up is not None:
            self._tally.failures += 1
            self._calls.resolve(Settled(first=piece.first, values=[None], errors={0: error}))

    def _note_pace(self, piece: Piece, *, count: int, seconds: float, size_bytes: int) -> None:
        self._calls.note(piece.columns[0][:count], seconds=seconds, size_bytes=size_bytes)

    def _expect(self, piece: Piece) -> float | None:
        return self._calls.expect(piece.columns[0])

    def _show(self, piece: Piece, position: int) -> str:
        return show_call(*(column[position] for column in piece.columns))


def _make_trampoline() -> Callable[..., Any]:
    # A function within a function travels by value, so that engines need no stoker.
    return lambda function, args, kwargs: function(*args, **kwargs)


def _list_needed(submitted: Submitted) -> list[Future[Any]]:
    _, _, args, kwargs = submitted
    return list(dict.fromkeys(value for value in (*args, *kwargs.values()) if isinstance(value, Future)))


def _is_failed(future: Future[Any]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)


def _fetch(value: Any) -> Any:
    return value.result() if isinstance(value, Future) else value


# The end of the program, and programs that fork.

_pumps: weakref.WeakSet[Pump] = weakref.WeakSet()
_exiting = False


def _finish() -> None:
    """Finish what was submitted, as the executors of concurrent.futures do."""
    global _exiting
    _exiting = True
    pumps = list(_pumps)
    for pump in pumps:
        pump.close()
        pump.drop_strangers()
    for pump in pumps:
        pump.join()


def _disown() -> None:
    for pump in list(_pumps):
        pump.disown()


# Before threads are joined, and long before daemons are stopped; concurrent.futures does the same.
_register: Any = getattr(threading, "_register_atexit", atexit.register)
_register(_finish)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)
