"""The agent with real engines: what it tells, what ends with what, and when it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from agent_hosts import WAIT, Host, Hub, Wire, is_gone, poll, read_state

from stoker.agent.setup import Setup, pack_setup
from stoker.agent.wire import VERSION
from stoker.compute import portable
from stoker.system.processes import find_marked
from stoker.system.usage import count_tasks

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

# An agent that leaves its engines more time to end before it kills them.
PATIENT = (
    "import stoker.agent.server as part; part._LEAVE_GRACE = 15.0; import stoker.agent.__main__ as main; main.main()"
)


def die(how: str) -> None:
    import ctypes
    import os
    import signal

    print(f"last words: {how}", flush=True)
    os.write(2, f"last words: {how}\n".encode())
    match how:
        case "exit":
            os._exit(3)
        case "segv":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "term":
            os.kill(os.getpid(), signal.SIGTERM)


def spawn_offspring(directory: str) -> list[int]:
    """Start processes of every kind that are to end with this one, and give their numbers."""
    import os
    import subprocess
    import time
    from pathlib import Path

    program = "echo $$ > $0; exec sleep 300"
    kinds = {
        "child": ["sh", "-c", program],
        "session": ["setsid", "sh", "-c", program],
        "daemon": ["sh", "-c", "setsid sh -c 'echo $$ > $0; exec sleep 300' $0 > /dev/null 2>&1 & exit"],
        "group": ["bash", "-c", "set -m; sh -c 'echo $$ > $0; exec sleep 300' $0 & exit"],
    }
    files = [Path(directory) / kind for kind in (*kinds, "fork", "forked session", "forked grandchild")]
    for kind, argv in kinds.items():
        subprocess.Popen([*argv, f"{directory}/{kind}"])
    subprocess.Popen(
        ["bash", "-c", f"set -m; env -i sh -c '{program}' $0 & exit", f"{directory}/bare"],
        env={"PATH": os.environ["PATH"]},
    )
    files.append(Path(directory) / "bare")
    if os.fork() == 0:
        files[4].write_text(f"{os.getpid()}\n")
        time.sleep(300)
        os._exit(0)
    if os.fork() == 0:
        os.setsid()
        files[5].write_text(f"{os.getpid()}\n")
        if os.fork() == 0:
            os.setsid()
            files[6].write_text(f"{os.getpid()}\n")
        time.sleep(300)
        os._exit(0)
    while not all(file.exists() and file.read_text().endswith("\n") for file in files):
        time.sleep(0.01)
    return [int(file.read_text()) for file in files]


def burn(seconds: float) -> float:
    """Keep a core busy."""
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


# --- what it tells


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        pytest.param("exit", {"status": 3}, id="os._exit"),
        pytest.param("segv", {"status": -signal.SIGSEGV}, id="SIGSEGV"),
        pytest.param("kill", {"status": -signal.SIGKILL}, id="SIGKILL"),
    ],
)
def test_a_death_is_told_with_its_cause_and_the_hub_knows_at_once(
    both: Host, hub: Hub, how: str, expected: dict[str, Any]
) -> None:
    both.open()
    (number,) = both.start()
    pid = both.pid_of(number)
    assert hub.client[number].apply_async(portable(abs), -1).get(WAIT) == 1

    hub.client[number].apply_async(portable(die), how)

    death = both.hear_death(
        number,
        pid=pid,
        **expected,
        ordered=False,
        frozen=False,
        out_of_memory=False,
        ready=True,
        working=True,
        tasks_done=1,
    )
    heard = time.monotonic()
    assert f"last words: {how}" in death["last_lines"]
    assert 20e6 < death["peak"] < 1e9
    assert 0 < death["seconds"] < 60
    poll(lambda: number not in hub.client.ids)
    # 15-25 ms on a machine of its own; by the beats alone it would take a minute.
    assert time.monotonic() - heard < 10
    assert both.wire.report() == {}


def test_a_task_that_calls_exit_fails_and_its_engine_goes_on(both: Host, hub: Hub) -> None:
    both.open()
    (number,) = both.start()
    pid = both.pid_of(number)
    view = hub.client[number]

    ended = [view.apply_async(portable(sys.exit), 5), view.execute("import sys; sys.exit(5)", silent=False)]
    poll(lambda: all(each.ready() for each in ended))

    assert ended[0].exception(0).ename == "SystemExit"
    assert view.apply_async(os.getpid).get(WAIT) == pid
    report = both.wire.report()[number]
    assert {name: report[name] for name in ("phase", "busy", "tasks_done")} == {
        "phase": "ready",
        "busy": 0.0,
        "tasks_done": 3,
    }


def test_an_engine_is_reported_with_what_it_takes(both: Host, hub: Hub) -> None:
    both.open()
    (number,) = both.start()
    pid = both.pid_of(number)
    running = hub.client[number].apply_async(portable(burn), 1.0)
    poll(lambda: both.wire.report()[number]["busy"] > 0.5)

    report = both.wire.report(memory=True)[number]

    assert report["state"] == "R"
    assert report["phase"] == "ready"
    assert report["uuid"] == hub.client._engines[number]
    assert 0.05 < report["cpu"] < report["seconds"] < 60
    assert 0 < report["uss"] <= report["pss"] <= report["rss"] <= report["peak"] < 1e9
    status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert report["started"] == int(status[19])
    assert running.get(WAIT) == 1.0
    poll(lambda: both.wire.report()[number]["busy"] == 0)
    assert both.wire.report()[number]["tasks_done"] == 1


def test_a_set_up_that_raises_ends_an_engine_before_it_is_ready_and_its_log_says_why(both: Host, hub: Hub) -> None:
    def fail() -> None:
        raise LookupError("nothing here")

    both.open()
    number = next(hub.numbers)

    both.wire.say("start", order=both.order(number, setups=[pack_setup(Setup(function=fail))]))

    death = both.hear_death(number, status=1, ordered=False, working=False, tasks_done=0)
    assert death["last_lines"][-1] == "LookupError: nothing here"


def test_start_up_code_that_raises_leaves_an_engine_that_works_and_a_trace_in_its_log(both: Host, hub: Hub) -> None:
    both.open()

    (number,) = both.start(config={"InteractiveShellApp": {"exec_lines": ["before = 1", "1 / 0", "after = 2"]}})

    assert hub.client[number].pull(["before", "after"]).get(WAIT) == [1, 2]
    assert "ZeroDivisionError" in both.read_logs([number])


def test_an_engine_that_was_told_to_end_is_an_ordered_death(both: Host, hub: Hub) -> None:
    both.open()
    numbers = both.start(2)

    both.wire.say("stop", numbers=[numbers[0]], grace=10.0)
    both.hear_death(numbers[0], status=0, ordered=True, ready=True, frozen=False, working=False)
    hub.client[numbers[1]].apply_async(portable(burn), 60.0)
    # It is told of as busy a moment before the task is there to be interrupted.
    poll(lambda: both.wire.report()[numbers[1]]["busy"] > 0.5)
    both.wire.say("stop", numbers=[numbers[1]], grace=10.0)

    # The task was ended by an exception, and the engine left as it does when idle.
    both.hear_death(numbers[1], status=0, ordered=True, ready=True, tasks_done=1)


def test_an_engine_that_does_not_end_when_told_is_killed_after_the_grace(both: Host, hub: Hub) -> None:
    both.open()
    (number,) = both.start()
    hub.client[number].execute("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)").get(WAIT)

    begin = time.monotonic()
    both.wire.say("stop", numbers=None, grace=0.3)
    both.hear_death(number, status=-signal.SIGKILL, ordered=True, out_of_memory=False)

    assert 0.3 <= time.monotonic() - begin < 10


def test_a_shutdown_that_a_client_asks_for_is_an_ordered_death(both: Host, hub: Hub) -> None:
    both.open()
    (number,) = both.start()

    hub.client.shutdown(targets=[number], block=False)

    both.hear_death(number, status=0, ordered=True, ready=True)
    poll(lambda: number not in hub.client.ids)


def test_an_order_that_cannot_be_carried_out_is_refused(both: Host, hub: Hub) -> None:
    both.open()
    (number,) = both.start()
    other = next(hub.numbers)
    orders = [
        both.order(number),
        both.order(other, work_dir="/no/such/directory"),
        both.order(other, log="/no/such/directory/log"),
    ]

    for order in orders:
        both.wire.say("start", order=order)

    problems = [both.wire.hear("refused")["problem"] for _ in orders]
    assert problems == [
        f"engine {number} runs here already, as process {both.pid_of(number)}",
        "no such directory: /no/such/directory",
        "its log cannot be written: /no/such/directory/log: No such file or directory",
    ]


def test_a_child_that_cannot_become_an_engine_ends_and_is_no_second_agent(host: Host, hub: Hub) -> None:
    host.open()
    number = next(hub.numbers)

    host.wire.say("start", order=host.order(number, env={"A=B": "a name with an equals sign"}))

    death = host.hear_death(number, status=1, ready=False, uuid="")
    assert "ValueError: illegal environment variable name" in death["last_lines"]
    host.wire.say("start", order=host.order(number, env={"A=B": ""}, fork=False))
    assert "no process could be started" in host.wire.hear("refused", number=number)["problem"]
    assert host.wire.report() == {}


def test_a_number_that_the_hub_gave_to_another_ends_the_engine(host: Host, hub: Hub) -> None:
    host.open()
    (number,) = host.start()
    # As if another host's engine had it.
    (host.directory / "other").mkdir()
    stranger = Host(host.directory / "other", hub)
    stranger.open()
    try:
        stranger.wire.say("start", order=stranger.order(number))
        stranger.hear_death(number, status=75, ready=False)
        # What the hub gave it instead is free again.
        poll(lambda: max(hub.client.ids) == number)
    finally:
        stranger.close()
    assert number in hub.client.ids


# --- what ends with what


def test_everything_that_an_engine_started_ends_with_it_and_nothing_else_does(both: Host, hub: Hub) -> None:
    both.open()
    first, second = both.start(2)
    places = [both.directory / name for name in ("first", "second")]
    for place in places:
        place.mkdir()
    ended, kept = (
        hub.client[number].apply_async(portable(spawn_offspring), str(place)).get(WAIT)
        for number, place in zip((first, second), places, strict=True)
    )

    os.kill(both.pid_of(first), signal.SIGKILL)
    both.hear_death(first, status=-signal.SIGKILL, ordered=False)

    poll(lambda: all(map(is_gone, ended)), timeout=10)
    assert not any(map(is_gone, kept))
    both.wire.say("leave", grace=5.0)
    both.wire.hear("left")
    assert both.process.wait(WAIT) == 0
    poll(lambda: all(map(is_gone, kept)), timeout=10)


def test_a_daemon_that_a_task_has_left_lives_as_long_as_its_engine(host: Host, hub: Hub) -> None:
    host.open()
    first, second = host.start(2)
    argv = ["sh", "-c", "setsid sleep 300 >/dev/null 2>&1 & echo $!"]
    daemon = int(hub.client[first].apply_async(portable(subprocess.check_output), argv).get(WAIT))

    os.kill(host.pid_of(second), signal.SIGKILL)
    host.hear_death(second)

    assert not is_gone(daemon)
    os.kill(host.pid_of(first), signal.SIGKILL)
    host.hear_death(first)
    poll(lambda: is_gone(daemon), timeout=10)


def test_engines_die_with_their_agent_and_a_mark_finds_the_rest(both: Host, hub: Hub) -> None:
    both.open(env={"STOKER_AGENT": str(both.directory)})
    numbers = both.start(3)
    pids = [both.pid_of(number) for number in numbers]
    offspring = hub.client[numbers[0]].apply_async(portable(spawn_offspring), str(both.directory)).get(WAIT)

    both.kill()

    poll(lambda: all(map(is_gone, pids)), timeout=10)
    # What engines have started is the supervisor's to end; all but what has got no environment at all carries the mark.
    left = {process.pid for process in find_marked("STOKER_AGENT", str(both.directory))}
    assert {pid for pid in offspring if not is_gone(pid)} - left <= {offspring[-1]}
    for pid in offspring:
        if not is_gone(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_agent_that_is_told_to_end_ends_its_engines_first(host: Host, signum: signal.Signals) -> None:
    host.open(program=("-c", PATIENT))
    numbers = host.start(2)
    pids = [host.pid_of(number) for number in numbers]

    host.process.send_signal(signum)

    assert host.process.wait(WAIT) == 0
    assert all(map(is_gone, pids))
    assert not host.socket.exists()
    for number in numbers:
        assert host.hear_death(number, status=0, ordered=False)["leaving"]


def test_leaving_in_the_middle_of_starts_leaves_nothing(host: Host, hub: Hub) -> None:
    host.open()
    for number in [next(hub.numbers) for _ in range(8)]:
        host.wire.say("start", order=host.order(number))
    host.wire.hear("started")

    host.process.terminate()

    # The fixture `nothing_left` sees the rest.
    assert host.process.wait(WAIT) == 0


# --- frozen engines


def test_an_engine_that_is_stopped_for_too_long_is_killed_and_one_that_is_busy_is_not(both: Host, hub: Hub) -> None:
    both.open(frozen_after=2.0)
    frozen, busy, brief = both.start(3)
    pids = {number: both.pid_of(number) for number in (frozen, brief)}
    working = hub.client[busy].apply_async(portable(burn), 3.0)
    os.kill(pids[brief], signal.SIGSTOP)
    begin = time.monotonic()
    os.kill(pids[frozen], signal.SIGSTOP)
    time.sleep(0.2)
    os.kill(pids[brief], signal.SIGCONT)

    both.hear_death(frozen, status=-signal.SIGKILL, frozen=True, ordered=False, out_of_memory=False)

    assert 1.5 < time.monotonic() - begin < 10
    assert working.get(WAIT) == 3.0
    assert set(both.wire.report()) == {busy, brief}


def test_an_engine_that_was_stopped_while_its_agent_was_too_is_not_killed(host: Host, hub: Hub) -> None:
    host.open(frozen_after=2.5)
    (number,) = host.start()
    pid = host.pid_of(number)

    for signum, pause in [(signal.SIGSTOP, 3.5), (signal.SIGCONT, 0.0)]:
        for process in (pid, host.pid) if signum == signal.SIGSTOP else (host.pid, host.pid):
            os.kill(process, signum)
        time.sleep(pause)
    # The agent has looked by now, and the engine has not been let go on yet.
    time.sleep(0.4)
    assert read_state(pid) == "T"
    os.kill(pid, signal.SIGCONT)

    assert hub.client[number].apply_async(os.getpid).get(WAIT) == pid


# --- the lease


def test_without_a_supervisor_it_leaves_after_the_lease_and_not_earlier(host: Host) -> None:
    host.open(lease=60.0)
    (number,) = host.start()
    pid = host.pid_of(number)

    begin = time.monotonic()
    host.wire.say("settings", lease=2.5)
    host.wire.close()
    time.sleep(1.0)
    assert host.process.poll() is None
    assert not is_gone(pid)

    assert host.process.wait(WAIT) == 0
    assert 2.4 < time.monotonic() - begin < 12
    assert is_gone(pid)
    assert not host.socket.exists()
    assert "no supervisor for 2.5 s: leaving" in host.log.read_text()


def test_a_supervisor_that_says_nothing_has_lost_it_too_and_one_that_beats_has_not(host: Host) -> None:
    host.open(lease=2.5)
    for _ in range(30):
        time.sleep(0.1)
        host.wire.say("beat")
    assert host.process.poll() is None

    begin = time.monotonic()
    host.wire.hear("left")

    assert time.monotonic() - begin > 0.8


def test_nobody_but_its_supervisor_lengthens_its_lease(host: Host) -> None:
    host.open(lease=1.0)

    begin = time.monotonic()
    while host.process.poll() is None:
        assert time.monotonic() - begin < WAIT
        time.sleep(0.05)
        # It hangs up on whoever speaks so, and at last it is not there any more.
        with contextlib.suppress(OSError), contextlib.closing(Wire.connect(host.socket)) as other:
            other.say("attach", version=VERSION + 1)


def test_a_later_supervisor_attaches_through_the_socket_and_learns_of_deaths_meanwhile(both: Host, hub: Hub) -> None:
    both.open(lease=30.0)
    dead, alive = both.start(2)
    pids = {number: both.pid_of(number) for number in (dead, alive)}
    both.wire.close()
    os.kill(pids[dead], signal.SIGKILL)
    poll(lambda: dead not in hub.client.ids)

    both.wire = Wire.connect(both.socket)
    hello = both.wire.attach(lease=30.0)

    assert [engine["number"] for engine in hello["engines"]] == [alive]
    assert [(death["number"], death["status"], death["pid"]) for death in hello["deaths"]] == [(dead, -9, pids[dead])]
    # Told once.
    both.wire.close()
    both.wire = Wire.connect(both.socket)
    assert both.wire.attach()["deaths"] == []
    both.wire.say("start", order=both.order(dead))
    both.wait_until_ready([dead])
    assert hub.client[alive].apply_async(os.getpid).get(WAIT) == pids[alive]


def test_the_later_of_two_supervisors_is_the_one_that_is_obeyed(host: Host) -> None:
    host.open()
    (number,) = host.start()
    later = Wire.connect(host.socket)
    later.attach()

    with_earlier = host.wire
    poll(lambda: with_earlier.wait(1) and with_earlier.ended)

    later.say("stop", numbers=[number], grace=5.0)
    assert later.hear("died", number=number)["ordered"]
    host.wire = later


def test_an_agent_that_was_stopped_for_longer_than_its_lease_stays(host: Host) -> None:
    host.open(lease=60.0)
    (number,) = host.start()
    host.wire.say("settings", lease=3.5)
    pid = host.pid_of(number)
    # It notes when it heard of somebody after it has answered.
    poll(lambda: read_state(host.pid) == "S")

    host.process.send_signal(signal.SIGSTOP)
    time.sleep(4.0)
    host.process.send_signal(signal.SIGCONT)
    time.sleep(0.3)
    host.wire.say("beat")

    assert host.pid_of(number) == pid
    # While it leaves it still answers.
    assert "leaving" not in host.log.read_text()


# --- the wire


def test_a_supervisor_of_another_version_is_refused(host: Host) -> None:
    host.open(attach=False)
    host.wire.say("attach", version=VERSION + 1)

    assert host.wire.hear("refused") == {"say": "refused", "problem": f"this agent speaks version {VERSION}"}
    poll(lambda: host.wire.wait(1) and host.wire.ended)
    host.wire = Wire.connect(host.socket)
    assert host.wire.attach()["version"] == VERSION


GARBAGE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\0" * 100_000 + b"\n",
    b"[" * 100_000 + b"\n",
    b"{}\n",
    b"[]\n",
    b'{"do": null}\n',
    b'{"do": "attach"}\n',
    b'{"do": "leave", "grace": 0}\n',
    b'{"do": "stop", "numbers": null, "grace": 0}\n',
    b'{"do": "signal"',
    b"",
]
WRONG_ORDERS = [
    {"do": "start"},
    {"do": "start", "order": []},
    {"do": "start", "order": {"number": 1}},
    {"do": "signal", "number": None, "signum": 9},
    {"do": "signal", "number": "N", "signum": 9999},
    {"do": "signal", "number": 1e400, "signum": 9},
    {"do": "stop", "numbers": 5, "grace": 1},
    {"do": "settings", "lease": "long"},
    {"do": "leave", "grace": {}},
    {"do": "attach", "version": [1]},
]


def test_garbage_on_its_socket_does_no_harm(host: Host, hub: Hub) -> None:
    host.open()
    (number,) = host.start()
    pid = host.pid_of(number)

    for data in GARBAGE:
        stranger = Wire.connect(host.socket)
        stranger.send(data)
        if not data.endswith(b"\n"):
            stranger.close()
            continue
        poll(lambda: stranger.wait(1) and stranger.ended)  # noqa: B023
        stranger.close()

    assert host.pid_of(number) == pid
    assert hub.client[number].apply_async(os.getpid).get(WAIT) == pid


def test_an_order_that_is_none_ends_the_connection_and_nothing_else(host: Host) -> None:
    host.open()
    (number,) = host.start()

    for order in WRONG_ORDERS:
        text = json.dumps(order).replace('"N"', str(number))
        host.wire.send(f"{text}\n".encode())
        poll(lambda: host.wire.wait(1) and host.wire.ended, timeout=5, message=text)
        host.wire.close()
        host.wire = Wire.connect(host.socket)
        host.wire.attach()

    assert host.wire.report().keys() == {number}


def test_an_order_with_values_of_wrong_kinds_is_refused(host: Host) -> None:
    host.open()

    for wrong in ({"work_dir": 5}, {"log": 5}, {"number": []}):
        host.wire.say("start", order={**host.order(0), **wrong})
        host.wire.hear("refused")

    assert host.wire.report() == {}


def test_a_supervisor_that_does_not_read_stops_nothing(host: Host) -> None:
    host.open()
    host.start(2)
    silent = Wire.connect(host.socket)
    silent.attach()
    for _ in range(3000):
        silent.say("report", id=1, memory=False)

    host.wire = Wire.connect(host.socket)
    host.wire.attach()

    assert len(host.wire.report()) == 2
    silent.close()


def test_only_its_owner_can_reach_it_and_read_its_files(both: Host, hub: Hub) -> None:
    (both.directory / "agent.log").write_text("from before\n")
    (both.directory / "agent.log").chmod(0o600)
    both.open()
    (number,) = both.start()

    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (both.socket, both.socket.parent, both.log)}

    assert modes == {"agent.sock": "0o600", "run": "0o700", "agent.log": "0o600"}
    assert oct((both.directory / f"{number}.log").stat().st_mode & 0o777) == "0o600"


# --- logs, hindrances, threads


def test_logs_are_kept_short(host: Host, hub: Hub) -> None:
    host.open(log_limit=20_000)
    (number,) = host.start()
    log = host.directory / f"{number}.log"
    hub.client[number].execute("import os\nfor i in range(5000): os.write(2, b'line %04d\\n' % i)").get(WAIT)

    # It is empty for a moment while it is cut.
    poll(lambda: log.read_text().startswith("[older") and log.stat().st_size < 20_000, timeout=10)

    hub.client[number].execute("os.write(2, b'the last\\n')").get(WAIT)
    lines = log.read_text().splitlines()
    assert lines[0] == "[older lines were cut]"
    assert lines[-1] == "the last"
    assert "line 4999" in lines
    with host.log.open("a") as file:
        file.write("x" * 50_000 + "\n")
    poll(lambda: host.log.stat().st_size < 20_000, timeout=10)


def test_it_has_one_thread_before_every_fork(host: Host) -> None:
    assert host.open()["hindrance"] == ""
    assert count_tasks(host.pid) == 1

    for _ in range(3):
        (number,) = host.start()
        assert count_tasks(host.pid) == 1
        os.kill(host.pid_of(number), signal.SIGKILL)
        host.hear_death(number)
        assert count_tasks(host.pid) == 1


def test_where_a_thread_stands_against_forking_it_says_so_and_starts_interpreters(host: Host, hub: Hub) -> None:
    program = "import threading, runpy; threading.Thread(target=threading.Event().wait, daemon=True).start();"

    hello = host.open(program=("-c", f"{program} import stoker.agent.__main__ as main; main.main()"))
    (number,) = host.start()

    assert hello["hindrance"] == "something that was imported has started 1 thread"
    argv = Path(f"/proc/{host.pid_of(number)}/cmdline").read_bytes().split(b"\0")
    assert argv[0] == sys.executable.encode()
    assert argv != Path(f"/proc/{host.pid}/cmdline").read_bytes().split(b"\0")
    assert hub.client[number].apply_async(os.getpid).get(WAIT) == host.pid_of(number)
