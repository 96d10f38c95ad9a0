"""The record of what runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.cluster.record import (
    EngineRecord,
    Record,
    read_record,
    record_file,
    record_files,
    remove_traces,
    write_record,
)
from stoker.launch import RUN_VARIABLE, ConnectionFiles, cluster_file
from stoker.profile import ProfileDirectory
from stoker.system.files import stage_file
from stoker.system.processes import ProcessId

RECORD = Record(
    cluster_id="night",
    run="c0ffee",
    state="running",
    source="lab.toml",
    encrypted=True,
    client_address="*",
    engine_address="10.1.2.3",
    scheduler="lru",
    controller=ProcessId(pid=11, started=22),
    controller_log="/log/ipcontroller-night.log",
    engines=(
        EngineRecord(number=0, group=0, process=ProcessId(pid=33, started=44), log="/log/0"),
        EngineRecord(number=1, group=1, process=ProcessId(pid=55, started=66), log="/log/1"),
    ),
)


@pytest.fixture
def directory(tmp_path: Path) -> ProfileDirectory:
    directory = ProfileDirectory(tmp_path / "profile_lab")
    directory.pid.mkdir(parents=True)
    directory.security.mkdir()
    return directory


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(RECORD, id="running"),
        pytest.param(RECORD.having(state="starting", controller=None, controller_log="", engines=()), id="just begun"),
    ],
)
def test_a_record_that_was_written_is_read_again(record: Record, directory: ProfileDirectory) -> None:
    write_record(directory, record)

    file = record_file(directory, "night")
    assert read_record(file) == record
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", [None, "", "{", "null", "[]", '{"format": 0}', '{"format": 2, "run": "x"}', '{"format": 1, "files": {}}']
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
        write_record(directory, RECORD.having(cluster_id=cluster_id))
    (directory.pid / "stoker.lock").touch()
    (directory.pid / "other.json").touch()

    assert {path.name for path in record_files(directory)} == {"stoker.json", "stoker-night.json"}


def test_traces_of_one_cluster_are_removed_and_those_of_another_stay(directory: ProfileDirectory) -> None:
    for cluster_id in ("", "night"):
        write_record(directory, RECORD.having(cluster_id=cluster_id))
        files = ConnectionFiles.of(directory, cluster_id)
        for path in (files.client, files.engine, files.handover, cluster_file(directory, cluster_id)):
            path.touch()
            stage_file(path, b"half")
        stage_file(record_file(directory, cluster_id), b"half")

    remove_traces(directory, "night")
    remove_traces(directory, "night")

    left = sorted(path.name for path in directory.path.rglob("*.json"))
    assert left == sorted(
        [
            "cluster-.json",
            "ipcontroller-client.json",
            "ipcontroller-engine-whole.json",
            "ipcontroller-engine.json",
            "stoker.json",
        ]
    )
    staged = sorted(path.name.rpartition("-")[0] for path in directory.path.rglob(".*.stoker-*"))
    # Only ipcontroller writes the other two, in place.
    kept = [".cluster-.json.stoker", ".ipcontroller-engine-whole.json.stoker", ".stoker.json.stoker"]
    assert [name for name in staged if "-client" not in name and "-engine.json" not in name] == kept


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


def test_the_processes_of_a_run_are_found_by_its_mark_alone(sleeper: subprocess.Popen[bytes]) -> None:
    mine = RECORD.having(run=f"test-{os.getpid()}")

    assert [process.pid for process in mine.processes()] == [sleeper.pid]
    assert RECORD.having(run=f"test-{os.getpid()}-other").processes() == ()
