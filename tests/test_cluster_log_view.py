"""Logs of a cluster: which there are, their ends, and how they are followed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from stoker.cluster import Address, log_view
from stoker.cluster.log_view import LogLine, choose_logs, follow_logs, read_logs
from stoker.cluster.planning import render_run_plan
from stoker.cluster.record import EngineRecord, Record, write_record
from stoker.errors import NotRunningError
from stoker.profile import ProfileDirectory
from stoker.spec import parse_spec
from stoker.system.files import trim_log
from stoker.system.machine import Cores
from stoker.system.processes import ProcessId


@pytest.fixture
def address() -> Address:
    """A cluster that runs as far as its record says: engines 0 and 2, and 1, which is down at the moment."""
    directory = ProfileDirectory.named("lab")
    spec = parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": 2}]})
    cores = Cores(logical=2, physical=2)
    plan = render_run_plan(spec, directory, run="c0ffee", source="lab.toml", cwd=Path("/data"), cores=cores)
    gone = ProcessId(pid=2**22, started=1)
    engines = tuple(
        EngineRecord(number=number, group=0, process=gone, log=str(plan.engine_log(number))) for number in (2, 0)
    )
    for part in (directory.pid, directory.log):
        part.mkdir(parents=True)
    write_record(directory, Record(state="running", plan=plan, engines=engines, slots={0: 0, 1: 0}))
    return Address(directory=directory, cluster_id="")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "engine.log"


class Script:
    """Takes the place of time: between two looks at the logs, the next step of a story happens."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 2.0
        return self.now

    def sleep(self, seconds: float) -> None:
        if self.steps:
            self.steps.pop(0)()


def add(path: Path, *lines: str) -> Callable[[], None]:
    def write() -> None:
        with path.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    return write


def follow(
    monkeypatch: pytest.MonkeyPatch,
    logs: Mapping[str, Path] | Callable[[], Mapping[str, Path]],
    *steps: Callable[[], object],
    lines: int = 10,
) -> list[str]:
    """Follow logs through a story, at the end of which the cluster is gone."""
    script = Script(*steps, lambda: None)
    monkeypatch.setattr(log_view, "time", script)

    def choose() -> Mapping[str, Path]:
        if not script.steps:
            raise NotRunningError("gone")
        return logs() if callable(logs) else logs

    return [str(line) for line in follow_logs(choose, lines=lines)]


# Which there are.


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, ["supervisor", "controller", "agent local", "engine 0", "engine 1", "engine 2"]),
        ({"engine": 1}, ["engine 1"]),
        ({"controller": True}, ["controller"]),
        ({"supervisor": True, "agent": True, "engine": 0}, ["supervisor", "agent local", "engine 0"]),
    ],
    ids=["all", "an engine", "the controller", "several"],
)
def test_logs_are_chosen_by_their_origin(address: Address, chosen: dict[str, Any], expected: list[str]) -> None:
    logs = choose_logs(address, **chosen)

    assert list(logs) == expected
    assert {path.parent for path in logs.values()} == {address.directory.log}
    assert len(set(logs.values())) == len(expected)


def test_an_engine_that_does_not_exist_is_refused_with_those_that_do(address: Address) -> None:
    with pytest.raises(NotRunningError, match=r"^lab: no engine 9; there are: 0, 1, 2$"):
        choose_logs(address, engine=9)


def test_without_a_cluster_it_is_said_where_old_logs_are() -> None:
    directory = ProfileDirectory.named("lab")

    with pytest.raises(NotRunningError) as caught:
        choose_logs(Address(directory=directory, cluster_id=""))

    assert str(caught.value) == (
        f"lab: no cluster that stoker started runs under this profile; the logs of ended ones are in {directory.log}"
    )


# Their ends.


def test_the_last_lines_of_each_log_are_read_in_turn(tmp_path: Path) -> None:
    logs = {name: tmp_path / name for name in ("controller", "engine 0", "engine 1")}
    add(logs["controller"], "one", "two", "three")()
    add(logs["engine 1"], "four")()

    found = read_logs(logs, lines=2)

    assert [str(line) for line in found] == ["controller | two", "controller | three", "engine 1 | four"]
    assert found[0] == LogLine(origin="controller", text="two")
    assert read_logs(logs, lines=0) == ()


