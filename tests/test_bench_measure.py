"""Measuring, with contenders that are tiny programs: whatever they do, there is a sample and nothing is left."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stoker.bench import MEMORY, QUEUE, START, SUBMIT, THROUGHPUT, WORKLOADS, Case, Contender, Sample, Skipped, measure
from stoker.bench.measure import MARK, Taken, parse_figures, render_environment
from stoker.bench.workloads import plan_works
from stoker.system.processes import ProcessId, identify, is_running

TWO = Case(engines=2)

SUCCEEDS = 'print("noise"); print("measured:", \'{"start": 1.5}\')'
FAILS = 'raise SystemExit("boom")'
# The grandchild has a session of its own, ignores requests and outlives its parent.
LEAVES = """
import subprocess, sys
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
open(PIDS, "a").write(f"{child.pid}\\n")
"""
HANGS = f"{LEAVES}\nimport time; time.sleep(600)"

Make = Callable[..., Contender]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a contender of a few lines of Python, which know ``PIDS``, a file."""

    def contender(name: str, code: str, *, prepare: str | None = None, **more: object) -> Contender:
        def write(stem: str, text: str) -> Path:
            path = tmp_path / f"{stem}.py"
            path.write_text(f"PIDS = {str(tmp_path / 'pids')!r}\n{text}\n")
            return path

        prepared = None if prepare is None else write(f"prepare_{name}", prepare)
        return Contender(name=name, about="", program=write(name, code), prepare=prepared, **more)  # type: ignore[arg-type]

    return contender


def find_grandchildren(tmp_path: Path) -> list[ProcessId]:
    """Find those that still run."""
    pids = [int(line) for line in (tmp_path / "pids").read_text().splitlines()]
    assert pids
    found = [identify(pid) for pid in pids]
    return [process for process in found if process is not None and is_running(process)]


def take(contenders: list[Contender], *, rounds: int = 1, timeout: float = 60.0) -> tuple[Sample, ...]:
    return measure(contenders, [TWO], rounds=rounds, timeout=timeout).samples


@pytest.mark.live
def test_contenders_take_turns_and_every_sample_is_told(make: Make) -> None:
    told: list[Sample] = []

    taken = measure(
        [make("a", SUCCEEDS), make("b", SUCCEEDS)],
        [TWO, Case(engines=16)],
        rounds=2,
        timeout=60,
        on_sample=told.append,
    )

    assert [(sample.case.engines, sample.round, sample.contender) for sample in taken.samples] == [
        (2, 1, "a"),
        (2, 1, "b"),
        (2, 2, "a"),
        (2, 2, "b"),
        (16, 1, "a"),
        (16, 1, "b"),
        (16, 2, "a"),
        (16, 2, "b"),
    ]
    assert tuple(told) == taken.samples
    assert taken.samples[0] == Sample(contender="a", case=TWO, round=1, figures={"start": 1.5})


@pytest.mark.live
def test_one_that_fails_gives_a_sample_with_the_reason_and_the_others_go_on(make: Make) -> None:
    failed, good = take([make("bad", FAILS), make("good", SUCCEEDS)])

    assert failed == Sample(
        contender="bad", case=TWO, round=1, figures={}, problem="ended with status 1: boom", log=("boom",)
    )
    assert good.figures == {"start": 1.5}


@pytest.mark.live
def test_one_that_hangs_is_cut_off_with_all_it_started_and_not_run_again(make: Make, tmp_path: Path) -> None:
    begin = time.monotonic()

    samples = take([make("hangs", HANGS), make("good", SUCCEEDS)], rounds=2, timeout=4.0)

    assert [(sample.contender, sample.problem, sample.left) for sample in samples] == [
        ("hangs", "not done after 4 s", 1),
        ("good", None, 0),
        ("good", None, 0),
    ]
    assert find_grandchildren(tmp_path) == []
    assert time.monotonic() - begin < 60


@pytest.mark.live
def test_what_a_finished_program_leaves_behind_is_counted_and_ended(make: Make, tmp_path: Path) -> None:
    (sample,) = take([make("leaves", f"{LEAVES}\n{SUCCEEDS}")])

    assert (sample.figures, sample.left) == ({"start": 1.5}, 1)
    assert find_grandchildren(tmp_path) == []


