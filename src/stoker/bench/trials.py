"""Trials: what the programs that measure maps and calls are given, how they are timed, and how checked."""

from __future__ import annotations

import json
import random
import statistics
import string
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from stoker.workloads.primes import plan_primes
from stoker.workloads.sums import plan_sum
from stoker.workloads.work import Verdict, Work

__all__ = [
    "INPUTS",
    "WARM",
    "WORKS",
    "check",
    "make_items",
    "make_work",
    "say_figures",
    "spin",
    "time_calls",
    "time_items",
    "time_work",
]

INPUTS = ("range", "shuffled", "strings")
"""What items may be: a range; a list of the same numbers, shuffled; a list of strings of 20 characters."""

WORKS = ("sum", "primes", "spin")
"""What work may be: the tutorial's two workloads, and items that take a given time each."""

_LENGTH = 20
_SEED = 20
WARM = 200
"""Items of the call before the first that is timed."""
_TRIPS = 400

_WARM_WORK = {"items": 20, "numbers": 1000, "duration": 0.001}
"""The same for work; the parts of a case that make its items long are small here."""

_TRIES = 3
"""Tries of a contender that has no use for a chunk size: on a busy machine, the best of several is better than one."""

Case = dict[str, Any]
"""What a program gets: a case of the record, as JSON has it."""


def make_items(kind: str, count: int) -> Sequence[Any]:
    """Make the items of an input; the same ones each time."""
    if kind == "range":
        return range(count)
    chance = random.Random(_SEED)  # noqa: S311
    if kind == "shuffled":
        numbers = list(range(count))
        chance.shuffle(numbers)
        return numbers
    if kind == "strings":
        return ["".join(chance.choices(string.ascii_letters, k=_LENGTH)) for _ in range(count)]
    raise ValueError(f"no such input: {kind!r}; there are: {', '.join(INPUTS)}")


def make_work(case: Case) -> Work:
    """Make the work of a case: what to call, on which items, and how to judge the results."""
    kind, items = case["kind"], case["items"]
    if kind == "sum":
        return plan_sum(n=case["numbers"], times=items)
    if kind == "primes":
        return plan_primes(count=items)
    if kind == "spin":
        micros = [round(case["duration"] * 1e6)] * items
        return Work(
            name=kind,
            parameters=(),
            task=spin,
            items=micros,
            serial_items=micros,
            judge=lambda items, results: Verdict(correct=list(results) == list(items), figures=()),
        )
    raise ValueError(f"no such work: {kind!r}; there are: {', '.join(WORKS)}")


def spin(micros: int) -> int:
    """Compute for so many microseconds of this thread's own CPU time, however much of a core it gets."""
    end = time.thread_time_ns() + micros * 1000
    while time.thread_time_ns() < end:
        pass
    return micros


def time_items(run: Callable[[Sequence[Any]], list[Any]], case: Case, *, most: int | None = None) -> dict[str, float]:
    """Time a call that gives back the items it was given, after one on few of them.

    Args:
        run: Sends the items to the workers and waits for all of them to come back.
        case: Says which items, and how often; what one call returned is checked after its clock has stopped.
        most: More items than this are not sent: each costs the same, and all would take too long.

    Returns:
        ``best`` and ``median`` of the repeats, in items a second.
    """
    count = case["items"] if most is None else min(case["items"], most)
    items = make_items(case["kind"], count)
    check(run(items[:WARM]) == list(items[:WARM]))
    rates = []
    for _ in range(case["repeats"]):
        begin = time.perf_counter()
        values = run(items)
        seconds = time.perf_counter() - begin
        check(values == list(items))
        rates.append(count / seconds)
    return {"best": max(rates), "median": statistics.median(rates)}


def time_calls(
    submit: Callable[[int], Any],
    fetch: Callable[[Any], Any],
    case: Case,
    *,
    gather: Callable[[list[Any]], list[Any]] | None = None,
    most: int | None = None,
) -> dict[str, float]:
    """Time calls that give back the number they were given, all at once and one by one.

    Args:
        submit: Submits a call, and gives what stands for its result.
        fetch: Waits for the result of that.
        case: Says how many calls, and how often.
        gather: Waits for many of them, where there is a better way than one after the other.
        most: More calls than this are not submitted at once.

    Returns:
        ``rate``, in calls a second, the median of the repeats, and ``trip``, the median of single calls in ms.
    """
    count = case["items"] if most is None else min(case["items"], most)

    def run(numbers: range) -> list[Any]:
        pending = [submit(number) for number in numbers]
        return [fetch(each) for each in pending] if gather is None else gather(pending)

    check(run(range(WARM)) == list(range(WARM)))
    rates, trips = [], []
    for _ in range(case["repeats"]):
        begin = time.perf_counter()
        values = run(range(count))
        rates.append(count / (time.perf_counter() - begin))
        check(values == list(range(count)))
    for number in range(_TRIPS):
        begin = time.perf_counter()
        fetch(submit(number))
        trips.append(time.perf_counter() - begin)
    return {"rate": statistics.median(rates), "trip": statistics.median(trips) * 1000}


def time_work(
    run: Callable[[Callable[[int], int], Sequence[int], int], list[int]], case: Case, *, chunks: Sequence[int] = ()
) -> dict[str, float]:
    """Time work, with each of several chunk sizes or three times without one, after a call on short items.

    Args:
        run: Gets function, items and chunk size; waits for all results.
        case: Says which work, and how often with each chunk size.
        chunks: The chunk sizes; none where the contender has no use for one.

    Returns:
        ``seconds``, the least of all, and, if there was a choice, the ``chunk`` size that it took.
    """
    sizes = tuple(dict.fromkeys(chunks)) or (0,) * _TRIES
    work, short = make_work(case), make_work(case | {name: _WARM_WORK[name] for name in _WARM_WORK if name in case})
    run(short.task, short.items, 1)
    taken = []
    for _ in range(case["repeats"]):
        for size in sizes:
            begin = time.perf_counter()
            values = run(work.task, work.items, size)
            taken.append((time.perf_counter() - begin, size))
            check(work.judge(work.items, values).correct)
    seconds, size = min(taken)
    return {"seconds": seconds, "chunk": size} if chunks else {"seconds": seconds}


def say_figures(figures: dict[str, float]) -> None:
    """Tell the benchmark what was measured."""
    sys.stdout.write(f"\nmeasured: {json.dumps(figures)}\n")
    sys.stdout.flush()


def check(right: bool) -> None:
    """End the program where results are wrong."""
    if not right:
        sys.exit("the results are wrong")
