"""The status of a cluster whose supervisor is dead or stopped: what the record and the processes tell."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.agent.order import Death
from stoker.cluster import Address, ProcessStatus, read_status
from stoker.cluster.attach import is_supervised
from stoker.cluster.history import History
from stoker.cluster.planning import render_run_plan
from stoker.cluster.record import EngineRecord, Record, write_record
from stoker.errors import SupervisorError
from stoker.profile import ProfileDirectory
from stoker.spec import parse_spec
from stoker.system.machine import Cores
from stoker.system.processes import ProcessId, identify
from stoker.system.usage import read_state

GONE = ProcessId(pid=2**22, started=1)


@pytest.fixture
def program() -> Iterator[subprocess.Popen[bytes]]:
    """Stands for a process of the cluster."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def render_record(alive: ProcessId, *, supervisor: ProcessId) -> Record:
    """Render the record of a cluster of which a supervisor, the agent and engine 0 may run, but no controller."""
    spec = parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": 3}]})
    plan = render_run_plan(
        spec,
        ProfileDirectory.named("lab"),
        run="c0ffee",
        source="lab.toml",
        cwd=Path("/data"),
        cores=Cores(logical=2, physical=2),
    )
    history = History()
    death = Death(number=1, pid=99, status=-9, ordered=False, frozen=False, out_of_memory=False, ready=True)
    history.note_death("engine 1", death, log="/none")
    history.note_given_up("engine 2", "exit status 3")
    engines = tuple(
        EngineRecord(number=number, group=0, process=process, log=str(plan.engine_log(number)))
        for number, process in ((0, alive), (1, GONE))
    )
    return Record(
        state="running",
        plan=plan,
        supervisor=supervisor,
        controller=GONE,
        agents={"local": alive},
        engines=engines,
        slots={0: 0, 1: 0, 2: 0},
        history=history.to_json(),
    )


def write(record: Record) -> Address:
    directory = ProfileDirectory.named("lab")
    directory.pid.mkdir(parents=True, exist_ok=True)
    write_record(directory, record)
    return Address(directory=directory, cluster_id="")


def test_without_a_supervisor_every_process_is_named_with_what_is_known_of_it(
    program: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = identify(program.pid)
    assert alive is not None
    record = render_record(alive, supervisor=GONE)
    monkeypatch.setattr(Record, "processes", lambda self: (alive,))

    status = read_status(write(record))

    (agent,) = status.agents
    assert (status.state, status.supervisor, status.controller) == ("unsupervised", None, None)
    assert (agent.name, agent.pid, agent.phase) == ("local", alive.pid, "unknown")
    assert [(engine.number, engine.pid, engine.state, engine.restarts) for engine in status.engines] == [
        (0, alive.pid, "unknown", 0),
        (1, None, "absent", 1),
        (2, None, "given up", 0),
    ]
    assert [engine.given_up for engine in status.engines] == ["", "", "exit status 3"]
    assert [engine.last_death and engine.last_death.cause for engine in status.engines] == [
        None,
        "died of SIGKILL",
        None,
    ]
    assert status.events == (
        "engine 1 died of SIGKILL",
        "engine 2 stays down: it died again and again, at last of exit status 3",
    )
    for process in (agent, status.engines[0]):
        assert isinstance(process, ProcessStatus)
        assert process.seconds is not None
        assert process.cpu is not None
        assert (process.memory or 0) > 1_000_000


def test_a_stopped_supervisor_is_refused_at_once_with_what_can_be_done(program: subprocess.Popen[bytes]) -> None:
    alive = identify(program.pid)
    assert alive is not None
    program.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 5
    while read_state(program.pid) != "T" and time.monotonic() < deadline:
        time.sleep(0.01)

    with pytest.raises(SupervisorError) as caught:
        is_supervised(render_record(alive, supervisor=alive))

    pid = program.pid
    assert str(caught.value) == (
        f"the supervisor (process {pid}) is stopped: kill -CONT {pid} lets it go on; "
        f"kill -9 {pid} makes way for another, which takes over what runs"
    )
