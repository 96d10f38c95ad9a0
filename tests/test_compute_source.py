"""Sources: items in order, as they are, and none before it is wanted."""

from __future__ import annotations

import itertools
from collections import UserList, deque
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.compute.source import Columns, Source, open_source, open_star_source


def _drain(source: Source, size: int) -> list[Columns]:
    taken = []
    while (columns := source.take(size)) is not None:
        taken.append(columns)
    return taken


@pytest.mark.parametrize(
    ("items", "taken"),
    [
        pytest.param([1, 2, 3, 4, 5], [[1, 2], [3, 4], [5]], id="list"),
        pytest.param((1, 2, 3), [(1, 2), (3,)], id="tuple"),
        pytest.param(range(0, 50, 10), [range(0, 20, 10), range(20, 40, 10), range(40, 50, 10)], id="range"),
        pytest.param("abc", ["ab", "c"], id="string"),
        pytest.param(b"abc", [b"ab", b"c"], id="bytes"),
        pytest.param(range(10**15), None, id="a range without end, nearly"),
    ],
)
def test_what_can_be_sliced_is_sliced_and_stays_what_it_is(items: Any, taken: list[Any] | None) -> None:
    source = open_source([items])

    if taken is None:
        assert source.take(3) == (range(3),)
        assert source.left == 10**15 - 3
        return
    columns = _drain(source, 2)
    assert columns == [(each,) for each in taken]
    assert {type(column) for (column,) in columns} == {type(items)}
    assert source.left == 0


def test_arrays_are_sliced_along_their_first_axis_without_a_copy() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(24).reshape(6, 4)
    view = array[::2, 1:3]
    source = open_source([view, array[:, 0]])

    first, second = _drain(source, 2)

    assert [column.tolist() for column in first] == [[[1, 2], [9, 10]], [0, 4]]
    assert [column.tolist() for column in second] == [[[17, 18]], [8]]
    assert numpy.shares_memory(first[0], array)
    assert source.left == 0


def test_an_array_without_an_axis_holds_no_items() -> None:
    numpy = pytest.importorskip("numpy")

    with pytest.raises(TypeError, match="0-d array"):
        open_source([numpy.array(3)])


@pytest.mark.parametrize(
    "items",
    [
        pytest.param(iter([1, 2, 3]), id="iterator"),
        pytest.param({1: "a", 2: "b", 3: "c"}, id="dict"),
        pytest.param({1, 2, 3}, id="set"),
        pytest.param(deque([1, 2, 3]), id="deque"),
        pytest.param(UserList([1, 2, 3]), id="another kind of sequence"),
    ],
)
def test_anything_else_is_read(items: Iterable[int]) -> None:
    source = open_source([items])
    assert source.left is None

    assert _drain(source, 2) == [([1, 2],), ([3],)]
    assert source.left == 0


def test_the_end_of_an_iterator_is_known_only_when_it_gave_less_than_was_wanted() -> None:
    source = open_source([iter(range(4))])

    left = [source.left]
    for _ in range(3):
        source.take(2)
        left.append(source.left)

    assert left == [None, None, None, 0]
    assert source.take(2) is None


def test_nothing_is_read_ahead_of_a_generator_without_end() -> None:
    read: list[int] = []

    def count() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    source = open_source([count()])
    seen = [len(read)]
    for size in (1, 5, 2):
        source.take(size)
        seen.append(len(read))

    assert seen == [0, 1, 6, 8]


@pytest.mark.parametrize(
    ("sequences", "taken"),
    [
        pytest.param(([1, 2, 3], (4, 5)), [([1, 2], (4, 5))], id="lists"),
        pytest.param((range(9), "ab"), [(range(2), "ab")], id="range and string"),
        pytest.param(([1, 2, 3], itertools.count(10)), [([1, 2], [10, 11]), ([3], [12])], id="one without end"),
        pytest.param((iter([1]), [2, 3], [4, 5]), [([1], [2], [4])], id="three"),
        pytest.param(([1, 2], []), [], id="one is empty"),
    ],
)
def test_the_shortest_ends_the_map(sequences: tuple[Any, ...], taken: list[Columns]) -> None:
    assert _drain(open_source(sequences), 2) == taken


@given(lengths=st.lists(st.integers(0, 20), min_size=1, max_size=3), sizes=st.lists(st.integers(1, 7), min_size=1))
def test_lists_and_iterators_give_the_same_items_as_zip(lengths: list[int], sizes: list[int]) -> None:
    sequences = [list(range(100 * at, 100 * at + length)) for at, length in enumerate(lengths)]
    opened = (open_source(sequences), open_source([iter(each) for each in sequences]))

    for source in opened:
        rows: list[tuple[int, ...]] = []
        wanted = itertools.cycle(sizes)
        while (columns := source.take(size := next(wanted))) is not None:
            given_rows = list(zip(*columns, strict=True))
            assert 0 < len(given_rows) <= size
            rows += given_rows
        assert rows == list(zip(*sequences, strict=False))
        assert source.left == 0


@pytest.mark.parametrize(
    "items", [[], (), range(0), "", iter([]), {}], ids=["list", "tuple", "range", "string", "iterator", "dict"]
)
def test_nothing_gives_nothing(items: Any) -> None:
    assert open_source([items]).take(5) is None
    assert open_star_source(items).take(5) is None


def test_how_much_is_left_is_known_of_what_has_a_length() -> None:
    sources = (open_source([range(5), "abcd"]), open_star_source([(1, 2), (3, 4), (5, 6), (7, 8)]))

    left = []
    for source in sources:
        source.take(3)
        left.append(source.left)

    assert left == [1, 1]


@pytest.mark.parametrize(
    ("rows", "taken"),
    [
        pytest.param([(1, 2), [3, 4], "ab"], [([(1, 2), (3, 4)],), ([("a", "b")],)], id="of any kind"),
        pytest.param([(1,), (), (2, 3, 4)], [([(1,), ()],), ([(2, 3, 4)],)], id="of uneven lengths"),
        pytest.param(iter([(1,)]), [([(1,)],)], id="from an iterator"),
        pytest.param([iter([1, 2])], [([(1, 2)],)], id="that are iterators"),
    ],
)
def test_rows_travel_as_one_column(rows: Any, taken: list[Columns]) -> None:
    source = open_star_source(rows)

    assert _drain(source, 2) == taken
    assert source.left == 0


def test_nobody_knows_how_many_rows_an_iterator_has_and_none_is_read_ahead() -> None:
    rows = zip(itertools.count(), itertools.count(10), strict=False)
    source = open_star_source(rows)

    left, taken = source.left, source.take(2)

    assert (left, taken) == (None, ([(0, 10), (1, 11)],))
    assert next(rows) == (2, 12)


def test_a_map_over_no_sequence_at_all_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^map: at least one sequence of items is needed$"):
        open_source([])


@pytest.mark.parametrize("opening", [lambda: open_source([[1], 5]), lambda: open_star_source(5)])  # type: ignore
def test_what_is_no_sequence_is_refused_at_once(opening: Any) -> None:
    with pytest.raises(TypeError, match=r"iterable|iteration"):
        opening()


def test_a_row_that_holds_no_arguments_is_refused() -> None:
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        open_star_source([(1, 2), 3]).take(2)  # type: ignore[list-item]


def test_an_error_of_a_generator_goes_through() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("the file has ended")

    source = open_source([broken()])

    assert source.take(1) == ([1],)
    with pytest.raises(OSError, match="the file has ended"):
        source.take(1)
