"""How a cluster is, as seen from any process."""

from __future__ import annotations

import os
import signal
import subprocess
import time
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
    "supervisor": None,
    "controller": None,
    "agents": [],
    "engines": [],
    "events": [],
    "controller_log": "",
    "source": "",
    "joined": [],
}
HEALTHY = {"restarts": 0, "last_death": None, "given_up": ""}


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


def drop_figures(status: dict[str, Any]) -> dict[str, Any]:
    """Take out what differs from look to look, after a look that it is sound."""
    processes = [status["supervisor"], status["controller"], *status["agents"], *status["engines"]]
    for process in processes:
        assert 0 <= process.pop("seconds") < 7200
        # What the tests' own engines, agents and hubs take, and no more than 10 times that.
        assert 1_000_000 < process.pop("memory") < 500_000_000
        assert 0 <= process.pop("cpu") < 60
    for engine in status["engines"]:
        assert 1_000_000 < engine.pop("uss") <= engine["peak"]
        assert engine.pop("peak") < 500_000_000
        assert engine.pop("tasks_done") >= 0
    return status


def test_a_running_cluster_is_found_from_another_process_by_its_profiles_name(
    shared_dir: Path, run_stoker: Callable[..., Any]
) -> None:
    record = read("shared")
    log = shared_dir / "profile_shared" / "log"

    named = run_stoker("status", "shared", "--json").check().data
    every = run_stoker("status", "--json").check().data

    assert record.supervisor is not None
    assert record.controller is not None
    expected = {
        **describe_files("shared"),
        "state": "running",
        "detail": "",
        "encrypted": True,
        "client_address": "127.0.0.1",
        "engine_address": "127.0.0.1",
        "scheduler": "leastload",
        "supervisor": {"pid": record.supervisor.pid, **HEALTHY},
        "controller": {"pid": record.controller.pid, **HEALTHY},
        "agents": [
            {
                "name": "local",
                "pid": record.agents["local"].pid,
                "phase": "ready",
                "host": "",
                "way": "",
                "hindrance": "",
                "log": str(log / "agent-local.log"),
                **HEALTHY,
            }
        ],
        "engines": [
            {
                "number": number,
                "group": 0,
                "host": "",
                "pid": record.engines[number].process.pid,
                "state": "ready",
                "busy": 0.0,
                "log": str(log / f"ipengine-{number}.log"),
                **HEALTHY,
            }
            for number in range(2)
        ],
        "events": [],
        "controller_log": str(log / "ipcontroller.log"),
        "source": str(shared_dir.parent / "shared.toml"),
        "joined": [],
    }
    assert drop_figures(named) == expected
    assert [drop_figures(status) for status in every] == [expected]


def test_a_running_cluster_is_shown_as_a_table(shared_dir: Path, run_stoker: Callable[..., Any]) -> None:
    record = read("shared")

    lines = run_stoker("status").check().out.splitlines()

    words = [line.split() for line in lines]
    assert words[0] == ["cluster", "shared", "in", str(shared_dir / "profile_shared")]
    assert words[1] == ["state", "running"]
    assert record.supervisor is not None
    assert record.controller is not None
    expected = [
        f"supervisor {record.supervisor.pid} running",
        f"controller {record.controller.pid} running",
        f"agent local {record.agents['local'].pid} ready",
        *(f"engine {engine.number} {engine.process.pid} ready" for engine in record.engines),
    ]
    rows = [" ".join(line) for line in words]
    assert [begin for begin in expected if not any(row.startswith(begin) for row in rows)] == []


