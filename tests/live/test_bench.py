"""``stoker bench`` as people run it. What it measures is looked at, how fast it was is not."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.bench import Case, parse_record, read_record

pytestmark = pytest.mark.live

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench"


def run_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "stoker", "bench", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=170, check=False)


@pytest.mark.parametrize(
    "names",
    [("stoker", "stoker-fresh"), pytest.param(("stock", "stoker", "stoker-fresh"), marks=pytest.mark.long)],
    ids=",".join,
)
def test_start_measures_contenders_in_turn(names: tuple[str, ...], tmp_path: Path) -> None:
    output = tmp_path / "record.json"
    only = [word for name in names for word in ("--only", name)]

    done = run_bench("start", "--rounds", "1", "--idle", "0.5", *only, "--json", "--output", str(output))

    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    samples = data["samples"]
    assert [(sample["contender"], sample["round"], sample["problem"]) for sample in samples] == [
        (name, 1, None) for name in names
    ]
    assert all(sample["case"] == {"engines": 2, "idle": 0.5} for sample in samples)
    assert all(sample["figures"]["start"] > 0 and sample["figures"]["stop"] > 0 for sample in samples)
    assert all(sample["figures"]["memory"] > 1 and sample["figures"]["overhead"] > 1 for sample in samples)
    assert all(0 <= sample["figures"]["idle"] < 100 for sample in samples)
    # Stock now and then leaves its controller's processes behind.
    assert all(sample["left"] == 0 for sample in samples if sample["contender"] != "stock")
    # It is stock that others are compared with.
    assert all((summary["spreads"][0]["ratio"] is not None) == ("stock" in names) for summary in data["summaries"])
    assert len(data["summaries"]) == len(names)
    assert data["machine"]["cores"] >= 1
    assert json.loads(output.read_text()) == data
    assert read_record(output).benchmark == "start"
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == list(names)


@pytest.mark.parametrize(("contender", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_peer_is_measured_and_leaves_nothing_behind(contender: str, module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} comes with the extra 'bench'")

    done = run_bench("start", "--rounds", "1", "--only", contender, "--json")

    assert done.returncode == 0, done.stderr
    (sample,) = json.loads(done.stdout)["samples"]
    assert (sample["contender"], sample["problem"], sample["left"]) == (contender, None, 0)
    assert set(sample["figures"]) == {"start", "stop", "memory", "overhead"}
    assert all(figure > 0 for figure in sample["figures"].values())


def test_a_benchmark_in_which_nobody_was_in_time_shows_the_reason_and_fails() -> None:
    done = run_bench("start", "--rounds", "2", "--only", "stock", "--timeout", "1")

    assert done.returncode == 1, done.stderr
    assert "not done after 1 s" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--only", "nobody"),
            "no contender 'nobody'; there are: stock, stock-encrypted, stoker, stoker-fresh, dask, ray",
        ),
        (("--output", "/no/such/place/record.json"), "no such directory: /no/such/place"),
        (("--engines", "0"), "Invalid value for '--engines'"),
        (("--idle", "-1"), "Invalid value for '--idle'"),
    ],
    ids=["contender", "output", "engines", "idle"],
)
def test_wrong_usage_is_told_before_anything_is_measured(arguments: tuple[str, ...], said: str) -> None:
    done = run_bench("start", *arguments)

    assert done.returncode == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_apply_measures_an_unchanged_profile_beside_the_interpreter() -> None:
    command = [sys.executable, "-m", "stoker", "bench", "apply", "--rounds", "1", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    record = json.loads(ended.stdout)

    assert ended.returncode == 0
    assert [sample["contender"] for sample in record["samples"]] == ["interpreter", "stoker"]
    assert all(sample["problem"] is None and sample["figures"]["wall"] > 0 for sample in record["samples"])


@pytest.mark.long
def test_queue_measures_the_tutorials_a_pool_and_stoker_in_turn() -> None:
    done = run_bench("queue", "--jobs", "50", "--primes", "20", "--rounds", "1", "--json")

    assert done.returncode == 0, done.stderr
    record = parse_record(json.loads(done.stdout))
    case = Case(engines=2, jobs=50, primes=20)
    assert record.skipped == ()
    assert [(sample.contender, sample.case, sample.problem, sample.left) for sample in record.samples] == [
        ("tutorial", case, None, 0),
        ("tutorial-nodelay", case, None, 0),
        ("pool", case, None, 0),
        ("stoker", case, None, 0),
    ]
    assert all(sample.figures["trivial"] > 0 and sample.figures["primes"] > 0 for sample in record.samples)


def test_queue_with_unknown_contender_is_wrong_usage() -> None:
    done = run_bench("queue", "--only", "stock")

    assert done.returncode == 2
    said = " ".join(done.stderr.replace("│", " ").split())
    assert "no contender 'stock'; there are: tutorial, tutorial-nodelay, pool, stoker" in said


@pytest.mark.parametrize(
    "names",
    [("pool", "executor", "stoker"), pytest.param(("pool", "executor", "plain", "stoker"), marks=pytest.mark.long)],
    ids=",".join,
)
def test_throughput_measures_those_who_need_no_extra_in_turn(names: tuple[str, ...]) -> None:
    only = [word for name in names for word in ("--only", name)]
    sizes = ("--items", "300", "--input", "strings", "--repeats", "1", "--rounds", "1")

    done = run_bench("throughput", *sizes, *only, "--json")

    assert done.returncode == 0, done.stderr
    record = parse_record(json.loads(done.stdout))
    case = Case(engines=2, kind="strings", items=300, repeats=1)
    assert [(sample.contender, sample.case, sample.problem) for sample in record.samples] == [
        (name, case, None) for name in names
    ]
    assert all(sample.figures["best"] >= sample.figures["median"] > 0 for sample in record.samples)
    # Stock now and then leaves its controller's processes behind.
    assert all(sample.left == 0 for sample in record.samples if sample.contender != "plain")


def test_journal_measures_maps_without_one_and_with_one_in_turn() -> None:
    done = run_bench("journal", "--seconds", "0.1", "--repeats", "2", "--rounds", "1", "--json")

    assert done.returncode == 0, done.stderr
    record = parse_record(json.loads(done.stdout))
    case = Case(engines=2, kind="spin", items=100, duration=0.001, repeats=2)
    (sample,) = record.samples
    assert (sample.contender, sample.case, sample.problem, sample.left) == ("stoker", case, None, 0)
    assert sorted(sample.figures) == ["journal", "kept", "plain"]
    assert all(figure > 0 for figure in sample.figures.values())


@pytest.mark.long
def test_submit_measures_those_who_need_no_extra_in_turn() -> None:
    names = ("pool", "executor", "plain", "stoker")
    only = [word for name in names for word in ("--only", name)]

    done = run_bench("submit", "--calls", "300", "--repeats", "1", "--rounds", "1", *only, "--json")

    assert done.returncode == 0, done.stderr
    record = parse_record(json.loads(done.stdout))
    case = Case(engines=2, kind="range", items=300, repeats=1)
    assert [(sample.contender, sample.case, sample.problem, sample.left) for sample in record.samples] == [
        (name, case, None, 0) for name in names
    ]
    assert all(sample.figures["rate"] > 0 and sample.figures["trip"] > 0 for sample in record.samples)


@pytest.mark.parametrize(("contender", "module"), [("joblib", "joblib"), ("dask", "distributed"), ("ray", "ray")])
def test_a_peer_carries_items_and_leaves_nothing_behind(contender: str, module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} comes with the extra 'bench'")
    sizes = ("--items", "300", "--input", "shuffled", "--repeats", "1", "--rounds", "1")

    done = run_bench("throughput", *sizes, "--only", contender, "--json")

    assert done.returncode == 0, done.stderr
    (sample,) = json.loads(done.stdout)["samples"]
    assert (sample["contender"], sample["problem"], sample["left"]) == (contender, None, 0)


@pytest.mark.long
def test_workloads_measures_all_in_turn_and_says_how_busy_workers_were_kept(tmp_path: Path) -> None:
    output = tmp_path / "record.json"
    sizes = ("--duration", "0.01", "--seconds", "0.1", "--rounds", "1")

    done = run_bench("workloads", "--work", "spin", *sizes, "--output", str(output))

    assert done.returncode == 0, done.stderr
    record = read_record(output)
    case = Case(engines=2, kind="spin", items=10, duration=0.01, repeats=1)
    assert [(sample.case, sample.contender, sample.problem) for sample in record.samples] == [
        (case, name, None) for name in ("serial", "loops", "pool", "plain", "stoker")
    ]
    chunks = [set(sample.figures) - {"seconds"} for sample in record.samples]
    assert chunks == [set(), set(), {"chunk"}, {"chunk"}, set()]
    said = " ".join(done.stdout.split())
    assert "2 workers, spin 10 ms x 10: efficiency loops" in said
    assert "2 workers, spin 10 ms x 10: stoker: seconds" in said


@pytest.mark.long
def test_memory_measures_batches_and_messages_and_judges_what_the_controller_keeps(tmp_path: Path) -> None:
    output = tmp_path / "record.json"
    sizes = ("--items", "60000", "--messages", "300", "--rounds", "1")

    done = run_bench("memory", *sizes, "--only", "plain", "--only", "stoker", "--output", str(output))

    assert done.returncode == 0, done.stderr
    record = read_record(output)
    batches, messages = (
        Case(engines=2, kind="range", items=count, batch=size) for count, size in ((60_000, None), (300, 1))
    )
    assert [(sample.case, sample.contender, sample.problem) for sample in record.samples] == [
        (batches, "stoker", None),
        (messages, "plain", None),
        (messages, "stoker", None),
    ]
    names = {"client", "hub", "scheduler", "engine", "others", "messages"}
    assert all(set(sample.figures) == names for sample in record.samples)
    few, plain, one = (sample.figures["messages"] for sample in record.samples)
    assert few < 60 < plain <= one < 310
    said = " ".join(done.stdout.split())
    assert "2 workers, range x 60,000: stoker:" in said
    assert f"2 workers, range x 300 in batches of 1: stoker: {one:.0f} messages; bytes for each message: client" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("memory", "--messages", "0"), "Invalid value for '--messages'"),
        (("throughput", "--input", "tuples"), "no 'tuples'; there are: range, shuffled, strings"),
        (("throughput", "--items", "0"), "Invalid value for '--items'"),
        (("workloads", "--work", "rest"), "no 'rest'; there are: sum, primes, spin"),
        (("workloads", "--duration", "0"), "Invalid value for '--duration'"),
        (("workloads", "--only", "dask"), "no contender 'dask'; there are: serial, loops, pool, plain, stoker"),
    ],
    ids=["messages", "input", "items", "work", "duration", "contender"],
)
def test_wrong_usage_of_maps_is_told_before_anything_is_measured(arguments: tuple[str, ...], said: str) -> None:
    done = run_bench(*arguments)

    assert done.returncode == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.usefixtures("can_build_hosts")
@pytest.mark.parametrize(
    "names", [("stoker",), pytest.param(("stock", "stoker"), marks=pytest.mark.long)], ids=" and ".join
)
def test_ssh_start_measures_on_hosts_that_its_script_builds(names: tuple[str, ...]) -> None:
    only = [word for name in names for word in ("--only", name)]
    argv = [SCRIPT, "ssh-start", "--engines", "2", "--rounds", "1", *only, "--json"]

    done = subprocess.run(argv, capture_output=True, text=True, timeout=170, check=False)

    assert done.returncode == 0, done.stderr
    record = parse_record(json.loads(done.stdout))
    case = Case(engines=4, hosts=2)
    assert [(sample.contender, sample.case, sample.problem, sample.left) for sample in record.samples] == [
        (name, case, None, 0) for name in names
    ]
    figures = record.samples[-1].figures
    assert figures["start"] > 0
    assert figures["stop"] > 0
    # Two engines, an agent, and the shell that started it.
    assert {name: figures[name] for name in ("processes", "connections", "kept", "left")} == {
        "processes": 4,
        "connections": 1,
        "kept": 1,
        "left": 0,
    }


def test_ssh_start_says_which_host_ssh_cannot_get_into() -> None:
    done = run_bench("ssh-start", "--host", "no-such-host.invalid", "--only", "stoker", "--rounds", "1")

    assert done.returncode == 1
    assert "no-such-host.invalid" in done.stdout
