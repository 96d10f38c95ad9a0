"""Trials: the items, the work, and the clock that the programs of two benchmarks share."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from stoker.bench.trials import INPUTS, WORKS, make_items, make_work, spin, time_items, time_work


def test_a_range_is_a_range_and_a_shuffled_list_holds_the_same_numbers_each_time() -> None:
    shuffled = make_items("shuffled", 1000)

    assert make_items("range", 1000) == range(1000)
    assert (sorted(shuffled), shuffled == make_items("shuffled", 1000)) == (list(range(1000)), True)
    assert shuffled != list(range(1000))


def test_strings_have_twenty_characters_and_no_two_are_the_same() -> None:
    strings = make_items("strings", 1000)

    assert {len(text) for text in strings} == {20}
    assert len(set(strings)) == 1000


@pytest.mark.parametrize("make", [lambda: make_items("tuples", 1), lambda: make_work({"kind": "tuples", "items": 1})])
def test_what_there_is_not_is_refused_with_what_there_is(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"no such \w+: 'tuples'; there are: \w+, \w+, \w+"):
        make()


@pytest.mark.parametrize("kind", INPUTS)
def test_the_best_and_the_median_of_the_repeats_are_given_after_a_call_on_few_items(kind: str) -> None:
    sent: list[int] = []

    def run(items: Sequence[Any]) -> list[Any]:
        sent.append(len(items))
        time.sleep(0.01 * len(sent))
        return list(items)

    figures = time_items(run, {"kind": kind, "items": 1000, "repeats": 3})

    assert sent == [200, 1000, 1000, 1000]
    assert figures["median"] < figures["best"] < 1000 / 0.02
    assert set(figures) == {"best", "median"}


def test_no_more_items_are_sent_than_the_most() -> None:
    sent: list[int] = []

    time_items(
        lambda items: sent.append(len(items)) or list(items), {"kind": "range", "items": 1000, "repeats": 1}, most=300
    )  # type: ignore[func-returns-value]

    assert sent == [200, 300]


@pytest.mark.parametrize("wrong", [lambda items: list(items)[::-1], lambda items: list(items)[:200], lambda items: []])
def test_wrong_results_end_a_program(wrong: Callable[[Sequence[Any]], list[Any]]) -> None:
    with pytest.raises(SystemExit, match="the results are wrong"):
        time_items(wrong, {"kind": "range", "items": 1000, "repeats": 1})


@pytest.mark.parametrize(
    "case",
    [
        {"kind": "sum", "items": 3, "numbers": 10},
        {"kind": "primes", "items": 100},
        {"kind": "spin", "items": 2, "duration": 0.001},
    ],
    ids=WORKS,
)
def test_work_is_judged_by_itself(case: dict[str, Any]) -> None:
    work = make_work(case)
    right = [work.task(item) for item in work.items]

    assert len(work.items) == case["items"]
    assert work.judge(work.items, right).correct
    assert not work.judge(work.items, right[1:]).correct


def test_a_spin_takes_the_cpu_time_it_should() -> None:
    begin = time.thread_time()

    assert spin(20_000) == 20_000
    assert time.thread_time() - begin >= 0.02


def test_of_several_chunk_sizes_the_best_is_given_with_its_time() -> None:
    naps = {1: 0.03, 4: 0.0, 25: 0.06}
    seen: list[tuple[int, int]] = []

    def run(task: Callable[[int], int], items: Sequence[int], chunk: int) -> list[int]:
        seen.append((len(items), chunk))
        time.sleep(naps[chunk])
        return [task(item) for item in items]

    case = {"kind": "sum", "items": 50, "numbers": 10, "repeats": 2}
    figures = time_work(run, case, chunks=(1, 4, 25, 4))

    assert seen == [(20, 1), (50, 1), (50, 4), (50, 25), (50, 1), (50, 4), (50, 25)]
    assert figures["chunk"] == 4
    assert 0 < figures["seconds"] < 0.03


def test_who_has_no_use_for_a_chunk_size_has_three_tries_and_gives_seconds_alone() -> None:
    seen: list[int] = []

    def run(task: Callable[[int], int], items: Sequence[int], _: int) -> list[int]:
        seen.append(len(items))
        return [task(item) for item in items]

    figures = time_work(run, {"kind": "primes", "items": 30, "repeats": 1})

    assert (seen, set(figures)) == ([20, 30, 30, 30], {"seconds"})


def test_wrong_results_of_work_end_a_program() -> None:
    with pytest.raises(SystemExit, match="the results are wrong"):
        time_work(lambda task, items, _: list(items), {"kind": "primes", "items": 30, "repeats": 1})
