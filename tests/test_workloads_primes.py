"""The primes: the task function, the sieve that judges it, and the values that judge both."""

from __future__ import annotations

from typing import Any

import pytest

from stoker.errors import StokerError
from stoker.workloads.primes import KNOWN, nth_prime, plan_primes, sieve_primes

FIRST_TEN = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]


def test_the_default_is_the_tutorials() -> None:
    work = plan_primes()

    assert work.parameters == (("count", 1000),)
    assert list(work.items) == list(work.serial_items) == list(range(1000))


def test_the_task_function_counts_primes_from_zero() -> None:
    assert [nth_prime(index) for index in range(10)] == FIRST_TEN


def test_the_thousandth_prime_has_index_999() -> None:
    assert nth_prime(999) == 7919


@pytest.mark.parametrize("count", KNOWN)
def test_the_sieve_agrees_with_the_known_values(count: int) -> None:
    primes = sieve_primes(count)

    assert (len(primes), primes[-1], sum(primes)) == (count, *KNOWN[count])


def test_the_sieve_finds_as_many_as_are_asked_for() -> None:
    assert [len(sieve_primes(count)) for count in range(1, 500)] == list(range(1, 500))


@pytest.mark.parametrize("count", [1, 5, 6, 10, 120])
def test_right_primes_are_found_right(count: int) -> None:
    work = plan_primes(count=count)
    results = [nth_prime(index) for index in work.items]

    verdict = work.judge(work.items, results)

    assert verdict.correct
    assert verdict.figures == (("last", results[-1]), ("sum", sum(results)))


@pytest.mark.parametrize(
    ("results", "last", "total"),
    [
        pytest.param([*FIRST_TEN[:9], 31], 31, 131, id="the last is wrong"),
        pytest.param([2, 5, 3, *FIRST_TEN[3:]], 29, 129, id="two have changed places"),
        pytest.param(FIRST_TEN[:9], 23, 100, id="one is missing"),
        pytest.param([*FIRST_TEN, 31], 31, 160, id="one too many"),
        pytest.param([*FIRST_TEN[:9], None], None, None, id="the last is no number"),
        pytest.param(["2", *FIRST_TEN[1:]], 29, None, id="the first is no number"),
        pytest.param([], None, None, id="none at all"),
    ],
)
def test_wrong_primes_are_found_wrong(results: list[Any], last: int | None, total: int | None) -> None:
    work = plan_primes(count=10)

    verdict = work.judge(work.items, results)

    assert (verdict.correct, verdict.figures) == (False, (("last", last), ("sum", total)))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "primes: count must be 1 to 1000000, got 0"),
        (1_000_001, "primes: count must be 1 to 1000000, got 1000001"),
        ("10", "primes: count must be a whole number, 1 to 1000000, got '10'"),
    ],
)
def test_a_count_out_of_range_is_refused_with_what_would_be_right(count: Any, text: str) -> None:
    with pytest.raises(StokerError) as caught:
        plan_primes(count=count)

    assert str(caught.value) == text
