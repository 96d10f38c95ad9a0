"""One item that kills, blocks or cannot be sent, among many good ones: it alone is named, the others are done."""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import resource
import signal
import socket
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

import stoker
from stoker.cluster import Cluster
from stoker.compute import marks
from stoker.errors import EngineDiedError, ItemError, ItemTimeoutError

pytestmark = pytest.mark.live

ITEMS = 200
PLACE = 117
"""The index of the poison."""
MANY = 1_000_000
GIGABYTE = 2**30


def spike(poison: Callable[[], Any], place: int = PLACE) -> Callable[[int], Any]:
    """Make a function that is harmless for each item but one."""
    return lambda item: poison() if item == place else item + 1


def crash() -> None:
    ctypes.string_at(0)


def leave() -> NoReturn:
    os._exit(3)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_out_of_memory() -> int:
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**31, limits[1]))
    try:
        return len(bytearray(2**32))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def loop() -> NoReturn:
    while True:
        pass


def loop_in_c() -> int:
    # Never looks whether a signal has come, and never lets go of the interpreter.
    return sum(itertools.repeat(0))


def lock_twice() -> None:
    # Not even a system call is interrupted by signals here.
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(256)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


def give_a_lock() -> object:
    return threading.Lock()


def give_a_generator() -> object:
    return (item for item in range(3))


def raise_what_cannot_be_read_again() -> NoReturn:
    def initialize(self: Exception, code: int, text: str) -> None:
        Exception.__init__(self, f"{text} ({code})")

    raise type("ForeignError", (Exception,), {"__init__": initialize})(3, "from afar")


def give_what_is_missing_elsewhere() -> object:
    import types

    module = sys.modules["far_away"] = types.ModuleType("far_away")
    exec("class Thing: pass", module.__dict__)
    return module.Thing()


def recurse() -> int:
    return 1 + recurse()


def exit_politely() -> NoReturn:
    sys.exit(4)


def interrupt_itself() -> NoReturn:
    raise KeyboardInterrupt


def check(results: list[Any], *, count: int = ITEMS, place: int = PLACE) -> BaseException:
    """Check that all are done but one, which is named, and give its exception."""
    error = results.pop(place)
    assert results == [item + 1 for item in range(count) if item != place]
    assert isinstance(error, BaseException)
    assert error.item.index == place  # type: ignore[attr-defined]
    assert error.item.text == str(place)  # type: ignore[attr-defined]
    return error


def say(error: BaseException) -> str:
    """Give what it says: its text and its notes."""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


KILLERS = [
    pytest.param(crash, "SIGSEGV", id="segfault"),
    pytest.param(leave, "exit status 3", id="_exit"),
    pytest.param(kill_itself, "SIGKILL", id="SIGKILL"),
]
BLOCKERS = [
    pytest.param(loop_in_c, id="loop in C"),
    pytest.param(lock_twice, id="deadlock in C"),
]
FAILURES = [
    pytest.param(run_out_of_memory, MemoryError, "", id="out of memory"),
    pytest.param(give_a_lock, TypeError, "its result, a lock, cannot be sent", id="lock as a result"),
    pytest.param(give_a_generator, TypeError, "its result, a generator, cannot be sent", id="generator as a result"),
    pytest.param(
        give_what_is_missing_elsewhere,
        ItemError,
        "its result cannot be read here: ModuleNotFoundError: No module named 'far_away'",
        id="foreign result",
    ),
    pytest.param(raise_what_cannot_be_read_again, ItemError, "ForeignError: from afar (3)", id="foreign exception"),
    pytest.param(recurse, RecursionError, "maximum recursion depth exceeded", id="recursion"),
    pytest.param(exit_politely, SystemExit, "4", id="sys.exit"),
    pytest.param(interrupt_itself, KeyboardInterrupt, "", id="KeyboardInterrupt"),
]


@pytest.fixture
def pids(own: Cluster, wait_until: Callable[..., Any]) -> Callable[[], set[int | None]]:
    """Gives the processes of the engines, when all are ready: a test before may have killed one."""
    wait_until(lambda: all(engine.state == "ready" for engine in own.engines))
    return lambda: {engine.pid for engine in own.engines}


