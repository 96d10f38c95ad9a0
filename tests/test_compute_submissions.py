"""Submissions: what is sent together, and what becomes of futures."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from typing import Any

import pytest

from stoker.compute.call import Settled
from stoker.compute.futures import CallFuture, Resolver
from stoker.compute.submissions import Submissions
from stoker.errors import NoEnginesError


def quick(item: int) -> int:
    return item


def slow(item: int) -> int:
    return item


@pytest.fixture
def calls() -> Submissions:
    return Submissions()


def put(calls: Submissions, *functions: Callable[..., Any]) -> list[CallFuture]:
    futures = []
    for number, function in enumerate(functions):
        future = CallFuture(Resolver())
        calls.put((future, function, (number,), {}))
        futures.append(future)
    return futures


def learn(calls: Submissions, **seconds: float) -> None:
    """Have it know what calls of some functions take."""
    for name, each in seconds.items():
        calls.note([globals()[name]] * 10, seconds=10 * each, size_bytes=0)


def names(columns: Any) -> list[str] | None:
    return None if columns is None else [function.__name__ for function in columns[0]]


def test_calls_are_taken_in_order_as_three_columns(calls: Submissions) -> None:
    first, second = CallFuture(Resolver()), CallFuture(Resolver())
    calls.put((first, max, (1, 2), {}))
    calls.put((second, sorted, ([2, 1],), {"reverse": True}))

    columns = calls.take(1), calls.take(5), calls.take(1)

    assert columns == (
        ([max], [(1, 2)], [{}]),
        ([sorted], [([2, 1],)], [{"reverse": True}]),
        None,
    )
    assert first.running()
    assert second.running()


def test_what_was_cancelled_is_passed_over(calls: Submissions) -> None:
    futures = put(calls, *[quick] * 4)
    futures[0].cancel()
    futures[2].cancel()

    columns = calls.take(4)
    nothing = calls.take(4)

    assert columns is not None
    assert columns[1] == [(1,), (3,)]
    assert nothing is None


@pytest.mark.parametrize(
    ("waiting", "count", "taken"),
    [
        pytest.param([quick] * 5, 3, ["quick"] * 3, id="of one function as many as wanted"),
        pytest.param([quick, quick, slow], 3, ["quick"] * 2, id="a slow one does not go with quick ones"),
        pytest.param([slow, quick, quick, slow], 2, ["slow", "quick"], id="quick ones go with a slow one"),
        pytest.param([quick, max, min, max], 100, ["quick", "max", "min", "max"], id="a few unknown ones go together"),
        pytest.param([quick, *[max] * 9], 1000, ["quick", *["max"] * 4], id="but not many"),
        pytest.param([max, min], 1, ["max"], id="an unknown one alone"),
    ],
)
def test_a_batch_takes_no_longer_than_it_should(
    waiting: list[Callable[..., Any]], count: int, taken: list[str], calls: Submissions
) -> None:
    learn(calls, quick=0.001, slow=1.0)
    put(calls, *waiting)

    assert names(calls.take(count)) == taken


def test_functions_have_paces_of_their_own(calls: Submissions) -> None:
    learn(calls, quick=0.001, slow=1.0)
    calls.note([quick, slow, quick, slow], seconds=4.004, size_bytes=0)
    paces = {}
    for function in (quick, functools.partial(slow, 1), max):
        put(calls, function)
        paces[function] = calls.pace.seconds_per_item
        calls.take(1)

    assert [round(pace or 0, 3) for pace in paces.values()] == [0.001, 1.167, 0.584]
    assert calls.expect([quick, slow]) == pytest.approx(1.168, rel=0.01)
    assert calls.expect([quick, max]) is None


def test_lambdas_of_the_same_place_and_methods_of_any_object_share_a_pace(calls: Submissions) -> None:
    class Box:
        def fill(self) -> None:
            pass

    makers: list[Callable[[], Callable[..., Any]]] = [lambda: lambda: None, lambda: Box().fill, lambda: [].append]

    for make in makers:
        calls.note([make()], seconds=1.0, size_bytes=0)

    assert [calls.expect([make()]) for make in makers] == [1.0, 1.0, 1.0]


def test_results_and_errors_go_to_their_futures(calls: Submissions) -> None:
    futures = put(calls, *[quick] * 6)
    error = ValueError("no")

    calls.take(6)
    calls.resolve(Settled(first=2, values=[None, 3, None], errors={0: error}, again=frozenset({2})))
    done = [future.done() for future in futures]
    calls.resolve(Settled(first=4, values=[4], errors={}))
    calls.resolve(Settled(first=5, values=[5], errors={}))
    calls.resolve(Settled(first=0, values=[0, 1], errors={}))

    assert done == [False, False, True, True, False, False]
    assert futures[2].exception() is error
    assert [future.result() for future in futures if future is not futures[2]] == [0, 1, 3, 4, 5]


def test_what_somebody_else_has_resolved_stays_so(calls: Submissions) -> None:
    first, second = put(calls, quick, quick)
    calls.take(2)
    first.set_result("mine")

    calls.resolve(Settled(first=0, values=[0, 1], errors={}))

    assert (first.result(), second.result()) == ("mine", 1)


def test_a_failure_of_all_reaches_what_runs_and_what_waits(calls: Submissions) -> None:
    running, waiting, cancelled = put(calls, quick, quick, quick)
    cancelled.cancel()
    calls.take(1)
    error = NoEnginesError("there was no engine")

    calls.fail(error)

    errors = [running.exception(), waiting.exception()]
    assert [str(each) for each in errors] == ["there was no engine"] * 2
    assert [type(each) for each in errors] == [NoEnginesError] * 2
    # Each time it is raised an exception's traceback grows.
    assert errors[0] is not errors[1]
    assert all(each is not None and each.__cause__ is error for each in errors)
    assert calls.left == 0


def test_what_waits_can_be_cancelled_all_at_once(calls: Submissions) -> None:
    running, *waiting = put(calls, *[quick] * 5)
    calls.take(1)

    calls.cancel()

    assert not running.cancelled()
    assert all(future.cancelled() for future in waiting)
    assert calls.take(5) is None


class Fleeting(collections.deque[Any]):
    """What waits, which another thread cancels between a look and the taking."""

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, place: Any) -> Any:
        self.clear()
        return super().__getitem__(place)

    def popleft(self) -> Any:
        self.clear()
        return super().popleft()


@pytest.mark.parametrize("act", [lambda calls: calls.take(3), lambda calls: calls.cancel()], ids=["take", "cancel"])
def test_what_another_thread_cancels_meanwhile_is_not_missed(calls: Submissions, act: Callable[[Any], Any]) -> None:
    put(calls, *[quick] * 3)
    calls._waiting = Fleeting(calls._waiting)

    assert act(calls) is None


def test_what_another_thread_cancels_while_all_fail_is_not_missed(calls: Submissions) -> None:
    put(calls, *[quick] * 3)
    calls._waiting = Fleeting(calls._waiting)

    calls.fail(NoEnginesError("none"))

    assert calls.left == 0