def test_an_engine_that_died_is_named_with_its_cause_and_comes_back_by_itself(
    start: Callable[..., Any], run_stoker: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    cluster = start(SPEC)
    before = read("lab")

    os.kill(before.engines[0].process.pid, signal.SIGSEGV)
    states = watch(cluster, wait_until, lambda status: status.state == "running" and status.engines[0].restarts == 1)
    status = run_stoker("status", "lab", "--json").check().data
    answers = cluster.client[:].apply_async(os.getpid).get(SOON)

    # Unless a look took longer than it was away.
    assert set(states) <= {("degraded", "being started: engine 0"), ("running", "")}
    first, second = status["engines"]
    assert (first["state"], first["restarts"], first["last_death"]["cause"]) == ("ready", 1, "died of SIGSEGV")
    assert 0 <= time.time() - first["last_death"]["at"] < SOON
    assert (second["restarts"], second["pid"]) == (0, before.engines[1].process.pid)
    assert status["events"] == ["engine 0 died of SIGSEGV"]
    assert answers == [first["pid"], second["pid"]]
    assert first["pid"] != before.engines[0].process.pid


def test_a_controller_that_died_is_named_with_its_cause_and_comes_back_by_itself(
    start: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    cluster = start(SPEC)
    before = read("lab")
    assert before.controller is not None
    pids = cluster.client[:].apply_async(os.getpid).get(SOON)

    os.kill(before.controller.pid, signal.SIGKILL)
    states = watch(cluster, wait_until, lambda status: status.state == "running" and status.controller.restarts == 1)
    status = cluster.status()
    again = start("lab")
    answers = again.client[:].apply_async(os.getpid).get(SOON)

    assert set(states) <= {
        ("degraded", "the controller does not answer; it is being started again"),
        ("running", ""),
    }
    assert (status.controller.last_death.cause, status.events) == ("died of SIGKILL", ("controller died of SIGKILL",))
    assert status.controller.pid != before.controller.pid
    assert (again.started, answers) == (False, pids)


def watch(cluster: Any, wait_until: Callable[..., Any], condition: Callable[[Any], bool]) -> list[tuple[str, str]]:
    """Look how a cluster is, again and again, until a condition holds; give the states that were seen."""
    states: list[tuple[str, str]] = []

    def look() -> bool:
        status = cluster.status()
        states.append((status.state, status.detail))
        return condition(status)

    wait_until(look)
    return states


def test_an_engine_that_dies_again_and_again_stays_down_and_is_named_with_what_to_do(
    start: Callable[..., Any], run_stoker: Callable[..., Any], wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    startup = f"import os; os.path.exists({str(broken)!r}) and os._exit(7)"
    cluster = start(parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": 1, "startup": startup}]}))
    broken.touch()

    os.kill(read("lab").engines[0].process.pid, signal.SIGKILL)
    wait_until(lambda: cluster.status().engines[0].given_up, timeout=SOON)
    status = cluster.status()
    broken.unlink()
    more = cluster.scale(2)
    run_stoker("restart", "lab", "--engine", "0").check()
    after = cluster.status()

    causes = "engine 0: exit status 7"
    assert status.state == "degraded"
    assert status.detail == f"stays down: {causes}; stoker restart --engine NUMBER tries again"
    assert (status.engines[0].state, status.engines[0].given_up) == ("given up", "exit status 7")
    assert status.events[-1] == "engine 0 stays down: it died again and again, at last of exit status 7"
    # Nobody else waits for it.
    assert more == {"added": [1], "leaving": [], "wanted": 2}
    assert after.state == "running"
    assert [(engine.state, engine.given_up) for engine in after.engines] == [("ready", ""), ("ready", "")]


def test_a_cluster_whose_supervisor_died_is_called_unsupervised_and_up_starts_a_new_one(
    start: Callable[..., Any], run_stoker: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    cluster = start(SPEC)
    before = read("lab")
    assert before.supervisor is not None
    pids = cluster.client[:].apply_async(os.getpid).get(SOON)
    os.kill(before.supervisor.pid, signal.SIGKILL)
    wait_until(lambda: before.supervisor and not is_running(before.supervisor))

    alone = run_stoker("status", "lab", "--json").check().data
    every = run_stoker("status", "--json").check().data
    up = run_stoker("up", "lab")
    after = cluster.status()

    assert alone["state"] == "unsupervised"
    assert alone["detail"] == (
        "the supervisor died; stoker up lab starts a new one, what is left ends after 120 s without one"
    )
    assert (alone["supervisor"], alone["controller"]["pid"]) == (None, before.controller and before.controller.pid)
    assert [(engine["pid"], engine["state"]) for engine in alone["engines"]] == [(pid, "unknown") for pid in pids]
    assert [status["name"] for status in every] == ["lab"]
    told = "lab runs already, with 2 engines; its supervisor had died; a new one has taken over\n"
    assert (up.code, up.out) == (0, told)
    assert up.err == "profile ...\nsupervisor: taking over what runs ...\n"
    assert after.state == "running"
    assert after.events == ("supervisor was started again, and has taken over what runs",)
    assert [engine.pid for engine in after.engines] == pids
    assert cluster.client[:].apply_async(os.getpid).get(SOON) == pids


@pytest.mark.long
def test_a_cluster_whose_supervisor_is_frozen_is_called_broken_and_down_ends_it(
    start: Callable[..., Any], run_stoker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = start(SPEC)
    record = read("lab")
    assert record.supervisor is not None
    monkeypatch.setattr("stoker.cluster.status._ANSWER", 0.5)
    os.kill(record.supervisor.pid, signal.SIGSTOP)

    status = cluster.status()
    down = run_stoker("down", "lab")

    assert status.state == "broken"
    assert status.detail == (
        "the supervisor did not answer within 0.5 s; is it stopped (SIGSTOP)?; stoker down ends it"
    )
    assert down.code == 0


def test_after_the_end_nothing_is_said_of_the_past(start: Callable[..., Any], run_stoker: Callable[..., Any]) -> None:
    start(SPEC).down()

    stopped = run_stoker("status", "lab", "--json").check().data
    nothing = run_stoker("status").check()

    assert stopped == {**describe_files("lab"), **STOPPED}
    assert nothing.out == "no cluster runs; start one with: stoker up\n"


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
