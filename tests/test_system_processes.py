from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.errors import StopError
from stoker.system import processes
from stoker.system.processes import (
    ProcessId,
    count_children,
    exit_status,
    find_marked,
    identify,
    is_running,
    list_children,
    read_age,
    spawn,
    stop,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MARK = "STOKER_TEST_RUN"
NOBODY = ProcessId(pid=2**22 + 1, started=1)
"""No system has a process of this number."""

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
OBEDIENT = "mkfifo $$.fifo; echo ready; read line < $$.fifo"


class Start:
    """Starts shell scripts that carry the mark, and waits until each says that it is ready."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.value = str(directory)
        self.count = 0

    def __call__(self, script: str) -> ProcessId:
        self.count += 1
        log = self.directory / f"{self.count}.log"
        process = spawn(["/bin/sh", "-c", script], env={**os.environ, MARK: self.value}, cwd=self.directory, log=log)
        wait_for(lambda: b"ready" in log.read_bytes())
        return process

    def find(self) -> tuple[ProcessId, ...]:
        return find_marked(MARK, self.value)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    start = Start(tmp_path)
    yield start
    stop(start.find, grace=0)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited 10 s"
        time.sleep(0.01)


def read_pid(file: Path) -> ProcessId:
    wait_for(lambda: file.exists() and file.read_text().endswith("\n"))
    process = identify(int(file.read_text()))
    assert process is not None
    return process


def read_state(process: ProcessId) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.live
def test_a_process_gets_a_session_and_a_group_of_its_own(start: Start) -> None:
    process = start(OBEDIENT)

    assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid


@pytest.mark.live
def test_a_process_gets_this_environment_directory_and_log_and_no_input(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("what an earlier one wrote")
    log.chmod(0o644)

    process = spawn(
        ["/bin/sh", "-c", "env; pwd; cat; echo to stderr >&2; exit 3"],
        env={"PATH": os.environ["PATH"], "A": "1", "STOKER_TEST": os.environ["STOKER_TEST"]},
        cwd=tmp_path,
        log=log,
    )

    assert exit_status(process, wait=10) == 3
    lines = [line for line in log.read_text().splitlines() if not line.startswith(("PATH=", "STOKER_TEST=", "PWD="))]
    assert lines == ["A=1", str(tmp_path), "to stderr"]
    assert oct(log.stat().st_mode & 0o7777) == "0o600"


@pytest.mark.live
def test_a_shell_never_sees_the_arguments(tmp_path: Path) -> None:
    process = spawn(["echo", "$HOME; `ls`", "a  b"], env=os.environ, cwd=tmp_path, log=tmp_path / "a.log")

    assert exit_status(process, wait=10) == 0
    assert (tmp_path / "a.log").read_text() == "$HOME; `ls` a  b\n"


@pytest.mark.parametrize(
    ("argv", "cwd", "log", "missing"),
    [
        pytest.param(["no-such-program"], ".", "a.log", "no-such-program", id="program"),
        pytest.param(["true"], "no-such-directory", "a.log", "no-such-directory", id="directory"),
        pytest.param(["true"], ".", "no-such-directory/a.log", "a.log", id="log"),
    ],
)
def test_what_cannot_be_started_is_an_os_error_that_names_what_is_missing(
    tmp_path: Path, argv: list[str], cwd: str, log: str, missing: str
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        spawn(argv, env=os.environ, cwd=tmp_path / cwd, log=tmp_path / log)

    assert Path(caught.value.filename).name == missing


@pytest.mark.live
@pytest.mark.parametrize(
    ("script", "status"),
    [
        pytest.param("exit 0", 0, id="success"),
        pytest.param("exit 7", 7, id="failure"),
        pytest.param("kill -9 $$", -9, id="signal"),
    ],
)
def test_the_exit_status_of_a_child_is_known_when_it_has_ended(start: Start, script: str, status: int) -> None:
    process = start(f"echo ready; {script}")

    wait_for(lambda: exit_status(process) is not None)

    assert exit_status(process) == exit_status(process, wait=1) == status
    assert not is_running(process)


@pytest.mark.live
def test_a_child_that_runs_has_no_exit_status(start: Start) -> None:
    process = start(OBEDIENT)

    assert exit_status(process) is None
    assert exit_status(process, wait=0.05) is None
    assert is_running(process)


@pytest.mark.live
def test_a_child_that_ended_is_reaped_without_being_asked_for(start: Start) -> None:
    process = start("echo ready")

    wait_for(lambda: identify(process.pid) is None)

    assert exit_status(process, wait=5) == 0


def test_the_exit_status_of_a_strangers_process_is_unknown() -> None:
    assert exit_status(ProcessId(pid=1, started=0)) is None


@linux
@pytest.mark.live
def test_a_later_process_with_the_same_number_is_another_one(start: Start) -> None:
    process = start(OBEDIENT)
    later = replace(process, started=process.started + 1)

    assert identify(process.pid) == process
    assert is_running(process)
    assert not is_running(later)


@linux
@pytest.mark.live
def test_a_child_that_ended_does_not_hide_a_later_process_with_its_number(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = start("echo ready")
    assert exit_status(ended, wait=10) == 0
    now = start(OBEDIENT)
    child = processes._children[ended]
    # As if the number of the first one had come round again.
    monkeypatch.setitem(processes._children, replace(now, started=now.started - 1), child)

    assert is_running(now)
    assert start.find() == (now,)


@linux
@pytest.mark.live
def test_a_later_process_with_the_same_number_is_not_signalled(start: Start) -> None:
    process = start(OBEDIENT)
    earlier = replace(process, started=process.started - 1)
    looks = iter([(earlier,), (earlier,), (), ()])

    killed = stop(lambda: next(looks), grace=0)

    assert killed == 1
    assert is_running(process)


@linux
@pytest.mark.live
@pytest.mark.parametrize("name", ["a b", ") Z 1 (", "x) S 1 2 3 (y", "Käse"])
def test_a_program_may_have_any_name(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    shutil.copy(shutil.which("sleep"), program)
    program.chmod(0o755)

    process = spawn([str(program), "60"], env=os.environ, cwd=tmp_path, log=tmp_path / "a.log")

    assert identify(process.pid) == process
    assert is_running(process)
    stop(lambda: [process] if is_running(process) else [], grace=5)
    assert not is_running(process)


def test_no_process_has_no_identity() -> None:
    assert identify(NOBODY.pid) is None
    assert not is_running(NOBODY)


def test_this_process_runs() -> None:
    me = identify(os.getpid())

    assert me is not None
    assert is_running(me)


@linux
@pytest.mark.live
def test_a_process_that_nobody_reaped_has_ended() -> None:
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: "zombie"})
    process = identify(child.pid)
    assert process is not None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert identify(child.pid) == process
    assert not is_running(process)
    assert find_marked(MARK, "zombie") == ()

    child.wait()


@linux
@pytest.mark.live
def test_children_that_run_are_counted_and_those_that_ended_are_not(start: Start) -> None:
    process = start("sleep 60 & sleep 60 & true & echo ready; exec sleep 60")

    wait_for(lambda: count_children(process) == 2)

    assert count_children(NOBODY) == 0


@linux
@pytest.mark.live
def test_children_that_run_are_listed_and_no_grandchildren(start: Start, tmp_path: Path) -> None:
    process = start(
        "sleep 60 & echo $! > a; setsid sleep 60 & echo $! > b; sh -c 'sleep 60; :' & true & echo ready; wait"
    )
    first, second = read_pid(tmp_path / "a"), read_pid(tmp_path / "b")

    wait_for(lambda: len(list_children(process.pid)) == 3)

    assert {first.pid, second.pid} < set(list_children(process.pid))
    os.kill(first.pid, signal.SIGKILL)
    wait_for(lambda: first.pid not in list_children(process.pid))
    assert list_children(NOBODY.pid) == ()


@linux
@pytest.mark.live
def test_a_child_that_ended_and_one_that_is_stopped_are_told_apart() -> None:
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    children[0].kill()
    os.waitid(os.P_PID, children[0].pid, os.WEXITED | os.WNOWAIT)
    children[1].send_signal(signal.SIGSTOP)

    found = list_children(os.getpid())

    assert [child.pid in found for child in children] == [False, True]
    for child in children:
        child.kill()
        child.wait()


@linux
@pytest.mark.live
def test_a_process_has_an_age(start: Start) -> None:
    before = time.monotonic()
    process = start(OBEDIENT)
    wait_for(lambda: time.monotonic() > before + 0.2)

    age = read_age(process)

    # The kernel counts in hundredths of a second.
    assert age is not None
    assert 0.1 <= age <= time.monotonic() - before + 0.05
    assert read_age(replace(process, started=0)) is None


@linux
@pytest.mark.live
def test_a_mark_is_found_on_children_of_children_though_their_leader_was_killed(start: Start, tmp_path: Path) -> None:
    leader = start(
        "setsid sh -c 'echo $$ > child; sleep 60 & echo $! > grandchild; wait' & echo ready; wait",
    )
    child, grandchild = read_pid(tmp_path / "child"), read_pid(tmp_path / "grandchild")
    assert {leader, child, grandchild} <= set(start.find())

    os.kill(leader.pid, signal.SIGKILL)
    wait_for(lambda: not is_running(leader))

    assert set(start.find()) == {child, grandchild}
    assert os.getsid(child.pid) != leader.pid


@linux
@pytest.mark.live
def test_a_mark_is_found_while_a_process_replaces_its_program(start: Start, tmp_path: Path) -> None:
    (tmp_path / "again.sh").write_text("exec /bin/sh again.sh\n")
    process = start("echo ready; exec /bin/sh again.sh")

    looks = {start.find() for _ in range(100)}

    assert looks == {(process,)}


@linux
@pytest.mark.live
def test_a_process_without_any_environment_has_no_mark() -> None:
    child = subprocess.Popen(["sleep", "60"], env={})

    found = find_marked("", "")

    assert child.pid not in [process.pid for process in found]
    child.kill()
    child.wait()


@linux
@pytest.mark.live
def test_a_mark_is_not_found_on_others(start: Start) -> None:
    process = start(OBEDIENT)

    assert start.find() == (process,)
    assert find_marked(MARK, start.value[:-1]) == ()
    assert find_marked(MARK[:-1], start.value) == ()
    assert find_marked(MARK[1:], start.value) == ()


@linux
@pytest.mark.live
def test_stopping_asks_first_and_kills_nobody_who_obeys(start: Start, tmp_path: Path) -> None:
    start("trap 'echo asked > asked; exit 0' TERM; echo ready; while :; do sleep 0.02; done")
    start(OBEDIENT)

    killed = stop(start.find, grace=10)

    assert killed == 0
    assert start.find() == ()
    assert (tmp_path / "asked").read_text() == "asked\n"


@linux
@pytest.mark.live
def test_stopping_kills_who_ignores_it_after_the_grace(start: Start) -> None:
    stubborn, obedient = start(STUBBORN), start(OBEDIENT)
    begin = time.monotonic()

    stop(start.find, grace=1.5)

    assert start.find() == ()
    assert exit_status(stubborn, wait=5) == -signal.SIGKILL
    assert exit_status(obedient, wait=5) == -signal.SIGTERM
    assert 1.5 <= time.monotonic() - begin < 10


@linux
@pytest.mark.live
def test_stopping_counts_those_it_killed(start: Start) -> None:
    for _ in range(2):
        start("trap '' TERM; " + OBEDIENT)
    start(OBEDIENT)

    assert stop(start.find, grace=1.5) == 2


@linux
@pytest.mark.live
def test_stopping_kills_nobody_who_was_not_asked_however_long_a_look_takes(start: Start) -> None:
    obedient = start(OBEDIENT)

    def look() -> tuple[ProcessId, ...]:
        time.sleep(0.3)
        return start.find()

    assert stop(look, grace=0.1) == 0
    assert exit_status(obedient, wait=5) == -signal.SIGTERM


@linux
@pytest.mark.live
def test_stopping_ends_a_process_that_was_suspended(start: Start) -> None:
    process = start(OBEDIENT)
    os.kill(process.pid, signal.SIGSTOP)
    wait_for(lambda: read_state(process) == "T")

    killed = stop(start.find, grace=0.2)

    assert killed == 1
    assert exit_status(process, wait=5) == -signal.SIGKILL


@linux
@pytest.mark.live
def test_stopping_ends_what_is_started_meanwhile(start: Start, tmp_path: Path) -> None:
    start("trap 'setsid sleep 60 & echo $! > late; exit 0' TERM; echo ready; while :; do sleep 0.02; done")

    stop(start.find, grace=10)

    assert (tmp_path / "late").exists()
    assert start.find() == ()


@linux
@pytest.mark.live
def test_stopping_without_grace_kills_at_once(start: Start) -> None:
    process = start(OBEDIENT)

    killed = stop(start.find, grace=0)

    assert killed == 1
    assert exit_status(process, wait=5) == -signal.SIGKILL


def test_stopping_nobody_is_done() -> None:
    assert stop(lambda: [], grace=10) == 0


def test_who_outlives_the_kill_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_KILL_WAIT", 0.1)

    with pytest.raises(StopError) as caught:
        stop(lambda: [NOBODY, replace(NOBODY, pid=NOBODY.pid + 1)], grace=0.05)

    assert str(caught.value) == (
        "these processes outlived SIGKILL (stuck in the kernel, or not ours): 4194305, 4194306"
    )
    assert caught.value.pids == (4194305, 4194306)


@pytest.mark.live
def test_where_environments_are_hidden_the_groups_are_looked_at(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start("sleep 60 & echo ready; wait")
    monkeypatch.setattr(processes, "_is_linux", lambda: False)
    leader = replace(process, started=0)

    assert identify(process.pid) == leader
    assert is_running(leader)
    assert find_marked(MARK, start.value, groups=[leader, NOBODY]) == (leader,)
    assert (count_children(leader), read_age(leader)) == (None, None)
    assert (identify(NOBODY.pid), is_running(NOBODY)) == (None, False)

    monkeypatch.undo()
