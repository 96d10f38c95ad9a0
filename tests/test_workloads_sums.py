"""The sum: its plan, and its judge."""

from __future__ import annotations

from typing import Any

import pytest

from stoker.errors import StokerError
from stoker.workloads.sums import plan_sum, sum_range


def test_the_defaults_are_the_tutorials() -> None:
    work = plan_sum()

    assert work.parameters == (("n", 10_000_000), ("times", 100), ("serial_times", 10))
    assert (len(work.items), set(work.items)) == (100, {10_000_000})
    assert (len(work.serial_items), set(work.serial_items)) == (10, {10_000_000})


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_the_task_function_meets_the_closed_form(n: int) -> None:
    work = plan_sum(n=n, times=3)

    verdict = work.judge(work.items, [sum_range(item) for item in work.items])

    assert verdict.correct
    assert verdict.figures == (("each", n * (n - 1) // 2),)


@pytest.mark.parametrize(
    ("results", "each"),
    [
        pytest.param([45, 46, 45], 46, id="one differs"),
        pytest.param([45, 45], 45, id="one is missing"),
        pytest.param([45, 45, 45, 45], 45, id="one too many"),
        pytest.param([45, None, 45], None, id="one is no number"),
        pytest.param([], None, id="none at all"),
    ],
)
def test_wrong_sums_are_found_and_the_first_wrong_one_is_shown(results: list[Any], each: int | None) -> None:
    work = plan_sum(n=10, times=3)

    verdict = work.judge(work.items, results)

    assert (verdict.correct, verdict.figures) == (False, (("each", each),))


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"n": 0}, "sum: n must be 1 or more, got 0"),
        ({"times": -1}, "sum: times must be 1 or more, got -1"),
        ({"serial_times": 0}, "sum: serial_times must be 1 or more, got 0"),
        ({"n": 1e7}, "sum: n must be a whole number, 1 or more, got 10000000.0"),
        ({"n": True}, "sum: n must be a whole number, 1 or more, got True"),
    ],
)
def test_parameters_out_of_range_are_refused_with_what_would_be_right(parameters: dict[str, Any], text: str) -> None:
    with pytest.raises(StokerError) as caught:
        plan_sum(**parameters)

    assert str(caught.value) == text
