"""Interrupts hit a running task or nothing: every task is answered, and its engine stays in use."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import ipyparallel
import pytest
from agent_hosts import WAIT, Host, Hub, poll

from examples import examples
from stoker.compute import portable

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

COUNT = examples(700)
"""Interrupts that are sent in each way."""
SECONDS = 0.003
"""What a task takes."""


def work(item: int, seconds: float) -> int:
    """Take some time in Python's own code and in a call that waits."""
    import time

    end = time.monotonic() + seconds / 2
    while time.monotonic() < end:
        pass
    time.sleep(seconds / 2)
    return item * item


def hold(seconds: float) -> str:
    """Keep Python from running anything else, in C code that checks for no signal."""
    import ctypes

    # Unlike CDLL, PyDLL keeps the lock while it calls.
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return "done"


def settle(results: dict[int, Any], answers: dict[int, Any], *, timeout: float) -> None:
    """Move the results that have come, after at most a moment, to the answers."""
    for item, result in list(results.items()):
        if result.wait(timeout):
            del results[item]
            try:
                answers[item] = result.get(0)
            except ipyparallel.RemoteError as error:
                answers[item] = error.ename
            except ipyparallel.TaskAborted:
                # ipykernel's: cells that wait while one before them fails.
                answers[item] = "TaskAborted"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("way", ["client", "agent", "kill"])
def test_every_task_is_answered_however_often_its_engine_is_interrupted(host: Host, hub: Hub, way: str) -> None:
    host.open()
    numbers = host.start(2)
    pids = [host.pid_of(number) for number in numbers]
    send: dict[str, Callable[[int], Any]] = {
        "client": lambda place: hub.client.send_signal(signal.SIGINT, targets=[numbers[place]], block=False),
        "agent": lambda place: host.wire.say("signal", number=numbers[place], signum=signal.SIGINT),
        "kill": lambda place: os.kill(pids[place], signal.SIGINT),
    }
    chance = random.Random(7)
    view = hub.client.load_balanced_view(numbers)
    function = portable(work)
    flying: dict[int, Any] = {}
    answers: dict[int, Any] = {}
    item = 0

    def count_hits() -> int:
        return list(answers.values()).count("KeyboardInterrupt")

    # Most are hit at that rate; but on a busy machine it takes more of them.
    rounds, deadline = 0, time.monotonic() + WAIT
    while rounds < COUNT or (count_hits() <= COUNT / 20 and time.monotonic() < deadline):
        rounds += 1
        while len(flying) < 4:
            flying[item] = view.apply_async(function, item, SECONDS)
            item += 1
        time.sleep(chance.random() * 2 * SECONDS)
        send[way](chance.randrange(2))
        settle(flying, answers, timeout=0)
    settle(flying, answers, timeout=WAIT)

    assert flying == {}
    wrong = {item: answer for item, answer in answers.items() if answer not in (item * item, "KeyboardInterrupt")}
    assert wrong == {}
    assert len(answers) == item
    assert count_hits() > COUNT / 20
    # What was sent last may still be on its way.
    hub.client.send_signal(signal.SIGCONT, targets=numbers, block=True)
    host.wire.report()
    after = [view.apply_async(portable(_pid_after), 0.02) for _ in range(40)]
    assert {result.get(WAIT) for result in after} == set(pids)
    report = host.wire.report()
    assert {report[number]["pid"] for number in numbers} == set(pids)
    # An interrupt between two tasks is none: nothing is counted twice, nothing not at all.
    assert sum(report[number]["tasks_done"] for number in numbers) == item + 40


def _pid_after(seconds: float) -> int:
    import os
    import time

    time.sleep(seconds)
    return os.getpid()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("way", ["client", "kill"])
