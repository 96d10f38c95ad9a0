"""The sum: ``sum(range(n))``, many times over."""

from __future__ import annotations

from collections.abc import Sequence

from stoker.workloads.work import Verdict, Work, check_whole, whole

__all__ = ["plan_sum", "sum_range"]


def sum_range(n: int) -> int:
    """Add up 0 to n-1, one by one. About 0.14 s for the tutorial's n of ten million (Python 3.11)."""
    return sum(range(n))


def plan_sum(*, n: int = 10_000_000, times: int = 100, serial_times: int = 10) -> Work:
    """Plan the sum. The defaults are the tutorial's.

    Args:
        n: How many numbers are added.
        times: How often on the cluster.
        serial_times: How often in the serial run.

    Raises:
        StokerError: A parameter is out of range.
    """
    check_whole("sum", "n", n, low=1)
    check_whole("sum", "times", times, low=1)
    check_whole("sum", "serial_times", serial_times, low=1)
    return Work(
        name="sum",
        parameters=(("n", n), ("times", times), ("serial_times", serial_times)),
        task=sum_range,
        items=[n] * times,
        serial_items=[n] * serial_times,
        judge=_judge,
    )


def _judge(items: Sequence[int], results: Sequence[object]) -> Verdict:
    expected = [n * (n - 1) // 2 for n in items]
    wrong = [result for result, right in zip(results, expected, strict=False) if result != right]
    shown = (wrong or list(results) or [None])[0]
    return Verdict(correct=list(results) == expected, figures=(("each", whole(shown)),))
