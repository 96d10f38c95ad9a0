"""The workloads and the decorator on a real cluster of ipyparallel's own."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import stoker
from stoker.compute import parallel, portable
from stoker.errors import UnfinishedError
from stoker.workloads import run_workload
from stoker.workloads.sums import sum_range

pytestmark = pytest.mark.live

ENGINES = 2
SOURCE = str(Path(stoker.__file__).parent.parent)
VIEWS = ["load_balanced_view", "direct_view", "broadcast_view"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of two engines that cannot import stoker."""
    directory = tmp_path_factory.mktemp("ipython")
    with pytest.MonkeyPatch.context() as patch:
        # Also before the autouse fixtures, which come after those of a module.
        patch.setenv("IPYTHONDIR", str(directory))
        patch.setenv("HOME", str(directory))
        yield from _run_cluster(directory)


def _run_cluster(directory: Path) -> Iterator[Any]:
    import ipyparallel

    before = set(psutil.Process().children(recursive=True))
    cluster = ipyparallel.Cluster(
        n=ENGINES,
        cluster_id=f"test-{uuid.uuid4().hex[:8]}",
        profile_dir=str(directory / "profile_test"),
        controller_args=["--HeartMonitor.period=500"],
        delay=0,
        log_level=40,
    )
    try:
        cluster.start_cluster_sync()
        connected = cluster.connect_client_sync()
        connected.wait_for_engines(ENGINES, timeout=60)
        connected[:].apply_async(portable(_forget), "stoker", SOURCE).get(30)
        yield connected
        connected.close()
    finally:
        started = list(set(psutil.Process().children(recursive=True)) - before)
        # Engines first: their nannies take leave of the controller, and wait 3 s for one that is gone.
        cluster.stop_engines_sync()
        cluster.stop_controller_sync()
        _end(started)


def _end(processes: list[psutil.Process]) -> None:
    """See that processes are gone, and end, with a warning, any that ipyparallel has left."""
    _, left = psutil.wait_procs(processes, timeout=10)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            warnings.warn(f"ipyparallel left {process} {process.cmdline()}", stacklevel=1)
            process.kill()
    _, alive = psutil.wait_procs(left, timeout=10)
    assert processes
    assert alive == []


# What engines run: self-contained, since this module is not importable there either.


def _forget(package: str, source: str) -> None:
    import sys

    sys.path[:] = [entry for entry in sys.path if entry != source]
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]
    sys.modules[package] = None  # type: ignore[assignment]


def _can_import(package: str) -> bool:
    import importlib

    try:
        importlib.import_module(package)
    except ImportError:
        return False
    return True


def _kind(element: object) -> str:
    return type(element).__name__


def _reciprocal(x: int) -> float:
    return 1 / x


def test_the_engines_have_no_stoker_and_cannot_run_a_function_that_wants_it(client: Any) -> None:
    import ipyparallel

    can = client[:].apply_async(portable(_can_import), "stoker").get(30)

    assert can == [False] * ENGINES
    with pytest.raises(ipyparallel.error.CompositeError, match="ModuleNotFoundError"):
        client.load_balanced_view().map(sum_range, [3], block=False).get(30)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("name", "parameters", "figures"),
    [
        pytest.param("sum", {"n": 100_000, "times": 12, "serial_times": 3}, (("each", 4_999_950_000),), id="sum"),
        pytest.param("primes", {"count": 100}, (("last", 541), ("sum", 24_133)), id="primes"),
    ],
)
def test_every_way_gives_right_results_on_engines_without_stoker(
    client: Any, view: str, name: str, parameters: dict[str, int], figures: Any
) -> None:
    report = run_workload(name, getattr(client, view)(), engines=ENGINES, timeout=60, **parameters)

    seen = [(outcome.via, outcome.correct, outcome.figures) for outcome in report.outcomes]
    assert seen == [(via, True, figures) for via in ("serial", "map", "parallel", "call", "stoker")]


@pytest.mark.parametrize("view", VIEWS)
def test_a_decorated_function_gets_elements_where_ipyparallels_gets_slices(client: Any, view: str) -> None:
    used = getattr(client, view)()

    ours = parallel(used)(_kind)
    theirs = used.parallel(block=True)(portable(_kind))

    assert (ours(range(3)), ours.map(range(3))) == (["int"] * 3, ["int"] * 3)
    assert set(theirs(range(3))) == {"range"}


@pytest.mark.parametrize("chunksize", [None, 1, 3, 100])
def test_chunks_do_not_change_the_results(client: Any, chunksize: int | None) -> None:
    power = parallel(client.load_balanced_view(), chunksize=chunksize)(lambda x, y: x**y)

    assert power(range(10), (3 for _ in range(8))) == [x**3 for x in range(8)]


def test_not_blocking_gives_an_async_map_result(client: Any) -> None:
    import ipyparallel

    pending = parallel(client.load_balanced_view(), block=False, ordered=False)(_reciprocal)([1, 2, 4])

    assert isinstance(pending, ipyparallel.AsyncMapResult)
    assert pending.wait(30)
    assert pending.get(0) == [1.0, 0.5, 0.25]
    assert (len(pending), pending.progress) == (3, 3)


def test_an_error_of_the_function_reaches_the_caller(client: Any) -> None:
    import ipyparallel

    with pytest.raises(ipyparallel.error.CompositeError, match="ZeroDivisionError"):
        parallel(client.load_balanced_view())(_reciprocal)([1, 0, 2])


def test_a_workload_out_of_time_leaves_the_engines_free_for_others(client: Any) -> None:
    view = client.load_balanced_view()
    started: list[Any] = []

    def note(*args: Any, **options: Any) -> Any:
        started.append(type(view).map(view, *args, **options))
        return started[0]

    view.map = note
    with pytest.raises(UnfinishedError, match=r"^sum via map: \d+ of 400 items had come home") as caught:
        run_workload("sum", view, engines=ENGINES, vias=["map"], n=10_000_000, times=400, timeout=1)
    start = time.monotonic()
    view.apply_async(pow, 2, 3).get(60)
    waited = time.monotonic() - start

    # Without the abort, the remaining sums take two engines some 28 s.
    ran = sum(task["status"] == "ok" for task in started[0].metadata)
    seen = f"{ran} of 400 sums ran, {waited:.1f} s; the engines' logs:\n{_read_logs()}"
    assert caught.value.done < 200
    assert caught.value.__cause__ is None
    assert ran < 200, seen
    assert waited < 14, seen


def _read_logs() -> str:
    """What ipyparallel's engines and controller of this module's cluster have complained of."""
    files = sorted(Path(os.environ["IPYTHONDIR"]).rglob("log/*"))
    return "\n".join(f"{file.name}: {file.read_text(errors='replace')[-2000:]}" for file in files)


def test_frozen_engines_do_not_hold_the_caller_beyond_the_time_allowed(client: Any) -> None:
    view = client.load_balanced_view()
    pids = client[:].apply_async(os.getpid).get(30)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)

    # Shorter than 10 missed heartbeats of 0.5 s, after which the engines would be given up.
    start = time.monotonic()
    try:
        with pytest.raises(UnfinishedError, match=r"^primes via call: 0 of 3 items had come home"):
            run_workload("primes", view, engines=ENGINES, vias=["call"], count=3, timeout=0.3)
        waited = time.monotonic() - start
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    assert waited < 4
    assert client[:].apply_async(os.getpid).get(30) == pids