def test_every_cell_is_answered_however_often_its_engine_is_interrupted(host: Host, hub: Hub, way: str) -> None:
    host.open()
    (number,) = host.start()
    pid = host.pid_of(number)
    chance = random.Random(8)
    view = hub.client[number]
    view.execute("import asyncio, time\n%time").get(WAIT)
    cells = [
        "await asyncio.sleep(0.003)",
        "time.sleep(0.003)",
        "for _ in range(3):\n    time.sleep(0.001)",
        "%time time.sleep(0.003)",
    ]
    flying: dict[int, Any] = {}
    answers: dict[int, Any] = {}
    item = 0

    for _ in range(COUNT // 2):
        while len(flying) < 3:
            flying[item] = view.execute(cells[item % len(cells)], silent=False)
            item += 1
        time.sleep(chance.random() * 4 * SECONDS)
        if way == "client":
            hub.client.send_signal(signal.SIGINT, targets=[number], block=False)
        else:
            os.kill(pid, signal.SIGINT)
        settle(flying, answers, timeout=0)
    settle(flying, answers, timeout=WAIT)

    assert flying == {}
    assert len(answers) == item
    failures = {answer for answer in answers.values() if isinstance(answer, str)}
    assert failures <= {"KeyboardInterrupt", "CancelledError", "TaskAborted"}
    assert view.apply_async(os.getpid).get(WAIT) == pid


def test_an_idle_engine_takes_no_harm_from_interrupts(both: Host, hub: Hub) -> None:
    both.open()
    (number,) = both.start()
    pid = both.pid_of(number)

    for _ in range(50):
        hub.client.send_signal("SIGINT", targets=[number], block=True)
        both.wire.say("signal", number=number, signum=signal.SIGINT)
        os.kill(pid, signal.SIGINT)

    assert hub.client[number].apply_async(os.getpid).get(WAIT) == pid
    reply = hub.client[number].execute("1 + 1", silent=False).get(WAIT)
    # What a cell shows comes on a way of its own.
    assert poll(lambda: reply.execute_result)["data"]["text/plain"] == "2"


def test_an_engine_takes_no_harm_from_interrupts_while_it_starts(both: Host, hub: Hub) -> None:
    both.open()
    number = next(hub.numbers)
    both.wire.say("start", order=both.order(number))
    both.wire.hear("started")
    # From the moment when it is ipyparallel's: before that it is a Python program that starts.
    poll(lambda: "Loading connection info" in both.read_logs([number]))

    while number not in hub.client.ids:
        both.wire.say("signal", number=number, signum=signal.SIGINT)
        time.sleep(0.002)

    assert hub.client[number].apply_async(os.getpid).get(WAIT) == both.pid_of(number)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import time; time.sleep(60)", id="waits"),
        pytest.param("while True: pass", id="computes"),
        pytest.param("import asyncio; await asyncio.sleep(60)", id="awaits"),
        pytest.param("import subprocess; subprocess.run(['sleep', '60'])", id="waits for a process"),
        pytest.param("!sleep 60", id="shell"),
        pytest.param("import threading; threading.Event().wait(60)", id="lock"),
        pytest.param("%timeit -n1 -r1 __import__('time').sleep(60)", id="magic"),
    ],
)
def test_a_cell_is_interrupted_whatever_it_does(host: Host, hub: Hub, code: str) -> None:
    host.open()
    (number,) = host.start()
    view = hub.client[number]

    result = view.execute(code, silent=False)
    poll(lambda: host.wire.report()[number]["busy"] > 0.3)
    begin = time.monotonic()
    hub.client.send_signal(signal.SIGINT, targets=[number], block=True)
    result.wait(WAIT)

    assert time.monotonic() - begin < 5
    if not code.startswith("!"):
        assert result.exception(0).ename in ("KeyboardInterrupt", "CancelledError")
    assert view.apply_async(portable(abs), -3).get(WAIT) == 3


def test_a_task_that_catches_the_interrupt_answers_with_what_it_returns(both: Host, hub: Hub) -> None:
    def patient() -> str:
        import time

        try:
            time.sleep(60)
        except KeyboardInterrupt:
            return "caught"
        return "slept"

    both.open()
    (number,) = both.start()
    result = hub.client[number].apply_async(portable(patient))
    poll(lambda: both.wire.report()[number]["busy"] > 0.1)

    hub.client.send_signal(signal.SIGINT, targets=[number], block=True)

    assert result.get(WAIT) == "caught"


def test_c_code_that_keeps_the_lock_is_interrupted_when_it_returns_and_killed_at_once(both: Host, hub: Hub) -> None:
    both.open()
    (number,) = both.start()

    # The interrupt lets the call in C end early, so it begins again: what matters is that the engine goes on.
    result = hub.client[number].apply_async(portable(hold), 1.5)
    poll(lambda: both.wire.report()[number]["busy"] > 0.1)
    both.wire.say("signal", number=number, signum=signal.SIGINT)
    with pytest.raises(ipyparallel.RemoteError, match="KeyboardInterrupt"):
        result.get(WAIT)
    assert hub.client[number].apply_async(portable(abs), -3).get(WAIT) == 3

    hub.client[number].apply_async(portable(hold), 60)
    poll(lambda: both.wire.report()[number]["busy"] > 0.1)
    begin = time.monotonic()
    both.wire.say("signal", number=number, signum=signal.SIGKILL)
    death = both.hear_death(number, status=-signal.SIGKILL, working=True, out_of_memory=False)

    assert time.monotonic() - begin < 20
    assert death["tasks_done"] == 2


@pytest.mark.parametrize("wanted", [signal.SIGUSR1, "SIGUSR1", int(signal.SIGUSR1)])
def test_any_signal_can_be_sent_by_a_client_and_is_answered(both: Host, hub: Hub, wanted: Any) -> None:
    both.open()
    (number,) = both.start()
    view = hub.client[number]
    view.execute("import signal; got = []; signal.signal(signal.SIGUSR1, lambda *a: got.append(a[0]))").get(WAIT)

    hub.client.send_signal(wanted, targets=[number], block=True)

    poll(lambda: view.pull("got").get(WAIT) == [signal.SIGUSR1])


@pytest.mark.parametrize("wanted", ["SIGNOTHING", "signal", 9999, -1])
def test_a_signal_that_does_not_exist_is_an_error_and_not_a_wait_for_ever(host: Host, hub: Hub, wanted: Any) -> None:
    host.open()
    (number,) = host.start()

    answer = hub.client.send_signal(wanted, targets=[number], block=False)

    poll(answer.done)
    assert {part["content"]["status"] for part in answer.result()} == {"error"}
    with pytest.raises(ipyparallel.RemoteError, match=f"no such signal: {wanted}"):
        hub.client.send_signal(wanted, targets=[number], block=True)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_that_ends_an_engine_is_answered_first(both: Host, hub: Hub, signum: signal.Signals) -> None:
    both.open()
    (number,) = both.start()

    hub.client.send_signal(signum, targets=[number], block=True)

    both.hear_death(number, status=0 if signum == signal.SIGTERM else -signum, ordered=False)
