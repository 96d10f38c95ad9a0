"""The process that imports what engines need and forks them: it is there while engines start, and only then."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from agent_hosts import WAIT, Host, Hub, is_gone, poll, read_state

from stoker.system.processes import list_children
from stoker.system.usage import read_usage

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

# An agent with something else in place of one of its parts.
ALTERED = (
    "import stoker.agent.{module} as part; part.{name} = {value}; import stoker.agent.__main__ as main; main.main()"
)

FAILS_ONCE = """
import stoker.agent.__main__ as main
import stoker.agent.zygote as part
real = part.open_nameless
def fail():
    part.open_nameless = real
    raise {failure}
part.open_nameless = fail
main.main()
"""

IMPATIENT_ONCE = """
import stoker.agent.__main__ as main
import stoker.agent.births as part
real, patience = part.Zygote.kill, part._PATIENCE
def kill(zygote):
    part._PATIENCE = patience
    real(zygote)
part.Zygote.kill, part._PATIENCE = kill, 0.5
main.main()
"""


def altered(module: str, name: str, value: str) -> tuple[str, str]:
    return "-c", ALTERED.format(module=module, name=name, value=value)


def find_zygote(host: Host) -> int | None:
    return next((pid for pid in list_children(host.pid) if read_name(pid) == "zygote"), None)


def read_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_it_is_there_before_the_first_order_and_gone_when_the_engines_are_ready(host: Host) -> None:
    host.open()
    first = poll(lambda: find_zygote(host))

    numbers = host.start(3)

    poll(lambda: find_zygote(host) is None)
    assert is_gone(first)
    assert set(list_children(host.pid)) == {host.pid_of(number) for number in numbers}
    # And so for the next, which is as good as those.
    (later,) = host.start()
    poll(lambda: find_zygote(host) is None)
    assert host.pid_of(later) in list_children(host.pid)


def test_what_engines_need_is_loaded_by_none_but_it_and_them(host: Host) -> None:
    host.open()
    (number,) = host.start()
    poll(lambda: find_zygote(host) is None)

    maps = {
        who: Path(f"/proc/{pid}/maps").read_text()
        for who, pid in (("agent", host.pid), ("engine", host.pid_of(number)))
    }

    assert "zmq" in maps["engine"]
    assert "zmq" not in maps["agent"]
    agent, engine = read_usage(host.pid), read_usage(host.pid_of(number))
    assert agent.rss is not None
    assert engine.rss is not None
    assert agent.rss < engine.rss * 0.6


@pytest.mark.parametrize("when", ["loading", "waiting"])
def test_killed_it_costs_an_order_at_most_and_the_next_has_another(host: Host, hub: Hub, when: str) -> None:
    host.open()
    zygote = poll(lambda: find_zygote(host))
    if when == "waiting":
        poll(lambda: read_state(zygote) == "S" and has_loaded(zygote))
    number = next(hub.numbers)

    os.kill(zygote, signal.SIGKILL)
    host.wire.say("start", order=host.order(number))

    poll(lambda: host.wire.wait(0.1) and {message["say"] for message in host.wire.heard} & {"started", "refused"})
    refused = [message for message in host.wire.heard if message["say"] == "refused"]
    for message in refused:
        assert message == {"say": "refused", "number": number, "problem": "the process that forks engines has ended"}
        host.wire.say("start", order=host.order(number))
    host.wait_until_ready([number])
    pid = host.pid_of(number)
    # The zygote may end between two looks.
    poll(lambda: set(list_children(host.pid)) - {find_zygote(host)} == {pid})


def has_loaded(pid: int) -> bool:
    return "zmq" in Path(f"/proc/{pid}/maps").read_text()


def test_killed_in_the_middle_of_births_it_leaves_no_engine_that_its_agent_does_not_know(host: Host, hub: Hub) -> None:
    host.open()
    numbers = [next(hub.numbers) for _ in range(12)]
    for number in numbers:
        host.wire.say("start", order=host.order(number))
    host.wire.hear("started", number=numbers[3])

    zygote = find_zygote(host)
    assert zygote is not None
    os.kill(zygote, signal.SIGKILL)

    left = set(numbers) - {numbers[3]}
    while left:
        poll(lambda: host.wire.wait(0.1) or host.wire.heard)
        for message in host.wire.heard:
            if message["say"] in ("started", "refused"):
                left.discard(message["number"])
        told, host.wire.heard = host.wire.heard, []
        assert len([message for message in told if message["say"] == "refused"]) <= 1
    poll(lambda: set(list_children(host.pid)) == {engine["pid"] for engine in host.wire.report().values()})


def test_one_that_does_not_answer_is_killed_and_the_order_refused(host: Host, hub: Hub) -> None:
    host.open(program=("-c", IMPATIENT_ONCE))
    zygote = poll(lambda: find_zygote(host))
    os.kill(zygote, signal.SIGSTOP)
    number = next(hub.numbers)

    host.wire.say("start", order=host.order(number))

    assert "has ended" in host.wire.hear("refused", number=number)["problem"]
    host.wire.say("start", order=host.order(number))
    host.wait_until_ready([number])


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_agent(host: Host, signum: signal.Signals) -> None:
    host.open()
    zygote = poll(lambda: find_zygote(host))

    host.process.send_signal(signum)

    host.process.wait(WAIT)
    poll(lambda: is_gone(zygote))


def test_a_thread_that_an_import_starts_is_told_and_engines_are_interpreters(host: Host, hub: Hub) -> None:
    (host.directory / "threaded.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    host.open(program=altered("preload", "_LATE", '("threaded",)'), env={"PYTHONPATH": make_path(host.directory)})

    (number,) = host.start()

    assert host.wire.hear("hindered")["hindrance"] == "something that was imported has started 1 thread"
    assert hub.client[number].apply_async(os.getpid).get(WAIT) == host.pid_of(number)
    assert read_arguments(host.pid_of(number)) != read_arguments(host.pid)
    # One that attaches later is told at once.
    assert "1 thread" in host.wire.attach()["hindrance"]


def make_path(*directories: Path) -> str:
    return os.pathsep.join([*map(str, directories), *filter(None, [os.environ.get("PYTHONPATH")])])


def read_arguments(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def test_where_an_engine_cannot_be_imported_the_agent_says_why_and_leaves(host: Host) -> None:
    (host.directory / "broken.py").write_text("raise ValueError('of no use')\n")
    host.open(
        program=altered("preload", "_LATE", '("broken",)'),
        env={"PYTHONPATH": make_path(host.directory)},
        attach=False,
    )

    assert host.process.wait(WAIT) == 1
    assert "ValueError: of no use" in host.log.read_text()


def test_a_child_that_cannot_become_an_engine_ends_and_is_no_second_zygote(host: Host, hub: Hub) -> None:
    host.open(program=altered("zygote", "become_engine", "lambda *_, **__: open('/no/such/file')"))

    for number in (next(hub.numbers), next(hub.numbers)):
        host.wire.say("start", order=host.order(number))
        host.hear_death(number, status=1, ready=False, uuid="")

    assert "FileNotFoundError" in host.log.read_text()
    poll(lambda: not list_children(host.pid))


@pytest.mark.parametrize("failure", ["OSError(24, 'Too many open files')", "TypeError('none of an order')"])
def test_an_order_that_cannot_be_sent_is_refused_and_the_next_is_not(host: Host, hub: Hub, failure: str) -> None:
    host.open(program=("-c", FAILS_ONCE.format(failure=failure)))
    first, second = next(hub.numbers), next(hub.numbers)

    host.wire.say("start", order=host.order(first))
    host.wire.say("start", order=host.order(second))

    assert "no process could be started" in host.wire.hear("refused", number=first)["problem"]
    host.wait_until_ready([second])


def test_more_engines_at_once_than_ever_wait_for_each_other(host: Host, hub: Hub) -> None:
    host.open()

    numbers = host.start(20)

    pids = hub.client[numbers].apply_async(os.getpid).get(WAIT)
    assert pids == [host.pid_of(number) for number in numbers]
    assert len(set(pids)) == 20
