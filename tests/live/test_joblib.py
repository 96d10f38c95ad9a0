"""joblib on a cluster of two engines: what it documents of its backends, and scikit-learn's search over parameters."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest

import stoker
from stoker.cluster import Cluster
from stoker.compute import RemoteTraceback
from stoker.errors import EngineDiedError, NotRunningError

pytestmark = pytest.mark.live

LONG = 60.0


class OddError(Exception):
    """An exception of a class that only this module has."""


def square(item: int) -> int:
    return item * item


def refuse_odd(item: int) -> int:
    if item % 2:
        raise OddError(item)
    return item


def find_pid(_: int) -> int:
    time.sleep(0.02)
    return os.getpid()


def nest(item: int) -> tuple[int, list[int]]:
    return os.getpid(), joblib.Parallel(n_jobs=2)(joblib.delayed(find_pid)(number) for number in range(4))


@pytest.fixture(autouse=True)
def backend(own: Cluster) -> Iterator[None]:
    """Has joblib use the cluster."""
    stoker.register_joblib()
    with joblib.parallel_config("stoker", cluster=own):
        yield


def test_results_come_in_order_from_all_engines(own: Cluster) -> None:
    results = joblib.Parallel()(joblib.delayed(square)(item) for item in range(2000))
    pids = joblib.Parallel()(joblib.delayed(find_pid)(item) for item in range(50))

    assert results == [item * item for item in range(2000)]
    assert set(pids) == {engine.pid for engine in own.engines}
    assert joblib.effective_n_jobs() == 2


def test_a_profile_is_connected_to(own: Cluster) -> None:
    ipython_dir = own._address.directory.path.parent

    with joblib.parallel_config("stoker", profile="own", ipython_dir=ipython_dir, retries=1):
        pids = joblib.Parallel()(joblib.delayed(find_pid)(item) for item in range(20))

    assert set(pids) == {engine.pid for engine in own.engines}
    with pytest.raises(NotRunningError), joblib.parallel_config("stoker", profile="nowhere"):
        pass
    with (
        pytest.raises(TypeError, match="an executor has no option colour"),
        joblib.parallel_config("stoker", cluster=own, colour=1),
    ):
        joblib.Parallel()(joblib.delayed(square)(item) for item in range(3))


def test_two_calls_in_one_context_and_a_managed_pool(own: Cluster) -> None:
    with joblib.Parallel() as parallel:
        first = parallel(joblib.delayed(square)(item) for item in range(100))
        second = parallel(joblib.delayed(abs)(-item) for item in range(100))

    assert first == [item * item for item in range(100)]
    assert second == list(range(100))


def test_small_tasks_are_put_together_by_their_time() -> None:
    parallel = joblib.Parallel()

    begin = time.monotonic()
    parallel(joblib.delayed(square)(item) for item in range(20_000))
    seconds = time.monotonic() - begin

    assert parallel.n_dispatched_batches < 500
    assert seconds < 10


@pytest.mark.parametrize("n_jobs", [2, -1, None])
def test_the_number_of_jobs_may_be_given(n_jobs: int | None, own: Cluster) -> None:
    pids = joblib.Parallel(n_jobs=n_jobs)(joblib.delayed(find_pid)(item) for item in range(20))

    assert set(pids) == {engine.pid for engine in own.engines}


def test_one_job_runs_in_the_calling_process() -> None:
    assert set(joblib.Parallel(n_jobs=1)(joblib.delayed(find_pid)(item) for item in range(3))) == {os.getpid()}


def test_a_generator_gives_results_as_they_come() -> None:
    naps = [0.8, *[0.01] * 10]

    def nap(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    calls = [joblib.delayed(nap)(seconds) for seconds in naps]
    ordered = list(joblib.Parallel(return_as="generator")(calls))
    unordered = list(joblib.Parallel(return_as="generator_unordered")(calls))

    assert ordered == naps
    assert sorted(unordered) == sorted(naps)
    assert unordered[0] == 0.01


def test_a_generator_that_is_left_early_cancels_the_rest(tmp_path: Path) -> None:
    path = str(tmp_path / "ran")

    def note(seconds: float) -> float:
        with open(path, "a") as file:  # noqa: PTH123 - on an engine
            file.write(f"{seconds}\n")
        time.sleep(seconds)
        return seconds

    results = joblib.Parallel(return_as="generator")(joblib.delayed(note)(seconds) for seconds in [0.01, *[LONG] * 20])
    first = next(results)
    begin = time.monotonic()
    del results
    again = joblib.Parallel()(joblib.delayed(square)(item) for item in range(10))
    seconds = time.monotonic() - begin

    assert first == 0.01
    assert again == [item * item for item in range(10)]
    assert seconds < 5


def test_an_exception_is_of_its_own_type_with_its_cause() -> None:
    with pytest.raises(OddError) as caught:
        joblib.Parallel()(joblib.delayed(refuse_odd)(item) for item in [0, 2, 3, 4])

    assert caught.value.args == (3,)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in refuse_odd" in caught.value.__cause__.text
    assert joblib.Parallel()(joblib.delayed(square)(item) for item in range(10)) == [item * item for item in range(10)]


def test_a_task_that_kills_engines_is_an_error() -> None:
    with pytest.raises(EngineDiedError):
        joblib.Parallel()(joblib.delayed(os.kill)(0, 9) if item < 0 else joblib.delayed(_die)(item) for item in [1])


def _die(item: int) -> None:
    os.kill(os.getpid(), 9)


def test_a_timeout_ends_the_call() -> None:
    begin = time.monotonic()
    with pytest.raises(multiprocessing.TimeoutError):
        joblib.Parallel(timeout=0.5)(joblib.delayed(time.sleep)(LONG) for _ in range(4))
    seconds = time.monotonic() - begin

    assert seconds < 8


def test_parallel_calls_within_tasks_run_on_their_engine(own: Cluster) -> None:
    results = joblib.Parallel()(joblib.delayed(nest)(item) for item in range(8))

    assert {pid for pid, _ in results} <= {engine.pid for engine in own.engines}
    assert all(set(inner) == {pid} for pid, inner in results)


def test_a_search_over_parameters_finds_what_it_finds_without_engines() -> None:
    from sklearn.datasets import make_classification
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    features, classes = make_classification(n_samples=200, random_state=0)
    grid: dict[str, list[Any]] = {"C": [0.1, 1.0, 10.0], "kernel": ["linear", "rbf"], "gamma": ["scale", 0.1]}

    search = GridSearchCV(SVC(), grid, cv=3).fit(features, classes)
    with joblib.parallel_config("sequential"):
        alone = GridSearchCV(SVC(), grid, cv=3).fit(features, classes)

    assert search.best_params_ == alone.best_params_
    assert list(search.cv_results_["mean_test_score"]) == list(alone.cv_results_["mean_test_score"])
