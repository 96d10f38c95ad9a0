"""How a cluster is, as seen from any process."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.cluster.record import Record, read_record, record_file
from stoker.launch import ConnectionFiles
from stoker.profile import ProfileDirectory, apply_plan, find_ipython_dir, read_plan
from stoker.spec import parse_spec
from stoker.system.processes import is_running

pytestmark = pytest.mark.live

SOON = 60.0
"""Seconds that an answer may take on a busy machine."""
SPEC = parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": 2}]})
STOPPED = {
    "state": "stopped",
    "detail": "",
    "encrypted": None,
    "client_address": "",
    "engine_address": "",
    "scheduler": "",
    "controller_pid": None,
    "seconds": None,
    "engines": [],
    "controller_log": "",
    "source": "",
}


def read(profile: str, cluster_id: str = "") -> Record:
    record = read_record(record_file(ProfileDirectory.named(profile), cluster_id))
    assert record is not None
    assert record.controller is not None
    return record


def describe_files(profile: str) -> dict[str, str]:
    directory = ProfileDirectory.named(profile)
    return {
        "name": profile,
        "directory": str(directory.path),
        "connection_file": str(ConnectionFiles.of(directory, "").client),
    }


def drop_ages(status: dict[str, Any]) -> dict[str, Any]:
    """Take out what differs from look to look, after a look that it is sound."""
    ages = [status.pop("seconds"), *(engine.pop("seconds") for engine in status["engines"])]
    assert all(0 <= age < 600 for age in ages)
    return status


def test_a_running_cluster_is_found_from_another_process_by_its_profiles_name(
    shared_dir: Path, run_stoker: Callable[..., Any]
) -> None:
    record = read("shared")
    log = shared_dir / "profile_shared" / "log"

    named = run_stoker("status", "shared", "--json").check().data
    every = run_stoker("status", "--json").check().data

    expected = {
        **describe_files("shared"),
        "state": "running",
        "detail": "",
        "encrypted": True,
        "client_address": "127.0.0.1",
        "engine_address": "127.0.0.1",
        "scheduler": "leastload",
        "controller_pid": record.controller and record.controller.pid,
        "engines": [
            {
                "number": number,
                "group": 0,
                "pid": record.engines[number].process.pid,
                "state": "ready",
                "log": str(log / f"ipengine-{number}.log"),
            }
            for number in range(2)
        ],
        "controller_log": str(log / "ipcontroller.log"),
        "source": str(shared_dir.parent / "shared.toml"),
    }
    assert drop_ages(named) == expected
    assert [drop_ages(status) for status in every] == [expected]


def test_a_running_cluster_is_shown_as_a_table(shared_dir: Path, run_stoker: Callable[..., Any]) -> None:
    record = read("shared")

    lines = run_stoker("status").check().out.splitlines()

    words = [line.split() for line in lines]
    assert words[0] == ["cluster", "shared", "in", str(shared_dir / "profile_shared")]
    assert words[1] == ["state", "running"]
    assert [line[3] for line in words if line[1:2] == ["engines[0]"]] == ["ready", "ready"]
    assert [int(line[2]) for line in words if line[1:2] == ["engines[0]"]] == [e.process.pid for e in record.engines]


def test_an_engine_that_ended_is_named_then_a_controller_that_died_then_that_nothing_runs(
    start: Callable[..., Any], run_stoker: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    cluster = start(SPEC)
    record = read("lab")
    assert record.controller is not None

    os.kill(record.engines[0].process.pid, signal.SIGKILL)
    wait_until(lambda: not is_running(record.engines[0].process))
    wounded = cluster.status()
    os.kill(record.controller.pid, signal.SIGKILL)
    wait_until(lambda: record.controller and not is_running(record.controller))
    broken = run_stoker("status", "lab", "--json").check().data
    every = run_stoker("status", "--json").check().data
    cluster.down()
    stopped = run_stoker("status", "lab", "--json").check().data
    nothing = run_stoker("status").check()

    assert (wounded.state, wounded.detail) == ("running", "ended: engine 0; stoker down, then stoker up")
    assert [engine.state for engine in wounded.engines] == ["ended", "ready"]
    assert broken["state"] == "broken"
    assert broken["detail"] == "the controller died: stoker up starts anew, stoker down cleans up"
    assert [engine["state"] for engine in broken["engines"]] == ["ended", "running"]
    assert [status["name"] for status in every] == ["lab"]
    assert stopped == {**describe_files("lab"), **STOPPED}
    assert nothing.out == "no cluster runs; start one with: stoker up\n"


def test_up_on_a_cluster_whose_controller_died_ends_the_rest_and_starts_anew(
    start: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    start(SPEC)
    before = read("lab")
    assert before.controller is not None
    os.kill(before.controller.pid, signal.SIGKILL)
    wait_until(lambda: before.controller and not is_running(before.controller))
    stages: list[str] = []

    again = start("lab", on_stage=stages.append)

    assert again.started
    assert before.processes() == ()
    assert any("that an earlier run left" in stage for stage in stages)
    assert again.client[:].apply_async(abs, -1).get(SOON) == [1, 1]


@pytest.fixture
def foreign(programs: Callable[[str], str], wait_until: Callable[..., Any]) -> Iterator[subprocess.Popen[bytes]]:
    """A controller under the profile ``lab`` that stoker did not start."""
    apply_plan(read_plan(SPEC))
    argv = [programs("ipcontroller"), "--profile=lab"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(ConnectionFiles.of(ProfileDirectory.named("lab"), "").engine.exists)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(SOON)
        ConnectionFiles.of(ProfileDirectory.named("lab"), "").remove()  # which it leaves behind


def test_a_controller_that_stoker_did_not_start_is_called_foreign(
    foreign: subprocess.Popen[bytes], run_stoker: Callable[..., Any]
) -> None:
    status = run_stoker("status", "lab", "--json").check().data
    down = run_stoker("down", "lab")

    told = {"state": "foreign", "detail": "not started by stoker: ipcluster stop ends it"}
    assert status == {**describe_files("lab"), **STOPPED, **told}
    assert (down.code, down.err) == (1, "stoker: lab: no cluster that stoker started runs under this profile\n")
    assert foreign.poll() is None


def test_a_name_that_nobody_ever_used_is_refused(run_stoker: Callable[..., Any]) -> None:
    status = run_stoker("status", "nobody", "--json")
    up = run_stoker("up", "nobody")

    problem = f"nobody: neither a spec (a path that ends in .toml) nor a profile below {find_ipython_dir()}"
    assert (up.code, up.out, up.err) == (1, "", f"stoker: {problem}\n")
    assert status.data["state"] == "stopped"
