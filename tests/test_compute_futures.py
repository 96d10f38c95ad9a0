"""Futures: those of the standard library, whoever looks at them at whatever moment."""

from __future__ import annotations

import concurrent.futures
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError

import pytest

from stoker.compute.futures import CallFuture, Resolver, resolve_all
from stoker.errors import ConnectError, DeadlockError

MANY = 4000


@pytest.fixture
def resolver() -> Resolver:
    return Resolver()


@pytest.fixture
def switching() -> Iterator[None]:
    """Has threads take turns far more often than they do."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_a_future_is_what_the_standard_librarys_is_in_each_state(resolver: Resolver) -> None:
    future, standard = CallFuture(resolver), Future[int]()
    assert _describe(future) == _describe(standard)

    assert future.begin()
    assert standard.set_running_or_notify_cancel()
    assert _describe(future) == _describe(standard)

    future.set_result(3)
    standard.set_result(3)
    assert _describe(future) == _describe(standard)
    assert (future.result(), future.result(0), future.exception()) == (3, 3, None)
    with pytest.raises(InvalidStateError):
        future.set_result(4)


def test_an_exception_is_raised_to_who_waits(resolver: Resolver) -> None:
    future, standard = CallFuture(resolver), Future[int]()

    future.begin()
    future.set_exception(ValueError("no"))
    standard.set_exception(ValueError("no"))

    assert _describe(future) == _describe(standard)
    with pytest.raises(ValueError, match="no"):
        future.result()
    assert isinstance(future.exception(), ValueError)


def test_a_cancelled_future_is_told_at_once_and_never_begins(resolver: Resolver) -> None:
    future = CallFuture(resolver)
    told: list[CallFuture] = []
    future.add_done_callback(told.append)  # type: ignore[arg-type]

    assert future.cancel()
    assert future.cancel()
    assert not future.begin()
    assert told == [future]
    assert concurrent.futures.wait([future], timeout=0).done == {future}
    with pytest.raises(CancelledError):
        future.result()


def test_a_future_that_has_begun_is_not_cancelled(resolver: Resolver) -> None:
    future = CallFuture(resolver)

    assert future.begin()
    assert not future.cancel()
    resolve_all([(future, None)])
    assert not future.cancel()
    assert not future.cancelled()


def test_what_somebody_has_asked_of_is_left_to_the_caller(resolver: Resolver) -> None:
    quiet, asked = CallFuture(resolver), CallFuture(resolver)
    told: list[object] = []
    asked.add_done_callback(told.append)
    quiet.begin()
    asked.begin()

    others = resolve_all([(quiet, 1), (asked, 2)])

    assert others == [(asked, 2)]
    assert quiet.done()
    assert not asked.done()
    asked.set_result(2)
    assert told == [asked]


def test_waiting_is_refused_where_it_would_have_no_end(resolver: Resolver) -> None:
    future = CallFuture(resolver)

    resolver.thread = threading.current_thread()
    with pytest.raises(DeadlockError):
        future.result()
    with pytest.raises(TimeoutError):
        future.exception(timeout=0)
    resolver.process += 1
    with pytest.raises(ConnectError):
        future.exception()
    future.set_result(3)
    assert future.result() == 3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("switching")
def test_whoever_looks_at_whatever_moment_sees_each_result_once(seed: int, resolver: Resolver) -> None:
    futures = [CallFuture(resolver) for _ in range(MANY)]
    told: list[int] = []
    cancelled: list[CallFuture] = []
    problems: list[BaseException] = []

    def resolve() -> None:
        for first in range(0, MANY, 40):
            part = [
                (future, number) for number, future in enumerate(futures[first : first + 40], first) if future.begin()
            ]
            for future, number in resolve_all(part):
                future.set_result(number)

    def look(chance: random.Random) -> None:
        for _ in range(60):
            some = chance.sample(range(MANY), 30)
            chosen = [futures[number] for number in some]
            match chance.randrange(5):
                case 0:
                    assert len(list(concurrent.futures.as_completed(chosen, timeout=20))) == len(chosen)
                case 1:
                    assert concurrent.futures.wait(chosen, timeout=20).not_done == set()
                case 2:
                    for number in some:
                        futures[number].add_done_callback(lambda _, number=number: told.append(number))  # type: ignore[misc]
                    expected.extend(some)
                case 3:
                    cancelled.extend(future for future in chosen[:5] if future.cancel())
                case _:
                    for future, number in zip(chosen, some, strict=True):
                        if not future.cancelled():
                            try:
                                assert future.result(20) == number
                            except CancelledError:
                                assert future in cancelled or future.cancelled()

    def run(work: Callable[..., None], *arguments: object) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            problems.append(error)

    expected: list[int] = []
    threads = [threading.Thread(target=run, args=(look, random.Random(10 * seed + each))) for each in range(4)]
    threads.append(threading.Thread(target=run, args=(resolve,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    deadline = time.monotonic() + 10
    while len(told) < len(expected) and time.monotonic() < deadline:
        time.sleep(0.01)

    assert problems == []
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(told) == sorted(expected)
    assert all(future.done() for future in futures)
    assert {number for number, future in enumerate(futures) if future.cancelled()} == {
        futures.index(future) for future in cancelled
    }
    assert all(future.result() == number for number, future in enumerate(futures) if not future.cancelled())


def _describe(future: Future[int]) -> tuple[object, ...]:
    words = repr(future).split()[3:]
    return words, future.done(), future.running(), future.cancelled()
