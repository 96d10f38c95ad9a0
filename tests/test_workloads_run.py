"""Running a workload: the ways, the measures, the checks, and what is refused."""

from __future__ import annotations

import functools
import subprocess
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from stoker.errors import StokerError, UnfinishedError
from stoker.system.machine import read_cores
from stoker.workloads import VIAS, WORKLOADS, Outcome, Report, run_workload


class FakePending:
    """An AsyncMapResult that is finished, or never will be."""

    def __init__(self, results: list[Any], *, home: int, error: BaseException | None) -> None:
        self.results = results
        self.progress = home
        self.error = error
        self.waited: list[float] = []

    def wait(self, timeout: float = -1) -> bool:
        self.waited.append(timeout)
        if isinstance(self.error, KeyboardInterrupt):
            raise self.error
        return self.progress == len(self.results)

    def get(self, timeout: float | None = None) -> list[Any]:
        if self.error is not None:
            raise self.error
        return self.results


class FakeView:
    """A view whose engines are this process, with the faults that a test gives it."""

    def __init__(
        self,
        *,
        home: int | None = None,
        error: BaseException | None = None,
        spoil: Callable[[list[Any]], list[Any]] = lambda results: results,
        abort_error: Exception | None = None,
    ) -> None:
        self.home = home
        self.error = error
        self.spoil = spoil
        self.abort_error = abort_error
        self.calls: list[str] = []
        self.pending: list[FakePending] = []
        self.aborted: list[tuple[Any, bool]] = []

    def map(self, function: Callable[..., Any], *sequences: Iterable[Any], block: bool) -> FakePending:
        assert not block
        assert function.__module__ == "__main__"
        self.calls.append("map")
        return self._run(function, *sequences)

    def parallel(self, *, block: bool, ordered: bool, chunksize: int | None) -> Callable[..., Any]:
        assert (block, ordered, chunksize) == (False, True, None)
        self.calls.append("parallel")
        return lambda function: types.SimpleNamespace(map=functools.partial(self._run, function))

    def abort(self, jobs: Any, *, block: bool) -> None:
        self.aborted.append((jobs, block))
        if self.abort_error is not None:
            raise self.abort_error

    def _run(self, function: Callable[..., Any], *sequences: Iterable[Any]) -> FakePending:
        results = self.spoil(list(map(function, *sequences)))
        pending = FakePending(results, home=len(results) if self.home is None else self.home, error=self.error)
        self.pending.append(pending)
        return pending


