from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import stoker.queue
from stoker.errors import QueueError

pytestmark = pytest.mark.live

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(programs: Callable[[str], str]) -> Iterator[Start]:
    """Starts ``stoker queue`` with these words, as another shell does; ends it at the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: object, **options: Any) -> subprocess.Popen[str]:
        argv = [programs("stoker"), "queue", *map(str, words)]
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        started.append(process)
        return process

    yield begin

    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.fixture
def served(start: Start, wait_until: Callable[..., Any], home: Path) -> Path:
    """The directory of a queue that is served, at its default place."""
    start("serve", "--lease", "5")
    directory = home / ".local" / "state" / "stoker" / "queue"
    wait_until(lambda: _answers(directory))
    return directory


def _answers(directory: Path) -> bool:
    try:
        with stoker.queue.connect(directory, wait=0):
            return True
    except QueueError:
        return False


def test_three_commands_in_three_shells_give_the_primes_and_the_workers_compute_them(
    served: Path, start: Start, run_stoker: Callable[..., Any]
) -> None:
    run_stoker("queue", "put", "primes", "--count", "1000").check()
    worker = start("work", "-n", "2")
    run_stoker("queue", "close").check()
    lines = run_stoker("queue", "results", "--follow", "--json").check().out.splitlines()
    worker.wait(timeout=30)
    status = run_stoker("queue", "status", "--json").check().data

    found = [json.loads(line) for line in lines]
    values = [one["value"] for one in found]
    assert [one["number"] for one in found] == list(range(1, 1001))
    assert (values[0], values[-1], sum(values)) == (2, 7919, 3682913)
    pids = {one["pid"] for one in found}
    names = {one["name"].split(":")[1].split("/")[0] for one in status["workers"]}
    assert len(pids) == 2
    assert worker.pid not in pids
    assert names == {str(worker.pid)}
    assert worker.returncode == 0
    assert (status["put"], status["done"], status["failed"], status["closed"]) == (1000, 1000, 0, True)


def test_lines_of_json_are_the_arguments(served: Path, start: Start, run_stoker: Callable[..., Any]) -> None:
    put = run_stoker("queue", "put", "builtins:dict", input='{"a": 1}\n\n[[["b", 2]]]\n').check()
    run_stoker("queue", "put", "builtins:len", input='"four"\n5\n').check()
    run_stoker("queue", "close").check()
    start("work").wait(timeout=30)
    results = run_stoker("queue", "results", "--follow")

    lines = results.out.splitlines()
    assert put.out == "put 2 jobs of builtins:dict, numbers 1 to 2\n"
    assert lines[:3] == ["1\t{'a': 1}", "2\t{'b': 2}", "3\t4"]
    assert lines[3].startswith("4\tfailed: builtins:len(5): TypeError: object of type 'int' has no len() (attempt 1, ")
    assert results.code == 1
    assert run_stoker("queue", "results", "--after", "2").out.splitlines() == lines[2:]


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        pytest.param(
            ["operator:neg"],
            "1\nx\n",
            "standard input, line 2: is not JSON: Expecting value: line 1 column 1 (char 0); nothing was put",
            id="not JSON",
        ),
        pytest.param(
            ["neg"],
            "1\n",
            "'neg': write a function as module:function, such as stoker.queue.primes:nth_prime",
            id="no module",
        ),
        pytest.param(
            ["operator:neg", "--time-limit", "0"], "1\n", "a time limit must be above 0, got 0", id="time limit"
        ),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_put(
    served: Path, run_stoker: Callable[..., Any], words: list[str], given: str, said: str
) -> None:
    done = run_stoker("queue", "put", *words, input=given)

    assert (done.code, done.err) == (1, f"stoker: {said}\n")
    assert run_stoker("queue", "status", "--json").data["put"] == 0


def test_without_a_server_it_says_how_to_have_one(home: Path, run_stoker: Callable[..., Any]) -> None:
    done = run_stoker("queue", "status")

    key = home / ".local" / "state" / "stoker" / "queue" / "key"
    assert done.code == 1
    assert done.err == f"stoker: {key}: no key is there; serve the queue, or copy the key of its server here\n"


def test_a_spec_says_where_and_how_a_queue_is_served(
    tmp_path: Path,
    start: Start,
    run_stoker: Callable[..., Any],
    wait_until: Callable[..., Any],
    free_ports: Callable[[int], tuple[int, ...]],
) -> None:
    (port,) = free_ports(1)
    spec = tmp_path / "lab.toml"
    spec.write_text(f'[queue]\ndirectory = "here"\nport = {port}\nlease = 7.0\nattempts = 5\n')

    start("serve", "--spec", spec)
    wait_until(lambda: _answers(tmp_path / "here"))
    status = run_stoker("queue", "status", "--spec", spec, "--json").check().data
    elsewhere = run_stoker(
        "queue", "status", "--address", f"127.0.0.1:{port}", "--key", tmp_path / "here" / "key", "--json"
    ).check()

    assert (status["address"], status["lease"], status["attempts"]) == (f"127.0.0.1:{port}", 7.0, 5)
    assert elsewhere.data["address"] == f"127.0.0.1:{port}"


def test_from_python_results_come_in_the_order_of_the_items(served: Path, start: Start) -> None:
    start("work", "-n", "2")

    with stoker.queue.connect() as queue:
        first = queue.put("math:factorial", range(10))
        second = queue.put("operator:neg", range(3))
        backwards = [result.get() for result in queue.results(second[::-1], timeout=30)]
        factorials = [result.get() for result in queue.results(first, timeout=30)]
        queue.close()

    assert backwards == [-2, -1, 0]
    assert factorials == [1, 1, 2, 6, 24, 120, 720, 5040, 40320, 362880]


def test_asking_for_what_was_never_put_or_does_not_come_ends(served: Path) -> None:
    with stoker.queue.connect() as queue:
        numbers = queue.put("operator:neg", [1])

        with pytest.raises(QueueError, match=r"^there is no job 2: 1 were put$"):
            list(queue.results([2]))
        with pytest.raises(QueueError, match=r"^no result of job 1 within 0\.2 s$"):
            list(queue.results(numbers, timeout=0.2))


@pytest.mark.parametrize("command", ["serve", "put", "work", "results", "status", "close"])
def test_help_names_the_counterpart_in_the_tutorial(run_stoker: Callable[..., Any], command: str) -> None:
    text = " ".join(run_stoker("queue", command, "--help", env={**os.environ, "COLUMNS": "200"}).check().out.split())

    assert "In the tutorial" in text


def test_whoever_reads_only_the_beginning_hears_no_complaint(
    served: Path, start: Start, programs: Callable[[str], str], run_stoker: Callable[..., Any]
) -> None:
    with stoker.queue.connect() as queue:
        queue.put("operator:neg", range(20_000))
        queue.close()
    start("work").wait(timeout=60)

    line = f"'{programs('stoker')}' queue results | head -1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.stderr) == ("1\t0\n", "")


def test_a_second_server_of_one_queue_is_refused_and_the_first_goes_on(
    served: Path, run_stoker: Callable[..., Any]
) -> None:
    again = run_stoker("queue", "serve")

    assert again.code == 1
    assert "serving this queue (process" in again.err
    assert again.err.endswith("holds it; one queue has one server\n")
    assert _answers(served)