@pytest.mark.live
def test_one_that_says_nothing_of_what_it_measured_has_a_problem(make: Make) -> None:
    (sample,) = take([make("mute", "print('hello')")])

    assert (sample.problem, sample.log) == ("it did not say what it measured", ("hello",))


@pytest.mark.live
def test_a_program_gets_its_case_a_home_of_its_own_and_what_was_prepared_there(make: Make, home: Path) -> None:
    prepare = "import pathlib; (pathlib.Path.home() / 'prepared').touch()"
    check = """
import json, os, pathlib, sys
home = pathlib.Path.home()
assert json.loads(sys.argv[1]) == {"engines": 2}
assert (home / "prepared").exists() and str(home) != REAL
assert os.environ["IPYTHONDIR"].startswith(str(home)) and os.environ["MORE"] == "yes"
""".replace("REAL", repr(str(home)))

    samples = take(
        [
            make("first", f"{check}\n{SUCCEEDS}", prepare=prepare, environment={"MORE": "yes"}),
            make("second", "import pathlib; assert not list(pathlib.Path.home().glob('prep*'))\n" + SUCCEEDS),
        ]
    )

    assert [sample.problem for sample in samples] == [None, None]


@pytest.mark.live
def test_what_fails_in_preparation_is_the_reason(make: Make) -> None:
    (sample,) = take([make("unprepared", SUCCEEDS, prepare=FAILS)])

    assert sample.problem == "ended with status 1: boom"


@pytest.mark.live
def test_one_has_no_part_in_a_case_of_more_items_than_it_takes(make: Make) -> None:
    few, many = (Case(engines=2, kind="range", items=count) for count in (10, 11))

    taken = measure(
        [make("slow", SUCCEEDS, most_items=10), make("fast", SUCCEEDS)], [TWO, few, many], rounds=1, timeout=60
    )

    assert [(sample.case, sample.contender) for sample in taken.samples] == [
        (TWO, "slow"),
        (TWO, "fast"),
        (few, "slow"),
        (few, "fast"),
        (many, "fast"),
    ]


@pytest.mark.live
def test_one_whose_modules_are_missing_is_skipped_with_the_reason(make: Make) -> None:
    told: list[Skipped] = []

    taken = measure(
        [make("far", SUCCEEDS, modules=("json", "no_such_module")), make("here", SUCCEEDS, modules=("json",))],
        [TWO],
        rounds=1,
        timeout=60,
        on_skipped=told.append,
    )

    reason = "ended with status 1: ModuleNotFoundError: No module named 'no_such_module'"
    assert taken.skipped == tuple(told) == (Skipped(contender="far", reason=reason),)
    assert [sample.contender for sample in taken.samples] == ["here"]


@pytest.mark.live
def test_one_that_needs_an_extra_is_skipped_with_its_name(make: Make) -> None:
    taken = measure([make("far", SUCCEEDS, modules=("no_such_module",), extra="bench")], [TWO], rounds=1, timeout=60)

    reason = (
        "ended with status 1: ModuleNotFoundError: No module named 'no_such_module'; it comes with the extra 'bench'"
    )
    assert taken == Taken(samples=(), skipped=(Skipped(contender="far", reason=reason),))


@pytest.mark.live
def test_an_interrupted_benchmark_leaves_nothing(make: Make, tmp_path: Path) -> None:
    contender = make("hangs", HANGS)
    code = (
        "from pathlib import Path; from stoker.bench import Case, Contender, measure; "
        f"measure([Contender(name='x', about='', program=Path({str(contender.program)!r}))], "
        "[Case(engines=2)], rounds=1, timeout=600)"
    )
    bench = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pids").exists() or not (tmp_path / "pids").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)

    bench.send_signal(signal.SIGINT)
    _, error = bench.communicate(timeout=30)

    assert b"KeyboardInterrupt" in error
    assert find_grandchildren(tmp_path) == []