class NoView:
    """A view that must not be touched."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the view was asked for {name}")


CASES = [
    pytest.param("sum", {"n": 10, "times": 6, "serial_times": 2}, (("each", 45),), 2, 6, id="sum"),
    pytest.param("primes", {"count": 10}, (("last", 29), ("sum", 129)), 10, 10, id="primes"),
]


@pytest.mark.parametrize(("name", "parameters", "figures", "serial_items", "items"), CASES)
def test_every_way_runs_the_workload_and_is_found_right(
    name: str,
    parameters: dict[str, int],
    figures: tuple[tuple[str, int], ...],
    serial_items: int,
    items: int,
) -> None:
    view = FakeView()

    # What feeds engines in batches needs engines: tests/live/test_workloads.py.
    report = run_workload(name, view, engines=2, vias=("serial", "map", "parallel", "call"), **parameters)

    seen = [
        (outcome.workload, outcome.via, outcome.items, outcome.correct, outcome.figures) for outcome in report.outcomes
    ]
    assert seen == [
        (name, via, serial_items if via == "serial" else items, True, figures)
        for via in ("serial", "map", "parallel", "call")
    ]
    assert view.calls == ["map", "parallel", "parallel"]
    assert report.correct
    assert (report.workload, report.parameters, report.engines) == (name, tuple(parameters.items()), 2)
    assert view.aborted == []


def test_the_names_are_those_of_the_tutorial() -> None:
    assert WORKLOADS == ("sum", "primes")
    assert VIAS == ("serial", "map", "parallel", "call", "stoker")


def test_speed_up_compares_times_per_item_and_efficiency_divides_by_the_cores() -> None:
    report = run_workload("sum", FakeView(), engines=2, vias=("serial", "map"), n=1000, times=50, serial_times=5)

    serial, mapped = report.outcomes
    speedup = (serial.seconds / 5) / (mapped.seconds / 50)
    assert (serial.speedup, serial.efficiency) == (1.0, 1.0)
    assert mapped.speedup == pytest.approx(speedup)
    assert mapped.efficiency == pytest.approx(speedup / report.cores)


def test_cores_are_engines_up_to_the_cores_of_this_machine() -> None:
    cores = [
        run_workload("primes", FakeView(), engines=engines, vias=["serial"], count=1).cores for engines in (1, 100_000)
    ]

    assert cores == [1, read_cores().logical]


def test_without_serial_there_is_nothing_to_compare_with() -> None:
    report = run_workload("primes", FakeView(), engines=2, vias=["map", "call"], count=3)

    compared = [(outcome.via, outcome.speedup, outcome.efficiency) for outcome in report.outcomes]
    assert compared == [("map", None, None), ("call", None, None)]


def test_serial_is_run_first_wherever_it_stands() -> None:
    seen: list[Outcome] = []

    report = run_workload("primes", FakeView(), engines=2, vias=["call", "serial"], count=3, on_outcome=seen.append)

    assert [outcome.via for outcome in seen] == ["serial", "call"]
    assert tuple(seen) == report.outcomes


@pytest.mark.parametrize(
    ("name", "parameters", "spoil"),
    [
        pytest.param("sum", {"n": 5, "times": 3}, lambda results: [*results[:2], 11], id="one sum differs"),
        pytest.param("sum", {"n": 5, "times": 3}, lambda results: results[:2], id="one sum is lost"),
        pytest.param("primes", {"count": 4}, lambda results: results[::-1], id="primes in the wrong order"),
        pytest.param("primes", {"count": 4}, lambda results: [None] * 4, id="no primes"),
    ],
)
def test_a_wrong_result_is_reported_and_does_not_raise(
    name: str, parameters: dict[str, int], spoil: Callable[[list[Any]], list[Any]]
) -> None:
    report = run_workload(name, FakeView(spoil=spoil), engines=2, vias=["serial", "map"], **parameters)

    assert [outcome.correct for outcome in report.outcomes] == [True, False]
    assert not report.correct


@pytest.mark.parametrize("via", ["map", "parallel", "call"])
def test_a_way_that_does_not_finish_says_how_far_it_came_and_drops_the_rest(via: str) -> None:
    view = FakeView(home=3)

    with pytest.raises(UnfinishedError) as caught:
        run_workload("primes", view, engines=2, vias=[via], count=10, timeout=0.5)

    error = caught.value
    assert str(error) == (
        f"primes via {via}: 3 of 10 items had come home when the 0.5 s were over; allow more time, or do less"
    )
    parts = (error.workload, error.via, error.done, error.items, error.timeout)
    assert parts == ("primes", via, 3, 10, 0.5)
    assert isinstance(error, StokerError)
    assert view.aborted == [(view.pending[0], False)]
    assert 0 <= view.pending[0].waited[0] <= 0.5


def test_a_view_that_cannot_even_abort_does_not_hide_what_happened() -> None:
    view = FakeView(home=0, abort_error=OSError("no engines"))

    with pytest.raises(UnfinishedError, match="0 of 2 items had come home"):
        run_workload("primes", view, engines=1, vias=["map"], count=2, timeout=0.1)


def test_a_serial_run_that_takes_too_long_ends_between_two_items() -> None:
    with pytest.raises(UnfinishedError, match=r"^primes via serial: \d+ of 1000000 items were done when"):
        run_workload("primes", NoView(), engines=1, vias=["serial"], count=1_000_000, timeout=0.05)


def test_an_interrupt_drops_the_rest_and_reaches_the_caller() -> None:
    view = FakeView(error=KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        run_workload("primes", view, engines=1, vias=["map"], count=2)

    assert view.aborted == [(view.pending[0], False)]


def test_a_failure_on_an_engine_names_workload_and_way() -> None:
    view = FakeView(error=RuntimeError("engine 1 died"))

    with pytest.raises(StokerError) as caught:
        run_workload("sum", view, engines=1, vias=["call"], n=2, times=2)

    assert str(caught.value) == "sum via call: failed on the engines: engine 1 died"
    assert caught.value.__cause__ is view.error


def test_a_view_that_does_not_take_the_items_is_told_with_workload_and_way() -> None:
    with pytest.raises(StokerError) as caught:
        run_workload("sum", object(), engines=1, vias=["map"], n=2, times=2)

    assert str(caught.value) == (
        "sum via map: the view did not take the items: AttributeError: 'object' object has no attribute 'map'"
    )


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("prime", {}, "unknown workload 'prime'; did you mean 'primes'?"),
        ("fft", {}, "unknown workload 'fft'; there are: sum, primes"),
        ("sum", {"vias": ["serial", "paralel"]}, "unknown way 'paralel'; did you mean 'parallel'?"),
        ("sum", {"vias": "xyz"}, "unknown way 'xyz'; there are: serial, map, parallel, call, stoker"),
        ("sum", {"vias": []}, "no way to run is named; there are: serial, map, parallel, call, stoker"),
        ("sum", {"vias": ["map", "call", "map"]}, "the way 'map' is named twice"),
        ("sum", {"count": 3}, "sum: takes no count; its parameters: n, times, serial_times"),
        ("primes", {"n": 3, "times": 2}, "primes: takes no n and no times; its parameters: count"),
        ("primes", {"count": 0}, "primes: count must be 1 to 1000000, got 0"),
        ("primes", {"engines": 0}, "primes: engines must be 1 or more, got 0"),
        ("sum", {"timeout": 0}, "sum: timeout must be more than 0 s and at most 9223372036 s, got 0"),
        ("sum", {"timeout": float("nan")}, "sum: timeout must be more than 0 s and at most 9223372036 s, got nan"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is(name: str, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(StokerError) as caught:
        run_workload(name, NoView(), **{"engines": 1, **arguments})

    assert str(caught.value) == text


def test_one_way_may_be_given_as_plain_text() -> None:
    report = run_workload("primes", NoView(), engines=1, vias="serial", count=1)

    assert [outcome.via for outcome in report.outcomes] == ["serial"]


@pytest.mark.parametrize(
    ("figures", "summary"),
    [
        ((("each", 45),), "each 45"),
        ((("last", 29), ("sum", 129)), "last 29, sum 129"),
        ((("last", None), ("sum", None)), "last ?, sum ?"),
    ],
)
def test_the_summary_shows_the_figures(figures: Any, summary: str) -> None:
    assert _outcome(figures=figures).summary == summary


@pytest.mark.parametrize(
    ("field", "value"), [("items", 0), ("seconds", 0.0), ("seconds", -1.0), ("seconds", float("nan"))]
)
def test_an_impossible_outcome_is_refused_at_birth(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        _outcome(**{field: value})


def test_a_report_is_correct_only_if_every_outcome_is() -> None:
    wrong = Report(
        workload="sum",
        parameters=(),
        engines=1,
        cores=1,
        outcomes=(_outcome(correct=True), _outcome(correct=False)),
    )

    assert not wrong.correct


def test_importing_the_workloads_loads_neither_ipyparallel_nor_numpy() -> None:
    code = "import sys, stoker.workloads; print({'ipyparallel', 'IPython', 'numpy'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == "set()\n"


def _outcome(**changes: Any) -> Outcome:
    fields: dict[str, Any] = {
        "workload": "sum",
        "via": "map",
        "items": 1,
        "seconds": 1.0,
        "speedup": None,
        "efficiency": None,
        "correct": True,
        "figures": (("each", 45),),
    }
    return Outcome(**(fields | changes))
