"""Journalled maps on real clusters: killed at any moment, interrupted, on a full disk, and then called again."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import stoker
from requirements import do_without
from stoker.cluster import Cluster
from stoker.cluster.record import read_record, record_file
from stoker.compute import Standing, read_journal, read_journal_info
from stoker.errors import EngineDiedError, JournalError
from stoker.spec import parse_spec

pytestmark = pytest.mark.live

ITEMS = 1500
LONG = 60.0
CLIENT = """
import json, os, sys, time
import stoker

name, directory, journal, ran, kind, count = sys.argv[1:]

def task(item):
    time.sleep(0.001)
    with open(f"{ran}/{os.getpid()}", "a") as file:
        file.write(f"{item}\\n")
    return item * 3

items = range(int(count)) if kind == "range" else (item for item in range(int(count)))
with stoker.connect(name, ipython_dir=directory) as cluster:
    print("ready", flush=True)
    try:
        print(json.dumps(cluster.map(task, items, journal=journal)))
    except KeyboardInterrupt:
        print("interrupted")
"""


@dataclass(frozen=True)
class Script:
    """A script with one journalled map."""

    cluster: Cluster
    place: Path

    @property
    def journal(self) -> Path:
        return self.place / "a.journal"

    @property
    def ran(self) -> Path:
        return self.place / "ran"

    def begin(self, kind: str = "range", count: int = ITEMS) -> subprocess.Popen[str]:
        """Begin it, and return when it is about to call."""
        self.ran.mkdir(parents=True, exist_ok=True)
        (self.place / "script.py").write_text(CLIENT)
        directory = self.cluster._address.directory.path.parent
        words = [self.place / "script.py", self.cluster.name, directory, self.journal, self.ran, kind, count]
        argv = [sys.executable, *map(str, words)]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def end(self, process: subprocess.Popen[str]) -> str:
        """Wait for its end, and give what it printed."""
        printed, _ = process.communicate(timeout=LONG)
        return printed

    def read_recorded(self) -> dict[int, Any]:
        try:
            return dict(read_journal(self.journal))
        except JournalError as error:
            if re.search(r"no such file|nothing in it", str(error)) is None:
                raise
            # It was killed before it had made one.
            return {}

    def take_ran(self) -> list[int]:
        """Give the items that engines have begun since it was asked last."""
        self.wait_until_idle()
        items = [int(line) for path in self.ran.iterdir() for line in path.read_text().split()]
        for path in self.ran.iterdir():
            path.unlink()
        return items

    def wait_until_idle(self) -> None:
        # What a killed client has sent is run nevertheless.
        deadline = time.monotonic() + LONG
        while self._count_tasks():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def _count_tasks(self) -> int:
        status = self.cluster.client.queue_status()
        waiting = int(status.pop("unassigned"))
        return waiting + sum(engine["tasks"] + engine["queue"] for engine in status.values())


@pytest.fixture
def script(own: Cluster, tmp_path: Path) -> Script:
    return Script(own, tmp_path / "work")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    if os.getuid() != 0:
        do_without("mount", "only root may mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


# Ends of all kinds.


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.long)])
def test_after_a_kill_of_the_client_the_same_call_runs_only_what_is_missing(
    own: Cluster, tmp_path: Path, kills: int
) -> None:
    chance = random.Random(7)
    recorded_at = []

    for number in range(kills):
        script = Script(own, tmp_path / str(number))
        kind = ("range", "generator")[number % 2]
        process = script.begin(kind)
        time.sleep(chance.uniform(0.0, 1.1))  # the moment of the kill, not a wait
        process.kill()
        script.end(process)
        recorded = script.read_recorded()
        first = script.take_ran()

        results = json.loads(script.end(script.begin(kind)))
        second = script.take_ran()

        assert results == [item * 3 for item in range(ITEMS)]
        assert recorded == {index: results[index] for index in recorded}
        assert not set(recorded) & set(second)
        assert set(recorded) <= set(first)
        assert sorted({*recorded, *second}) == list(range(ITEMS))
        assert len(second) == len(set(second))
        assert dict(read_journal(script.journal)) == dict(enumerate(results))
        assert read_journal_info(script.journal).complete
        recorded_at.append(len(recorded))

    assert any(0 < count < ITEMS for count in recorded_at), recorded_at


@pytest.mark.long
def test_a_client_that_is_killed_again_and_again_gets_done(script: Script, wait_until: Callable[..., Any]) -> None:
    count = 4 * ITEMS
    recorded: set[int] = set()
    for _ in range(4):
        process = script.begin(count=count)
        enough = len(recorded) + 100
        wait_until(lambda enough=enough: len(script.read_recorded()) > enough)
        process.kill()
        script.end(process)
        assert not recorded.intersection(script.take_ran())
        assert recorded < set(script.read_recorded())
        recorded = set(script.read_recorded())

    results = json.loads(script.end(script.begin(count=count)))

    assert results == [item * 3 for item in range(count)]
    assert sorted(script.take_ran()) == sorted(set(range(count)) - recorded)


def test_while_one_client_is_at_it_another_is_refused_and_may_read(
    own: Cluster, script: Script, wait_until: Callable[..., Any]
) -> None:
    process = script.begin(count=8 * ITEMS)
    wait_until(lambda: len(script.read_recorded()) > 100)

    with pytest.raises(JournalError) as caught:
        own.map(abs, range(3), journal=script.journal)
    info = read_journal_info(script.journal)
    results = json.loads(script.end(process))

    assert f"another call (process {process.pid}) is writing it; wait for its end" in str(caught.value)
    assert (info.function, info.total, info.complete) == ("__main__.task", 8 * ITEMS, False)
    assert len(results) == 8 * ITEMS


def test_ctrl_c_keeps_what_is_finished(script: Script, wait_until: Callable[..., Any]) -> None:
    count = 4 * ITEMS
    process = script.begin(count=count)
    wait_until(lambda: len(script.read_recorded()) > 100)
    process.send_signal(signal.SIGINT)
    assert script.end(process) == "interrupted\n"
    recorded = script.read_recorded()
    first = script.take_ran()

    results = json.loads(script.end(script.begin(count=count)))
    second = script.take_ran()

    assert 100 < len(recorded) < count
    assert set(recorded) <= set(first)
    assert results == [item * 3 for item in range(count)]
    assert sorted(second) == sorted(set(range(count)) - set(recorded))


def test_after_the_death_of_everything_the_same_call_goes_on(
    start: Callable[..., Cluster], tmp_path: Path, wait_until: Callable[..., Any], processes: Callable[[], list[str]]
) -> None:
    spec = parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": 2}]})
    cluster = start(spec)
    cluster.close()
    script = Script(cluster, tmp_path / "work")
    client = script.begin()
    wait_until(lambda: len(script.read_recorded()) > 100)
    record = read_record(record_file(cluster._address.directory, ""))
    assert record is not None

    client.kill()
    for process in record.processes():
        os.kill(process.pid, signal.SIGKILL)
    script.end(client)
    wait_until(lambda: processes() == [])
    recorded = set(script.read_recorded())
    for path in script.ran.iterdir():
        path.unlink()
    again = Script(start(spec), tmp_path / "work")
    results = json.loads(again.end(again.begin()))

    assert results == [item * 3 for item in range(ITEMS)]
    assert sorted(again.take_ran()) == sorted(set(range(ITEMS)) - recorded)


def test_engines_that_die_meanwhile_cost_no_result(own: Cluster, tmp_path: Path) -> None:
    place = str(tmp_path)

    def task(item: int) -> int:
        time.sleep(0.001)
        if item in (50, 700, 1400):
            with open(f"{place}/{item}", "a") as file:  # noqa: PTH123 - on an engine
                file.write("x")
            if os.stat(f"{place}/{item}").st_size == 1:  # noqa: PTH116
                os.kill(os.getpid(), signal.SIGKILL)
        return item

    path = tmp_path / "a.journal"

    results = own.map(task, range(ITEMS), journal=path)

    assert results == list(range(ITEMS))
    assert dict(read_journal(path)) == dict(enumerate(results))
    assert own.map(task, range(ITEMS), journal=path, progress=lambda standing: None) == results


def test_a_full_disk_ends_the_map_and_what_was_recorded_is_there(own: Cluster, small_disk: Path) -> None:
    path = small_disk / "a.journal"
    ran = small_disk.parent / "ran"
    ran.mkdir()
    where = str(ran)

    def task(item: int) -> str:
        with open(f"{where}/{os.getpid()}", "a") as file:  # noqa: PTH123 - on an engine
            file.write(f"{item}\n")
        time.sleep(0.001)
        return f"{item:05}" * 1000

    with pytest.raises(JournalError, match=r"cannot be written \(what is in it is safe\): .*full") as caught:
        own.map(task, range(ITEMS), journal=path, batch=5)
    with pytest.raises(JournalError):
        own.map(task, range(ITEMS), journal=path, batch=5)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    recorded = dict(read_journal(path))
    for each in ran.iterdir():
        each.unlink()
    results = own.map(task, range(ITEMS), journal=path)

    assert caught.value.path == path
    assert 0 < len(recorded) < ITEMS
    assert results == [f"{item:05}" * 1000 for item in range(ITEMS)]
    assert recorded == {index: results[index] for index in recorded}
    again = [int(line) for each in ran.iterdir() for line in each.read_text().split()]
    assert sorted(again) == sorted(set(range(ITEMS)) - set(recorded))


# What comes back.


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as they are done"])
def test_an_imap_goes_on_with_what_a_map_has_begun(own: Cluster, tmp_path: Path, ordered: bool) -> None:
    path = tmp_path / "a.journal"

    def task(item: int) -> int:
        if item == 300:
            raise ValueError(item)
        return -item

    with pytest.raises(ValueError, match="300") as caught:
        own.map(task, range(ITEMS), journal=path, batch=10)
    done = read_journal_info(path).done
    results = list(own.imap(task, range(ITEMS), journal=path, ordered=ordered, on_error="skip"))

    assert caught.value.item.index == 300  # type: ignore[attr-defined]
    assert 0 < done < ITEMS
    expected = [-item for item in range(ITEMS) if item != 300]
    assert results == expected if ordered else sorted(results) == sorted(expected)
    assert read_journal_info(path).done == ITEMS - 1
    assert not read_journal_info(path).complete


def test_items_that_failed_are_tried_again_and_no_others(own: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    flag = str(tmp_path / "repaired")
    standings: list[Standing] = []

    def task(item: int) -> int:
        if item % 100 == 7 and not os.path.exists(flag):  # noqa: PTH110 - on an engine
            raise OSError(item)
        return item

    first = own.map(task, range(ITEMS), journal=path, on_error="return")
    failed = [index for index, value in enumerate(first) if isinstance(value, OSError)]
    Path(flag).touch()
    second = own.map(task, range(ITEMS), journal=path, progress=standings.append)

    assert failed == [item for item in range(ITEMS) if item % 100 == 7]
    assert [first[index].item.index for index in failed] == failed
    assert second == list(range(ITEMS))
    assert {standing.earlier for standing in standings} == {ITEMS - len(failed)}
    assert (standings[0].total, standings[-1].done) == (ITEMS, ITEMS)


def test_an_item_that_kills_engines_is_named_by_its_own_index(own: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "a.journal"

    def task(item: int) -> int:
        if item == 77:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    for _ in range(2):
        results = own.map(task, range(100), journal=path, on_error="return", retries=0)

        error = results.pop(77)
        assert isinstance(error, EngineDiedError)
        assert str(error).startswith("item 77 (77)")
        assert results == [item for item in range(100) if item != 77]
    assert read_journal_info(path).done == 99


def test_starmap_keeps_a_journal_and_other_rows_are_refused(own: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    rows = [(item, 2) for item in range(200)]

    first = own.starmap(pow, rows, journal=path)
    again = own.starmap(pow, iter(rows), journal=path)
    with pytest.raises(JournalError, match="is the journal of other inputs"):
        own.starmap(pow, [*rows[:-1], (3, 3)], journal=path)
    with pytest.raises(JournalError, match="it is of a starmap, not of a map"):
        own.map(pow, range(200), range(200), journal=path)

    assert first == again == [item**2 for item in range(200)]


def test_another_function_or_other_inputs_are_refused_before_anything_is_run(own: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "a.journal"
    touched = tmp_path / "touched"
    factor = 2
    own.map(lambda item: item * factor, range(10), journal=path)
    factor = 3
    name = str(touched)

    with pytest.raises(JournalError, match="code"):
        own.map(lambda item: open(name, "w").write("x"), range(10), journal=path)  # noqa: PTH123, SIM115
    with pytest.raises(JournalError, match="is the journal of another call"):
        own.map(lambda item: item * factor, range(11), journal=path)

    assert not touched.exists()
    assert dict(read_journal(path)) == {item: item * 2 for item in range(10)}


# Its faces.


def test_run_keeps_a_journal_that_can_be_shown_and_exported(
    run_stoker: Callable[..., Any], shared_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "primes.journal"
    words = ("run", "primes", "shared", "--count", 300, "--via", "stoker", "--journal", path, "--json")

    first = run_stoker(*words).check().data
    second = run_stoker(*words).check().data
    info = run_stoker("journal", "show", path, "--json").check().data
    text = run_stoker("journal", "show", path).check().out
    lines = [json.loads(line) for line in run_stoker("journal", "export", path).check().out.splitlines()]
    refused = run_stoker("run", "primes", "shared", "--count", 301, "--via", "stoker", "--journal", path)
    useless = run_stoker("run", "primes", "shared", "--via", "map", "--journal", path)

    assert first["outcomes"][0]["correct"]
    assert second["outcomes"][0]["correct"]
    assert (info["done"], info["total"], info["complete"], info["calls"]) == (300, 300, True, 2)
    assert "300 of 300" in text
    assert [line["index"] for line in lines] == list(range(300))
    assert lines[-1]["value"] == 1987
    assert (refused.code, useless.code) == (1, 1)
    assert f"{path}: is the journal of another call" in refused.err
    assert "only the way 'stoker' keeps a journal" in useless.err


def test_the_example_of_the_readme_does_what_it_says(
    own: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(stoker.__file__).parents[2] / "README.md").read_text()
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "journal=" in block]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__", "cluster": own}

    for _ in range(2):
        exec(compile(example, "README.md", "exec"), names)

    info = read_journal_info("pi.journal")
    assert (info.complete, info.calls) == (True, 2)
