"""The decorator ``parallel``: elements, not slices, whichever way the function is called."""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from stoker.compute import ParallelFunction, parallel, portable
from stoker.errors import StokerError


class FakePending:
    """A finished AsyncMapResult."""

    def __init__(self, results: list[Any]) -> None:
        self.results = results

    def get(self, timeout: float | None = None) -> list[Any]:
        return self.results


class FakeView:
    """A view whose engines are this process; it takes sequences in the forms that ipyparallel can cut."""

    def __init__(self) -> None:
        self.client = types.SimpleNamespace(outstanding=set(), results={}, metadata={})
        self.options: list[dict[str, Any]] = []
        self.sent: list[Callable[..., Any]] = []
        self.sequences: list[tuple[Any, ...]] = []

    def __repr__(self) -> str:
        return "<FakeView>"

    def parallel(self, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        self.options.append(options)
        return lambda function: types.SimpleNamespace(map=functools.partial(self._map, function))

    def _map(self, function: Callable[..., Any], *sequences: Sequence[Any]) -> FakePending:
        self.sent.append(function)
        self.sequences.append(sequences)
        whole = [sequence[0 : len(sequence)] for sequence in sequences]
        return FakePending(list(map(function, *whole)))


class Interrupted(FakePending):
    """An AsyncMapResult that is waited for when Ctrl-C comes."""

    def get(self, timeout: float | None = None) -> list[Any]:
        raise KeyboardInterrupt


SHIFT = 10


def square(x: int) -> int:
    """Square a number."""
    return x * x


def shifted(x: int) -> int:
    return x + SHIFT


def power(base: int, /, *, exponent: int = 3) -> int:
    return base**exponent


def imports_inside(x: float) -> float:
    import math

    return math.floor(x)


def test_map_and_call_both_give_the_function_elements() -> None:
    parallel_square = parallel(FakeView())(square)

    results = (parallel_square.map(range(4)), parallel_square(range(4)))

    assert results == ([0, 1, 4, 9], [0, 1, 4, 9])


def test_several_sequences_become_several_arguments_and_the_shortest_ends_the_map() -> None:
    add = parallel(FakeView())(lambda x, y, z: x + y + z)

    results = add([1, 2, 3], itertools.count(10), (100, 200))

    assert results == [111, 213]


@pytest.mark.parametrize(
    "sequence",
    [
        pytest.param(iter([1, 2, 3]), id="iterator"),
        pytest.param({1: "a", 2: "b", 3: "c"}, id="dict"),
        pytest.param({1, 2, 3}, id="set"),
        pytest.param((1, 2, 3), id="tuple"),
    ],
)
def test_whatever_can_be_iterated_can_be_mapped_over(sequence: Any) -> None:
    results = parallel(FakeView())(square)(sequence)

    assert results == [1, 4, 9]


def test_a_range_and_an_array_travel_as_they_are() -> None:
    numpy = pytest.importorskip("numpy")
    view = FakeView()
    array = numpy.arange(3)

    parallel(view)(square)(range(3))
    results = parallel(view)(square)(array)

    assert view.sequences[0] == (range(3),)
    assert view.sequences[1][0] is array
    assert results == [0, 1, 4]


def test_not_blocking_hands_over_the_pending_result() -> None:
    pending = parallel(FakeView(), block=False)(square).map(range(3))

    assert isinstance(pending, FakePending)
    assert pending.get() == [0, 1, 4]


def test_the_options_reach_ipyparallel_and_blocking_is_done_here() -> None:
    view = FakeView()

    parallel(view, block=True, ordered=False, chunksize=25)(square)(range(3))
    parallel(view)(square)(range(3))

    assert view.options == [
        {"block": False, "ordered": False, "chunksize": 25},
        {"block": False, "ordered": True, "chunksize": None},
    ]


def test_an_interrupt_while_waiting_reaches_the_caller() -> None:
    view = FakeView()
    view.parallel = lambda **options: lambda function: types.SimpleNamespace(map=lambda *_: Interrupted([]))

    with pytest.raises(KeyboardInterrupt):
        parallel(view)(square)(range(3))


def test_a_map_over_nothing_gives_an_empty_list_without_asking_the_engines() -> None:
    view = FakeView()

    results = (parallel(view)(square)([]), parallel(view)(square)([], [1, 2]))

    assert results == ([], [])
    assert view.sent == []


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_over_nothing_that_does_not_block_gives_a_finished_async_map_result(ordered: bool) -> None:
    from ipyparallel import AsyncMapResult

    pending: Any = parallel(FakeView(), block=False, ordered=ordered)(square)([])

    assert isinstance(pending, AsyncMapResult)
    seen = (pending.wait(1), pending.ready(), pending.get(1), list(pending), len(pending), pending.progress)
    assert seen == (True, True, [], [], 0, 0)


def test_a_map_over_no_sequence_at_all_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^square: at least one sequence is needed to map over$"):
        parallel(FakeView())(square).map()


@pytest.mark.parametrize("chunksize", [0, -1])
def test_a_chunk_of_less_than_one_element_is_refused(chunksize: int) -> None:
    with pytest.raises(StokerError, match=rf"^parallel: chunksize must be 1 or more, or None, got {chunksize}$"):
        parallel(FakeView(), chunksize=chunksize)


def test_the_decorated_function_keeps_what_describes_it() -> None:
    decorated = parallel(FakeView())(square)

    described = (decorated.__name__, decorated.__doc__, decorated.__module__, inspect.signature(decorated))
    assert described == ("square", "Square a number.", __name__, inspect.signature(square))
    assert decorated.__wrapped__ is decorated.function is square
    assert isinstance(decorated, ParallelFunction)
    assert repr(decorated) == "<ParallelFunction square on <FakeView>>"


def test_attributes_of_the_function_do_not_replace_those_of_the_decorator() -> None:
    def function(x: int) -> int:
        return -x

    function.view = "mine"  # type: ignore[attr-defined]
    function.label = "kept"  # type: ignore[attr-defined]

    decorated = parallel(FakeView())(function)

    assert decorated([1]) == [-1]
    assert decorated.label == "kept"  # type: ignore[attr-defined]


def test_what_is_sent_claims_to_come_from_main_and_the_users_function_is_untouched() -> None:
    view = FakeView()

    parallel(view)(square)(range(3))

    assert [function.__module__ for function in view.sent] == ["__main__"]
    assert square.__module__ == __name__


def reads_a_global_in_an_inner_function(x: int) -> int:
    return (lambda: SHIFT + x)()


def writes_a_global(x: int) -> int:
    global SHIFT
    SHIFT = x
    return x


def imports_relatively(x: int) -> int:
    from . import nothing  # type: ignore[attr-defined]

    return nothing + x


def makes_a_class(x: int) -> int:
    class Inner:
        value = x

    return Inner.value


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(shifted, id="reads a global"),
        pytest.param(reads_a_global_in_an_inner_function, id="reads a global in an inner function"),
        pytest.param(writes_a_global, id="writes a global"),
        pytest.param(imports_relatively, id="imports relatively"),
        pytest.param(math.sqrt, id="builtin"),
        pytest.param(functools.partial(square), id="partial"),
    ],
)
def test_a_function_that_needs_its_module_is_sent_as_it_is(function: Callable[..., Any]) -> None:
    assert portable(function) is function


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        pytest.param(square, (3,), 9, id="plain"),
        pytest.param(power, (2,), 8, id="keyword default"),
        pytest.param(imports_inside, (2.5,), 2, id="import inside"),
        pytest.param(makes_a_class, (7,), 7, id="class inside"),
    ],
)
def test_a_portable_copy_works_like_the_function(
    function: Callable[..., Any], arguments: tuple[Any, ...], expected: Any
) -> None:
    copy = portable(function)

    assert copy is not function
    assert copy.__module__ == "__main__"
    assert copy(*arguments) == expected


def test_a_portable_copy_keeps_closures() -> None:
    def outer(step: int) -> Callable[[int], int]:
        def inner(x: int) -> int:
            return x + step

        return inner

    assert portable(outer(5))(1) == 6


def test_a_portable_copy_survives_ipyparallels_canning_without_its_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ipyparallel.serialize import deserialize_object, serialize_object

    module = types.ModuleType("left_at_home")
    exec("def double(x: int) -> int:\n    return 2 * x\n", module.__dict__)
    monkeypatch.setitem(sys.modules, "left_at_home", module)
    sent = {"as it is": serialize_object(module.double), "portable": serialize_object(portable(module.double))}
    monkeypatch.setitem(sys.modules, "left_at_home", None)

    arrived, _ = deserialize_object(sent["portable"])

    assert arrived(21) == 42
    with pytest.raises(ModuleNotFoundError):
        deserialize_object(sent["as it is"])
