"""The end of a cluster: nothing of it runs on, whatever died or hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import stoker
from stoker.cluster import Address, stop_cluster
from stoker.cluster.record import Record, read_record, record_file
from stoker.compute import portable
from stoker.errors import NotRunningError
from stoker.profile import ProfileDirectory, find_ipython_dir
from stoker.spec import parse_spec
from stoker.system.locks import hold_lock

pytestmark = pytest.mark.live

SOON = 60.0
"""Seconds that an answer may take on a busy machine."""
SPEC = parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": 1}]})
PROCESSES = 12
"""Of a cluster of one engine: supervisor, agent, engine; hub, heart monitor, seven relays and schedulers."""
LAB = "lab"


def read_lab() -> Record:
    record = read_record(record_file(ProfileDirectory.named(LAB), ""))
    assert record is not None
    return record


def hub() -> psutil.Process:
    controller = read_lab().controller
    assert controller is not None
    return psutil.Process(controller.pid)


def engine() -> psutil.Process:
    return psutil.Process(read_lab().engines[0].process.pid)


def kill(process: psutil.Process, signum: signal.Signals = signal.SIGKILL) -> None:
    os.kill(process.pid, signum)
    # One that runs on the other core stops a moment later.
    while signum == signal.SIGSTOP and process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
        time.sleep(0.001)


def kill_hub() -> None:
    kill(hub())


def kill_scheduler() -> None:
    kill(hub().children()[2])


def kill_engine() -> None:
    kill(engine())


def supervisor() -> psutil.Process:
    process = read_lab().supervisor
    assert process is not None
    return psutil.Process(process.pid)


def agent() -> psutil.Process:
    return psutil.Process(read_lab().agents["local"].pid)


def kill_agent() -> None:
    kill(agent())


def kill_supervisor() -> None:
    kill(supervisor())


def freeze_engine() -> None:
    kill(engine(), signal.SIGSTOP)


def freeze_agent() -> None:
    kill(agent(), signal.SIGSTOP)


def freeze_scheduler() -> None:
    kill(hub().children()[2], signal.SIGSTOP)


def freeze_supervisor() -> None:
    kill(supervisor(), signal.SIGSTOP)


def freeze_all() -> None:
    for process in (supervisor(), *hub().children(), hub(), agent(), engine()):
        kill(process, signal.SIGSTOP)


def kill_hub_and_engine_and_freeze_the_rest() -> None:
    rest = [*hub().children(), agent()]
    for process in (supervisor(), hub(), engine()):
        kill(process)
    for process in rest:
        # The hub's children die with it.
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            kill(process, signal.SIGSTOP)


def start_subprocess() -> None:
    _start_in_task("exec sleep 600")


def start_stubborn_daemon() -> None:
    # In a session of its own, orphaned, and deaf to SIGTERM before the task ends.
    _start_in_task(
        "setsid sh -c 'trap : TERM; : >~/deaf; while :; do sleep 600 & wait; done' & "
        "until [ -e ~/deaf ]; do sleep 0.02; done",
        wait=True,
    )


def _start_in_task(script: str, *, wait: bool = False) -> None:
    start = "run(['sh', '-c', script], stdout=-3, stderr=-3, timeout=20)"
    if not wait:
        start = start.replace("run", "Popen").replace(", timeout=20", "")
    with stoker.connect(LAB) as cluster:
        code = f"bool(__import__('subprocess').{start})"
        cluster.client[0].apply_async(portable(eval), code, {"script": script}).get(SOON)


@pytest.mark.parametrize(
    ("damage", "least", "killed"),
    [
        # What comes in the place of what was killed may be too young to be asked.
        pytest.param(kill_hub, 3, None, id="the hub was killed"),
        pytest.param(kill_scheduler, 3, None, id="a scheduler was killed"),
        pytest.param(kill_engine, PROCESSES - 1, None, id="an engine was killed"),
        pytest.param(kill_agent, PROCESSES - 2, None, id="the agent was killed"),
        pytest.param(kill_supervisor, PROCESSES - 1, False, id="the supervisor was killed"),
        pytest.param(start_subprocess, PROCESSES + 1, None, id="a task's own process runs"),
        pytest.param(start_stubborn_daemon, PROCESSES + 1, None, id="a task's own daemon does not want to end"),
        pytest.param(freeze_engine, PROCESSES, None, id="an engine is frozen"),
        pytest.param(freeze_agent, PROCESSES, None, id="the agent is frozen"),
        pytest.param(freeze_scheduler, PROCESSES, None, id="a scheduler is frozen", marks=pytest.mark.long),
        pytest.param(freeze_supervisor, PROCESSES, True, id="the supervisor is frozen"),
        pytest.param(freeze_all, PROCESSES, True, id="all are frozen", marks=pytest.mark.long),
        pytest.param(kill_hub_and_engine_and_freeze_the_rest, 1, True, id="killed and frozen"),
    ],
)
def test_down_ends_everything_although(
    damage: Callable[[], None],
    least: int,
    killed: bool | None,
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[..., Any],
    processes: Callable[[], list[str]],
    traces: Callable[[Path], list[str]],
) -> None:
    start(SPEC)
    # Of what nobody but this process can end any more. Where all obey, they have their time.
    grace = 15.0 if killed is False else 2.0
    monkeypatch.setattr("stoker.cluster.stop.STOP_GRACE", grace)
    damage()

    begin = time.monotonic()
    stopped = stop_cluster(Address.of(SPEC))
    seconds = time.monotonic() - begin

    assert processes() == []
    assert traces(find_ipython_dir()) == []
    assert stopped.processes >= least
    assert killed in (None, stopped.killed > 0)
    # No wait is for somebody who will not answer.
    assert seconds < max(10, grace)


def test_an_interrupted_down_goes_on_by_itself(
    start: Callable[..., Any],
    wait_until: Callable[..., Any],
    processes: Callable[[], list[str]],
    traces: Callable[[Path], list[str]],
) -> None:
    start(SPEC)
    # The process that forks engines ends a moment after they are ready.
    wait_until(lambda: len(processes()) == PROCESSES)

    interrupt_down(wait_until, processes)
    wait_until(lambda: not processes())

    assert traces(find_ipython_dir()) == []


def test_an_interrupted_down_without_a_supervisor_is_finished_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
    start: Callable[..., Any],
    wait_until: Callable[..., Any],
    processes: Callable[[], list[str]],
    traces: Callable[[Path], list[str]],
) -> None:
    monkeypatch.setattr("stoker.cluster.stop.STOP_GRACE", 2.0)
    start(SPEC)
    wait_until(lambda: len(processes()) == PROCESSES)
    kill_supervisor()
    wait_until(lambda: len(processes()) == PROCESSES - 1)
    freeze_agent()

    interrupt_down(wait_until, processes)
    left = processes()
    stopped = stop_cluster(Address.of(SPEC))

    assert left != []
    assert stopped.killed > 0
    assert processes() == []
    assert traces(find_ipython_dir()) == []


def interrupt_down(wait_until: Callable[..., Any], processes: Callable[[], list[str]]) -> None:
    """Kill a process that is at ending the cluster, as soon as one of its processes has ended."""
    begin = len(processes())
    pid = os.fork()
    if pid == 0:
        # pytest's own process must not go on in here.
        try:
            stop_cluster(Address.of(SPEC))
        finally:
            os._exit(0)
    wait_until(lambda: len(processes()) < begin)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_down_twice_says_that_nothing_runs(
    start: Callable[..., Any],
    run_stoker: Callable[..., Any],
    processes: Callable[[], list[str]],
    traces: Callable[[Path], list[str]],
) -> None:
    cluster = start(SPEC)
    nothing = "lab: no cluster that stoker started runs under this profile"

    first = run_stoker("down", "lab")
    left = processes(), traces(find_ipython_dir())
    second = run_stoker("down", "lab")
    with pytest.raises(NotRunningError) as caught:
        cluster.down()

    assert (first.code, first.out, first.err) == (0, f"lab is down: {PROCESSES} processes ended\n", "")
    assert left == ([], [])
    assert (second.code, second.out, second.err) == (1, "", f"stoker: {nothing}\n")
    assert str(caught.value) == nothing


@pytest.mark.long
def test_two_clusters_of_one_profile_are_told_apart_by_their_cluster_id(
    start: Callable[..., Any], run_stoker: Callable[..., Any], processes: Callable[[], list[str]]
) -> None:
    start(SPEC)
    start(parse_spec({"cluster": {"profile": "lab", "cluster_id": "night"}, "engines": [{"count": 1}]}))

    every = run_stoker("status", "--json").check().data
    night = run_stoker("status", "lab:night", "--json").check().data
    connected = [stoker.connect(name) for name in ("lab:", "lab:night")]
    pids = [cluster.client[:].apply_async(os.getpid).get(SOON) for cluster in connected]
    for cluster in connected:
        cluster.close()
    refused = run_stoker("down")
    named = run_stoker("down", "lab:night")
    only = run_stoker("down")
    none = run_stoker("down")

    assert [status["name"] for status in every] == ["lab", "lab:night"]
    assert (night["name"], night["controller"]["pid"]) == ("lab:night", every[1]["controller"]["pid"])
    for part in ("supervisor", "controller"):
        assert every[0][part]["pid"] != every[1][part]["pid"]
    assert pids == [[engine["pid"] for engine in status["engines"]] for status in every]
    several = "stoker: several clusters run; name one of: lab, lab:night\n"
    assert (refused.code, refused.out, refused.err) == (1, "", several)
    assert (named.code, named.out) == (0, f"lab:night is down: {PROCESSES} processes ended\n")
    assert (only.code, only.out) == (0, f"lab is down: {PROCESSES} processes ended\n")
    assert (none.code, none.out) == (1, "")
    assert none.err == f"stoker: no cluster runs below {find_ipython_dir()}; start one with: stoker up\n"
    assert processes() == []


def test_a_down_waits_for_who_is_at_it_and_says_who_that_is(
    shared_dir: Path, run_stoker: Callable[..., Any], cluster: Any
) -> None:
    directory = ProfileDirectory.named("shared")

    with hold_lock(record_file(directory, "").with_suffix(".lock"), wait=0, purpose="stoker up"):
        ran = run_stoker("down", "shared", "--wait", "0.2")

    holder = f"stoker up (process {os.getpid()})"
    again = "(waited 0 s); try again when it has finished"
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"stoker: profile_shared: {holder} is starting or stopping this cluster {again}\n"
    assert cluster.client[:].apply_async(abs, -1).get(SOON) == [1, 1]


def test_a_cluster_as_context_manager_ends_with_the_block_that_started_it(processes: Callable[[], list[str]]) -> None:
    with stoker.up(SPEC) as cluster:
        with stoker.up("lab") as found:
            inner = found.client[:].apply_async(abs, -1).get(SOON)
        outer = cluster.client[:].apply_async(abs, -2).get(SOON)

    assert (inner, outer) == ([1], [2])
    assert processes() == []