# On stoker's own engines, which come back.


@pytest.mark.parametrize(("poison", "cause"), KILLERS)
def test_an_item_that_kills_engines_is_named_with_the_cause(
    poison: Callable[[], Any], cause: str, own: Cluster
) -> None:
    results = own.map(spike(poison), range(ITEMS), on_error="return")

    error = check(results)
    assert isinstance(error, EngineDiedError)
    assert error.cause.partition(" (")[0] == cause
    assert str(error) == (
        f"{error.item}: the engine died of {error.cause} while it ran this item (3 engines did)"  # type: ignore[attr-defined]
    )
    assert error.item.attempt == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("poison", "cause"),
    [pytest.param(*each.values, id=each.id, marks=pytest.mark.long) for each in KILLERS],
)
def test_where_engines_leave_no_marks_the_item_is_found_all_the_same(
    poison: Callable[[], Any], cause: str, own: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if they ran on another host.
    monkeypatch.setattr(marks, "read_boot", lambda: "")
    with stoker.connect("own", ipython_dir=own._address.directory.path.parent) as afar:
        results = afar.map(spike(poison), range(ITEMS), on_error="return")

    error = check(results)
    assert isinstance(error, EngineDiedError)
    assert "the engine died while it ran this item (3 engines did)" in str(error)


def test_an_error_that_kills_is_raised_and_the_next_call_works(own: Cluster) -> None:
    with pytest.raises(EngineDiedError) as caught:
        own.map(spike(leave), range(ITEMS), retries=0)
    again = own.map(spike(leave), range(PLACE))

    assert caught.value.cause == "exit status 3"
    assert caught.value.item.index == PLACE  # type: ignore[attr-defined]
    assert again == [item + 1 for item in range(PLACE)]


def test_an_item_that_takes_too_long_in_python_is_named_and_its_engine_lives(
    own: Cluster, pids: Callable[[], set[int | None]]
) -> None:
    own.map(abs, range(100))
    before = pids()

    results = own.map(spike(loop), range(ITEMS), timeout=1, on_error="return")

    error = check(results)
    assert isinstance(error, ItemTimeoutError)
    assert "in loop" in str(error.__cause__)
    assert pids() == before


@pytest.mark.parametrize("poison", BLOCKERS)
def test_an_item_that_blocks_in_c_is_named_and_its_engine_replaced(poison: Callable[[], Any], own: Cluster) -> None:
    begin = time.monotonic()
    results = own.map(spike(poison), range(ITEMS), timeout=1, on_error="return")
    seconds = time.monotonic() - begin

    error = check(results)
    assert isinstance(error, ItemTimeoutError)
    assert str(error).endswith(": took longer than 1 s and could not be stopped: its engine was ended")
    assert seconds < 10


@pytest.mark.parametrize(("poison", "kind", "text"), FAILURES)
def test_an_item_that_fails_is_named_and_its_engine_lives(
    poison: Callable[[], Any], kind: type[BaseException], text: str, own: Cluster, pids: Callable[[], set[int | None]]
) -> None:
    own.map(abs, range(100))
    before = pids()

    results = own.map(spike(poison), range(ITEMS), on_error="return")

    error = check(results)
    assert type(error) is kind
    assert text in say(error)
    assert error.item.host == socket.gethostname()  # type: ignore[attr-defined]
    assert pids() == before


@pytest.fixture
def only_there(tmp_path: Path) -> Callable[[], NoReturn]:
    """Raises an exception of a module that engines find, and this process does not."""
    text = """
    class StrangeError(Exception):
        pass
    """
    (tmp_path / "only_there.py").write_text(textwrap.dedent(text))
    directory = str(tmp_path)

    def fail() -> NoReturn:
        sys.path.insert(0, directory)
        import only_there  # type: ignore[import-not-found]

        raise only_there.StrangeError("from there")

    return fail


def test_an_exception_of_a_module_that_is_not_here_is_told_by_its_name(
    only_there: Callable[[], NoReturn], own: Cluster
) -> None:
    results = own.map(spike(only_there), range(ITEMS), on_error="return")

    error = check(results)
    assert isinstance(error, ItemError)
    assert error.ename == "StrangeError"
    assert error.text == "StrangeError: from there"
    assert "in fail" in str(error.__cause__)


@pytest.mark.parametrize("poisons", [1, 3])
def test_several_poisons_are_named_each(poisons: int, own: Cluster) -> None:
    bad = {20 * (number + 1) for number in range(poisons)}

    def work(item: int) -> int:
        return os._exit(3) if item in bad else item + 1

    results = own.map(work, range(ITEMS), on_error="return", retries=0)

    assert {index for index, result in enumerate(results) if isinstance(result, EngineDiedError)} == bad
    assert [result for index, result in enumerate(results) if index not in bad] == [
        item + 1 for item in range(ITEMS) if item not in bad
    ]


@pytest.mark.parametrize("seed", range(2))
def test_a_poison_among_a_million_quick_items_is_found(seed: int, own: Cluster) -> None:
    place = random.Random(seed).randrange(MANY)

    begin = time.monotonic()
    results = own.map(spike(leave, place), range(MANY), on_error="return")
    seconds = time.monotonic() - begin

    error = check(results, count=MANY, place=place)
    assert isinstance(error, EngineDiedError)
    assert error.cause == "exit status 3"
    assert seconds < 30


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_gigabyte_of_a_result_arrives(own: Cluster) -> None:
    *others, large = own.map(lambda size: b"x" * size, [1, 2, 3, GIGABYTE])

    assert others == [b"x", b"xx", b"xxx"]
    assert len(large) == GIGABYTE
    assert large.count(b"x") == GIGABYTE


# On ipyparallel's own, of which there are fewer after each that died: enough are there at first.


@pytest.mark.parametrize(("poison", "cause"), KILLERS[:2])
def test_an_item_that_kills_plain_engines_is_named_and_the_others_go_on(
    poison: Callable[[], Any], cause: str, plain_client: Any
) -> None:
    view = plain_client.load_balanced_view()
    before = len(plain_client.ids)

    results = stoker.map(view, spike(poison), range(ITEMS), on_error="return", retries=1)
    again = stoker.map(view, abs, range(ITEMS))

    error = check(results)
    assert isinstance(error, EngineDiedError)
    assert str(error) == (
        f"{error.item}: the engine died while it ran this item (2 engines did)"  # type: ignore[attr-defined]
    )
    assert again == list(range(ITEMS))
    assert len(plain_client.ids) == before - 2


def test_an_item_that_blocks_a_plain_engine_is_named_and_the_others_go_on(plain_client: Any) -> None:
    view = plain_client.load_balanced_view()
    before = len(plain_client.ids)

    results = stoker.map(view, spike(lock_twice), range(ITEMS), on_error="return", timeout=1)

    assert isinstance(check(results), ItemTimeoutError)
    # One for quick items that were not noted one by one, and one for this item alone.
    assert len(plain_client.ids) >= before - 2


@pytest.mark.parametrize(("poison", "kind", "text"), FAILURES)
def test_an_item_that_fails_on_a_plain_engine_is_named_and_the_engine_lives(
    poison: Callable[[], Any], kind: type[BaseException], text: str, plain_client: Any
) -> None:
    view = plain_client.load_balanced_view()
    before = plain_client.ids

    results = stoker.map(view, spike(poison), range(ITEMS), on_error="return")

    error = check(results)
    assert type(error) is kind
    assert text in say(error)
    assert plain_client.ids == before


def test_an_item_that_takes_too_long_on_a_plain_engine_is_named_and_the_engine_lives(plain_client: Any) -> None:
    view = plain_client.load_balanced_view()
    before = plain_client.ids

    results = stoker.map(view, spike(loop), range(ITEMS), timeout=1, on_error="return")

    assert isinstance(check(results), ItemTimeoutError)
    assert plain_client.ids == before