@pytest.mark.parametrize(
    ("lines", "figures"),
    [
        (["noise", 'measured: {"start": 1, "stop": 0.5}', "more noise"], {"start": 1.0, "stop": 0.5}),
        (['measured: {"start": 1}', 'measured: {"start": 2}'], {"start": 2.0}),
        (["noise"], None),
        (["measured: {"], None),
        (["measured: {}"], None),
        (["measured: [1]"], None),
        (['measured: {"start": null}'], None),
    ],
    ids=["among-noise", "last-one-counts", "nothing", "cut-off", "empty", "no-object", "no-number"],
)
def test_figures_are_found_in_the_output(lines: list[str], figures: dict[str, float] | None) -> None:
    assert parse_figures(lines) == figures


def test_nothing_of_the_user_leads_a_program_elsewhere() -> None:
    names = ("IPP_CONNECTION_INFO", "JUPYTER_PATH", "IPYTHONDIR", "STOKER_RUN", "RAY_ADDRESS", "DASK_CONFIG")
    user = {"PATH": "/bin", "HOME": "/home/me"} | dict.fromkeys(names, "x")

    environment = render_environment(user, home=Path("/new"), mark="m", more={"IPP_ENABLE_CURVE": "1"})

    assert environment == {
        "PATH": "/bin",
        "HOME": "/new",
        "IPYTHONDIR": "/new/.ipython",
        "XDG_RUNTIME_DIR": "/new",
        MARK: "m",
        "IPP_ENABLE_CURVE": "1",
    }


def test_the_start_benchmark_measures_stock_first_and_its_programs_are_there() -> None:
    names = [contender.name for contender in START]

    assert names == ["stock", "stock-encrypted", "stoker", "stoker-fresh", "dask", "ray"]
    assert all(contender.program.is_file() for contender in START)


def test_what_the_stoker_contenders_import_is_there() -> None:
    contenders = (*START, *QUEUE, *SUBMIT, *THROUGHPUT, *WORKLOADS, *MEMORY)
    modules = {module for contender in contenders if contender.extra is None for module in contender.modules}

    assert [module for module in sorted(modules) if importlib.util.find_spec(module) is None] == []


def test_the_queue_benchmark_measures_the_tutorials_first_and_its_programs_are_there() -> None:
    names = [contender.name for contender in QUEUE]

    assert names == ["tutorial", "tutorial-nodelay", "pool", "stoker"]
    assert all(contender.program.is_file() for contender in QUEUE)


def test_the_throughput_benchmark_measures_the_pool_first_and_its_programs_are_there() -> None:
    names = [contender.name for contender in THROUGHPUT]

    assert names == ["pool", "executor", "joblib", "plain", "dask", "ray", "stoker"]
    assert all(contender.program.is_file() for contender in THROUGHPUT)
    assert [contender.name for contender in THROUGHPUT if not contender.takes(20_001)] == ["plain", "dask", "ray"]
    assert all(contender.takes(20_000) and contender.takes(None) for contender in THROUGHPUT)


def test_the_submit_benchmark_measures_the_pool_first_and_its_programs_are_there() -> None:
    names = [contender.name for contender in SUBMIT]

    assert names == ["pool", "executor", "plain", "dask", "ray", "stoker"]
    assert all(contender.program.is_file() for contender in SUBMIT)


def test_the_workloads_benchmark_measures_a_loop_first_and_its_programs_are_there() -> None:
    names = [contender.name for contender in WORKLOADS]

    assert names == ["serial", "loops", "pool", "plain", "stoker"]
    assert all(contender.program.is_file() for contender in WORKLOADS)


def test_the_memory_benchmark_measures_plain_ipyparallel_first_and_its_programs_are_there() -> None:
    names = [contender.name for contender in MEMORY]

    assert names == ["plain", "plain-encrypted", "stoker"]
    assert all(contender.program.is_file() for contender in MEMORY)
    assert [contender.name for contender in MEMORY if contender.takes(5_000_000)] == ["stoker"]


def test_works_are_planned_in_the_order_they_were_asked_for_and_items_of_a_duration_fill_the_seconds() -> None:
    works = plan_works(("spin", "sum", "primes"), n=10, times=3, count=50, durations=(0.001, 0.3, 5.0), seconds=4.0)

    assert works == [
        {"kind": "spin", "items": 4000, "duration": 0.001},
        {"kind": "spin", "items": 13, "duration": 0.3},
        {"kind": "spin", "items": 1, "duration": 5.0},
        {"kind": "sum", "items": 3, "numbers": 10},
        {"kind": "primes", "items": 50},
    ]