def test_colours_are_taken_out(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(log, "\x1b[31mKeyboardInterrupt\x1b[39m: \x1b[0;1mx[0]")()

    read = [line.text for line in read_logs({"engine 0": log}, lines=5)]
    followed = follow(monkeypatch, {"engine 0": log})

    assert read == ["KeyboardInterrupt: x[0]"]
    assert followed == ["engine 0 | KeyboardInterrupt: x[0]"]


# How they are followed.


def test_what_is_added_is_followed_in_whole_lines_until_the_cluster_is_gone(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(log, "one", "two")()

    def begin_a_line() -> None:
        with log.open("a") as file:
            file.write("thr")

    lines = follow(monkeypatch, {"engine 0": log}, begin_a_line, add(log, "ee", "four"), add(log, "five"), lines=1)

    assert lines == ["engine 0 | two", "engine 0 | three", "engine 0 | four", "engine 0 | five"]


def test_the_last_words_of_a_cluster_are_not_lost(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def choose() -> Iterator[Mapping[str, Path]]:
        yield {"engine 0": log}
        add(log, "received signal 15, stopping")()
        raise NotRunningError("gone")

    chosen = choose()
    monkeypatch.setattr(log_view, "time", Script())

    lines = [str(line) for line in follow_logs(lambda: next(chosen), lines=1)]

    assert lines == ["engine 0 | received signal 15, stopping"]


@pytest.mark.parametrize("lines", [0, 3])
def test_a_log_that_is_not_there_yet_is_followed_from_its_beginning(
    lines: int, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [str(number) for number in range(10)]

    assert follow(monkeypatch, {"engine 0": log}, add(log, *numbers), lines=lines) == [
        f"engine 0 | {number}" for number in numbers
    ]


def test_a_log_that_is_cut_is_followed_from_where_it_was(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    early, late = ([f"{word} {number:06}" for number in range(2000)] for word in ("early", "later"))

    def cut_it() -> None:
        add(log, late[0])()
        assert trim_log(log, 20_000)
        add(log, *late[1:])()

    add(log, *early)()
    lines = follow(monkeypatch, {"engine 0": log}, cut_it, lines=1)

    assert lines == [f"engine 0 | {line}" for line in (early[-1], *late)]


def test_a_log_that_is_looked_at_while_it_is_cut_is_followed_from_where_it_was(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [f"old {number:06}" for number in range(2000)]
    add(log, *old)()
    kept = "\n".join(["[older lines were cut]", *old[1000:], ""])

    lines = follow(
        monkeypatch,
        {"engine 0": log},
        lambda: log.write_text(""),
        lambda: log.write_text(""),
        lambda: log.write_text(kept),
        add(log, "new"),
        lines=1,
    )

    assert lines == [f"engine 0 | {old[-1]}", "engine 0 | new"]


def test_a_log_that_is_begun_anew_is_followed_from_its_beginning(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(log, "of the last run")()

    def begin_anew() -> None:
        log.unlink()
        add(log, "of this run, and longer")()

    lines = follow(monkeypatch, {"engine 0": log}, begin_anew, lambda: None, add(log, "more"))

    assert lines == [f"engine 0 | {line}" for line in ("of the last run", "of this run, and longer", "more")]


def test_engines_that_are_added_are_followed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = {"engine 0": tmp_path / "0"}
    add(tmp_path / "0", "one")()
    add(tmp_path / "1", "early", "two")()

    lines = follow(
        monkeypatch,
        lambda: logs,
        lambda: logs.update({"engine 1": tmp_path / "1"}),
        lambda: None,
        add(tmp_path / "1", "three"),
        lines=1,
    )

    assert lines == ["engine 0 | one", "engine 1 | two", "engine 1 | three"]


def test_of_a_progress_bar_the_last_state_is_shown(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def progress() -> None:
        with log.open("ab") as file:
            file.write(b"10%\r50%\r100%\r\n")

    assert follow(monkeypatch, {"engine 0": log}, progress) == ["engine 0 | 100%"]


def test_where_there_is_nothing_to_follow_the_error_says_so() -> None:
    def choose() -> Mapping[str, Path]:
        raise NotRunningError("lab: no cluster")

    with pytest.raises(NotRunningError, match="lab: no cluster"):
        next(follow_logs(choose, lines=1))
