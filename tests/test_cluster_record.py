"""The record of what runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.cluster.planning import render_run_plan
from stoker.cluster.record import (
    EngineRecord,
    Record,
    name_runtime_directory,
    read_record,
    record_file,
    record_files,
    remove_traces,
    write_record,
)
from stoker.launch import RUN_VARIABLE, ConnectionFiles
from stoker.launch.cluster_file import cluster_file
from stoker.profile import ProfileDirectory
from stoker.spec import parse_spec
from stoker.system.files import find_staged, stage_file
from stoker.system.machine import Cores
from stoker.system.processes import ProcessId
from stoker.system.runtime import listen, make_runtime_directory


def make_record(directory: ProfileDirectory, cluster_id: str = "night", *, run: str = "c0ffee") -> Record:
    """The record of a start that has just begun."""
    spec = parse_spec(
        {"cluster": {"profile": "lab", "cluster_id": cluster_id}, "engines": [{"count": 2}, {"count": 1}]}
    )
    plan = render_run_plan(
        spec, directory, run=run, source="lab.toml", cwd=Path("/data"), cores=Cores(logical=4, physical=2)
    )
    return Record(state="starting", plan=plan)


RUNNING: dict[str, Any] = {
    "state": "running",
    "supervisor": ProcessId(pid=7, started=8),
    "controller": ProcessId(pid=11, started=22),
    "agents": {"local": ProcessId(pid=9, started=10), "local-1": ProcessId(pid=12, started=13)},
    "engines": (
        EngineRecord(number=0, group=0, process=ProcessId(pid=33, started=44), log="/log/0"),
        EngineRecord(number=3, group=1, process=ProcessId(pid=55, started=66), log="/log/3"),
    ),
    "slots": {0: 0, 3: 1},
    "setups": {"imports": "gASVBgAAAAAAAAB9lC4="},
    "history": {"events": [{"at": 1.5, "who": "engine 0"}], "deaths": {"engine 0": 2}, "given_up": {"engine 1": "x"}},
}


@pytest.fixture
def directory(tmp_path: Path) -> ProfileDirectory:
    directory = ProfileDirectory(tmp_path / "profile_lab")
    for path in (directory.pid, directory.security, directory.log):
        path.mkdir(parents=True)
    return directory


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="just begun"),
        pytest.param(RUNNING, id="running"),
        pytest.param({**RUNNING, "controller": None, "engines": ()}, id="the controller is dead"),
    ],
)
def test_a_record_that_was_written_is_read_again(changes: dict[str, Any], directory: ProfileDirectory) -> None:
    record = make_record(directory).having(**changes)

    write_record(directory, record)

    file = record_file(directory, "night")
    assert read_record(file) == record
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_runs_in_every_new_engine_is_in_no_repr(directory: ProfileDirectory) -> None:
    record = make_record(directory).having(**RUNNING)

    assert "gASV" not in repr(record)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "{",
        "null",
        "[]",
        '{"format": 0}',
        '{"format": 1, "plan": {}}',
        '{"format": 2, "run": "x"}',
        '{"format": 2, "files": {}}',
    ],
)
def test_no_record_or_one_of_another_version_or_another_file_is_none(
    content: str | None, directory: ProfileDirectory
) -> None:
    file = record_file(directory, "")
    if content is not None:
        file.write_text(content)

    assert read_record(file) is None


def test_records_are_named_after_the_cluster_id_and_found_in_their_profile(directory: ProfileDirectory) -> None:
    for cluster_id in ("", "night"):
        write_record(directory, make_record(directory, cluster_id))
    # What other rooms and the supervisor keep beside them.
    for name in ("stoker.lock", "supervisor.lock", "stoker.attach.lock", "other.json"):
        (directory.pid / name).touch()

    assert {path.name for path in record_files(directory)} == {"stoker.json", "stoker-night.json"}


def test_traces_of_one_cluster_are_removed_and_those_of_another_stay(directory: ProfileDirectory) -> None:
    for cluster_id in ("", "night"):
        write_record(directory, make_record(directory, cluster_id))
        runtime = name_runtime_directory(directory, cluster_id)
        make_runtime_directory(runtime)
        listen(runtime / "control.sock").close()
        (runtime / "lease").touch()
        files = ConnectionFiles.of(directory, cluster_id)
        for path in (files.client, files.engine, files.keys, cluster_file(directory, cluster_id)):
            path.touch()
            stage_file(path, b"half")
        stage_file(record_file(directory, cluster_id), b"half")
        # What hubs keep of their engines.
        state = directory.log / f"engines{cluster_id}.json"
        state.touch()
        stage_file(state, b"half")

    remove_traces(directory, "night")
    remove_traces(directory, "night")

    left = sorted(path.name for path in directory.path.rglob("*.json"))
    names = ["ipcontroller-client.json", "ipcontroller-engine.json", "ipcontroller-keys.json"]
    assert left == ["cluster-.json", "engines.json", *names, "stoker.json"]
    staged = [path for place in (directory.security, directory.pid, directory.log) for path in find_staged(place)]
    assert sorted(path.name.rpartition("-")[0] for path in staged) == [f".{name}.stoker" for name in left]
    assert not name_runtime_directory(directory, "night").exists()
    there = sorted(path.name for path in name_runtime_directory(directory, "").iterdir())
    remove_traces(directory, "")
    assert there == ["control.sock", "lease"]


def test_with_the_last_cluster_the_directory_of_all_runtime_directories_goes(
    directory: ProfileDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A name short enough for a socket; the fixed place below /tmp is for other tests at the same time, too.
    with tempfile.TemporaryDirectory(prefix="s-") as place:
        monkeypatch.setenv("XDG_RUNTIME_DIR", place)
        _check_that_the_directory_above_goes(directory, Path(place))


def _check_that_the_directory_above_goes(directory: ProfileDirectory, place: Path) -> None:
    runtime = name_runtime_directory(directory, "")
    assert runtime.is_relative_to(place)
    make_runtime_directory(runtime)

    remove_traces(directory, "")

    assert not runtime.parent.exists()


def test_the_runtime_directory_of_somebody_with_another_environment_goes_too(
    directory: ProfileDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    record = make_record(directory)
    make_runtime_directory(Path(record.plan.runtime))
    write_record(directory, record)
    monkeypatch.delenv("XDG_RUNTIME_DIR")

    remove_traces(directory, "night")

    assert not Path(record.plan.runtime).exists()


def test_runtime_directories_differ_by_profile_and_cluster_id(directory: ProfileDirectory, tmp_path: Path) -> None:
    other = ProfileDirectory(tmp_path / "profile_attic")

    names = {name_runtime_directory(place, cluster_id) for place in (directory, other) for cluster_id in ("", "night")}

    assert len(names) == 4


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that carries the mark of a run."""
    environment = {**os.environ, RUN_VARIABLE: f"test-{os.getpid()}"}
    argv = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        os.kill(process.pid, signal.SIGKILL)


def test_the_processes_of_a_run_are_found_by_its_mark_alone(
    sleeper: subprocess.Popen[bytes], directory: ProfileDirectory
) -> None:
    mine = make_record(directory, run=f"test-{os.getpid()}")

    assert [process.pid for process in mine.processes()] == [sleeper.pid]
    assert make_record(directory, run=f"test-{os.getpid()}-other").processes() == ()
