"""``stoker bench`` as people run it. What it measures is looked at, how fast it was is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.bench import Case, parse_record, read_record

pytestmark = pytest.mark.live


def run_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "stoker", "bench", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=170, check=False)


def test_start_measures_stock_and_stoker_in_turn(tmp_path: Path) -> None:
    output = tmp_path / "record.json"
    only = ("--only", "stock", "--only", "stoker", "--only", "stoker-applied")

    done = run_bench("start", "--rounds", "1", *only, "--json", "--output", str(output))

    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    samples = data["samples"]
    assert [(sample["contender"], sample["round"], sample["problem"]) for sample in samples] == [
        ("stock", 1, None),
        ("stoker", 1, None),
        ("stoker-applied", 1, None),
    ]
    assert all(sample["case"] == {"engines": 2} for sample in samples)
    assert all(sample["figures"]["start"] > 0 and sample["figures"]["stop"] > 0 for sample in samples)
    # Stock now and then leaves its controller's processes behind.
    assert [sample["left"] for sample in samples[1:]] == [0, 0]
    assert [summary["spreads"][0]["ratio"] is not None for summary in data["summaries"]] == [True, True, True]
    assert data["machine"]["cores"] >= 1
    assert json.loads(output.read_text()) == data
    assert read_record(output).benchmark == "start"
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == ["stock", "stoker", "stoker-applied"]


def test_a_benchmark_in_which_nobody_was_in_time_shows_the_reason_and_fails() -> None:
    done = run_bench("start", "--rounds", "2", "--only", "stock", "--timeout", "1")

    assert done.returncode == 1, done.stderr
    assert "not done after 1 s" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--only", "nobody"), "no contender 'nobody'; there are: stock, stock-encrypted, stoker, stoker-applied"),
        (("--output", "/no/such/place/record.json"), "no such directory: /no/such/place"),
        (("--engines", "0"), "Invalid value for '--engines'"),
    ],
    ids=["contender", "output", "engines"],
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
