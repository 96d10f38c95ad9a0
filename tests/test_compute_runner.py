"""The runner: what one batch makes of its items, whatever they do."""

from __future__ import annotations

import ast
import base64
import ctypes
import errno
import inspect
import itertools
import json
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.compute import runner
from stoker.compute.faults import ItemPlace, build_error
from stoker.compute.marks import Mark, Marks
from stoker.compute.packing import read_pickler
from stoker.compute.parcels import Parcel
from stoker.compute.runner import dump_strings, run_batch

PLACE = ItemPlace(index=0, text="x", engine=0, host="", attempt=1)
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that cannot be ended ends its process, which is pytest's here: not because of a stall."""
    monkeypatch.setattr(runner, "_GRACE", 60.0)


@dataclass(kw_only=True)
class Reply:
    """What a batch that has run replied."""

    seconds: float
    count: int
    errors: list[tuple[int, tuple[str, str, str, bytes | None]]]
    values: list[Any]
    host: str
    pid: int
    texts: dict[int, str] = field(init=False)

    def __post_init__(self) -> None:
        self.texts = {position: text for position, (_, text, _, _) in self.errors}

    def build(self, position: int) -> BaseException:
        """Build an item's exception as the client does."""
        return build_error(dict(self.errors)[position], PLACE)


def _render_head(
    call: str,
    number: int,
    *,
    timeout: float | None = None,
    limit: float = math.inf,
    stop: bool = False,
    exact: bool = False,
    marks: Marks | None = None,
    parcel: Parcel | None = None,
) -> bytes:
    place = None if marks is None else marks.place(number)
    address = None if parcel is None else parcel.address(number)
    return pickle.dumps((call, number, timeout, limit, stop, exact, place, address))


def _ask(
    function: Callable[..., Any] | bytes | None,
    *columns: Sequence[Any],
    packed: bytes | int | None = None,
    call: str = "",
    pickler: str | None = None,
    number: int = 0,
    **head_options: Any,
) -> list[Any]:
    number = number or next(_numbers)
    head = _render_head(call or f"call {number}", number, **head_options)
    if not (function is None or isinstance(function, bytes)):
        function = cloudpickle.dumps(function)
    return run_batch(head, function, cloudpickle.dumps(columns) if packed is None else packed, pickler)


def _run(function: Callable[..., Any] | bytes, *columns: Sequence[Any], **options: Any) -> Reply:
    kind, seconds, count, errors, values, host, pid = _ask(function, *columns, **options)
    assert kind == "done"
    return Reply(seconds=seconds, count=count, errors=errors, values=pickle.loads(values), host=host, pid=pid)


@pytest.fixture
def marks() -> Iterator[Marks]:
    marks = Marks()
    yield marks
    marks.close()


def _read_signals() -> tuple[Any, ...]:
    handlers = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM))
    return *handlers, signal.getitimer(signal.ITIMER_REAL)[1]


@pytest.fixture(autouse=True)
def nothing_of_the_process_changed() -> Iterator[None]:
    """A batch gives back the handlers and the timer that it found."""
    before = _read_signals()

    yield

    _watched.clear()
    assert _read_signals() == before


def _square(x: int) -> int:
    return x * x


def _invert(x: int) -> float:
    return 1 / x


_watched: list[Any] = []
"""What functions that run here reach; closures would travel as copies."""


def _collect(x: int) -> None:
    _watched[-1].append(x)


# Values and errors


def test_values_come_back_in_order_and_with_where_they_ran() -> None:
    reply = _run(_square, [1, 2, 3])

    assert (reply.count, reply.values, reply.errors) == (3, [1, 4, 9], [])
    assert (reply.host, reply.pid) == (socket.gethostname(), os.getpid())
    assert 0 < reply.seconds < 1


@pytest.mark.parametrize(
    ("function", "columns", "values"),
    [
        pytest.param(lambda x, y: (x, y), ([1, 2], "ab"), [(1, "a"), (2, "b")], id="several arguments"),
        pytest.param(_square, (range(5),), [0, 1, 4, 9, 16], id="a range"),
        pytest.param(math.sqrt, ((4.0, 9.0),), [2.0, 3.0], id="a builtin"),
        pytest.param(lambda x: None, ([1, 2],), [None, None], id="nothing"),
        pytest.param(lambda row: sum(row), ([(1, 2), (), (3,)],), [3, 0, 3], id="rows"),
        pytest.param(_square, ([],), [], id="no item"),
    ],
)
def test_the_function_is_called_with_an_item_of_each_column(
    function: Callable[..., Any], columns: tuple[Any, ...], values: list[Any]
) -> None:
    assert _run(function, *columns).values == values


def test_many_quick_items_run_in_steps_each_once() -> None:
    _watched.append(seen := [])

    reply = _run(_collect, range(100_000))

    assert seen == list(range(100_000))
    assert reply.count == 100_000


def test_an_error_is_its_items_own_and_the_others_are_done() -> None:
    reply = _run(_invert, [1, 0, 2, 0, 4])

    assert (reply.count, reply.values) == (5, [1.0, None, 0.5, None, 0.25])
    assert reply.texts == {1: "ZeroDivisionError: division by zero", 3: "ZeroDivisionError: division by zero"}
    assert isinstance(reply.build(3), ZeroDivisionError)


def test_an_error_in_the_midst_of_quick_items_is_at_its_place() -> None:
    bad = {0, 1, 777, 5000, 9998, 9999}

    def check(x: int) -> int:
        if x in bad:
            raise ValueError(x)
        return x

    reply = _run(check, range(10_000))

    assert reply.values == [None if x in bad else x for x in range(10_000)]
    assert reply.texts == {x: f"ValueError: {x}" for x in bad}


def test_a_traceback_begins_in_the_function() -> None:
    reply = _run(_invert, [0])

    ((_, (name, _, trace, _)),) = reply.errors
    assert name == "ZeroDivisionError"
    assert trace.startswith("Traceback (most recent call last):\n")
    assert trace.endswith("ZeroDivisionError: division by zero\n")
    assert "in _invert" in trace
    assert str(runner.__file__) not in trace


@pytest.mark.parametrize(("bad", "count"), [(0, 1), (3, 4), (999, 1000), (1500, 1501)])
def test_where_the_first_error_ends_the_map_nothing_runs_after_it(bad: int, count: int) -> None:
    reply = _run(lambda x: 1 / (x - bad), range(3000), stop=True)

    assert reply.count == count
    assert len(reply.values) == count
    assert list(reply.texts) == [bad]


def _exit(x: int) -> int:
    sys.exit(f"exit {x}")


def _interrupt(x: int) -> int:
    raise KeyboardInterrupt


def _recurse(x: int) -> int:
    return _recurse(x) + 1


def _end(x: int) -> int:
    return next(iter(()))


class _OddError(BaseException):
    pass


def _be_odd(x: int) -> int:
    raise _OddError(x)


@pytest.mark.parametrize(
    ("function", "kind", "text"),
    [
        pytest.param(_exit, SystemExit, "SystemExit: exit 3", id="SystemExit"),
        pytest.param(_interrupt, KeyboardInterrupt, "KeyboardInterrupt", id="KeyboardInterrupt"),
        pytest.param(_recurse, RecursionError, "RecursionError: maximum recursion depth exceeded", id="RecursionError"),
        pytest.param(_end, RuntimeError, "StopIteration", id="StopIteration, which ends iterators"),
        pytest.param(_be_odd, _OddError, "_OddError: 3", id="another BaseException"),
    ],
)
@pytest.mark.parametrize("quick", [0, 5000])
def test_whatever_is_raised_is_the_items_own(
    function: Callable[[int], int], kind: type[BaseException], text: str, quick: int
) -> None:
    items = [*[10] * quick, 1, 2, 3, 4, 5]

    reply = _run(lambda x: function(x) if x == 3 else x, items)

    assert reply.values == [None if x == 3 else x for x in items]
    assert list(reply.texts) == [quick + 2]
    assert reply.texts[quick + 2].startswith(text)
    assert type(reply.build(quick + 2)) is kind


class _UnpackableError(Exception):
    def __init__(self) -> None:
        super().__init__("unpackable")
        self.lock = threading.Lock()


class _UnreadableError(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")


class _PoisonousError(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, ("loaded",)


class _MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def _raise(error: Callable[[], BaseException]) -> None:
    raise error()


@pytest.mark.parametrize(
    ("error", "name", "text", "comes"),
    [
        pytest.param(_UnpackableError, "_UnpackableError", "_UnpackableError: unpackable", False, id="unpackable"),
        pytest.param(
            lambda: _UnreadableError(5, "no"),
            "_UnreadableError",
            "_UnreadableError: 5 no",
            False,
            id="unreadable",
        ),
        pytest.param(_PoisonousError, "_PoisonousError", "_PoisonousError", False, id="exits when it is read"),
        pytest.param(_MuteError, "_MuteError", "_MuteError", True, id="has no text"),
    ],
)
def test_of_an_exception_that_cannot_travel_comes_what_can(
    error: Callable[[], BaseException], name: str, text: str, comes: bool
) -> None:
    reply = _run(_raise, [lambda: ValueError("first"), error, lambda: ValueError("last")])

    ename, line, trace, packed = reply.errors[1][1]
    assert (ename, line, packed is not None) == (name, text, comes)
    assert f"{name}" in trace
    assert reply.texts == {0: "ValueError: first", 1: text, 2: "ValueError: last"}


def test_a_result_that_cannot_be_sent_is_named_and_the_others_are_kept() -> None:
    reply = _run(lambda x: threading.Lock() if x == 2 else x, [1, 2, 3])

    assert (reply.count, reply.values) == (3, [1, None, 3])
    assert reply.texts == {1: "its result, a lock, cannot be sent: TypeError: cannot pickle '_thread.lock' object"}
    error = reply.build(1)
    assert isinstance(error, TypeError)
    assert error.__notes__[0] == reply.texts[1]


def test_a_result_that_cannot_be_sent_beside_an_error() -> None:
    reply = _run(lambda x: threading.Lock() if x == 0 else 1 / (x - 1), [0, 1, 2])

    assert reply.values == [None, None, 1.0]
    assert sorted(reply.texts) == [0, 1]


# What an engine lacks


def test_a_function_is_brought_once() -> None:
    replies = [
        _ask(None, [1], call="brought once"),
        _ask(_square, [2], call="brought once"),
        _ask(None, [3], call="brought once"),
    ]

    assert replies[0] == ["need", "function"]
    assert [pickle.loads(reply[4]) for reply in replies[1:]] == [[4], [9]]


def test_the_functions_of_the_last_calls_are_kept() -> None:
    for at in range(20):
        _ask(_square, [at], call=f"kept {at}")

    kinds = [_ask(None, [at], call=f"kept {at}")[0] for at in range(20)]

    assert kinds == ["need"] * 4 + ["done"] * 16


@pytest.mark.parametrize(
    ("packed", "module", "text"),
    [
        pytest.param(
            b"cgone_module\nwork\n.", "gone_module", "ModuleNotFoundError: No module named 'gone_module'", id="module"
        ),
        pytest.param(
            b"cgone.inner\nwork\n.", "gone", "ModuleNotFoundError: No module named 'gone'", id="package of a module"
        ),
        pytest.param(
            b"cjson\ngone_name\n.",
            "json",
            f"AttributeError: Can't get attribute 'gone_name' on {json!r}",
            id="name in a module",
        ),
        pytest.param(b"\x80\x05", "", "EOFError: Ran out of input", id="half of it"),
        pytest.param(
            pickle.dumps(_UnreadableError(5, "no")),
            "",
            "TypeError: _UnreadableError.__init__() missing 1 required positional argument: 'reason'",
            id="an error of its own",
        ),
        pytest.param(pickle.dumps(_PoisonousError()), "", "SystemExit: loaded", id="it exits"),
    ],
)
@pytest.mark.parametrize("what", ["function", "items"])
def test_what_cannot_be_loaded_is_named_with_the_module_that_is_lacking(
    what: str, packed: bytes, module: str, text: str
) -> None:
    reply = _ask(packed, [1]) if what == "function" else _ask(_square, packed=packed)

    assert reply == ["unloadable", what, module, text]


def test_a_function_that_could_not_be_loaded_is_needed_again() -> None:
    _ask(b"cgone_module\nwork\n.", [1], call="unloadable first")

    assert _ask(None, [1], call="unloadable first") == ["need", "function"]
    assert _ask(_square, [3], call="unloadable first")[0] == "done"


@pytest.mark.parametrize("what", ["function", "items"])
def test_an_interrupt_while_something_is_loaded_is_no_fault_of_it(what: str) -> None:
    class Interrupting:
        def __reduce__(self) -> tuple[Any, ...]:
            return _interrupt, (1,)

    packed = cloudpickle.dumps(Interrupting())

    with pytest.raises(KeyboardInterrupt):
        _ask(packed, [1]) if what == "function" else _ask(_square, packed=packed)


class _Struck:
    """While it is read, its process is interrupted so many times."""

    def __init__(self, times: int) -> None:
        self._times = times

    def __reduce__(self) -> tuple[Any, ...]:
        return _strike, (self._times,)


def _strike(times: int) -> int:
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)
    return times


@pytest.mark.parametrize("what", ["function", "items"])
def test_an_interrupt_amid_an_import_lets_it_finish_and_nothing_runs(what: str) -> None:
    before = signal.getsignal(signal.SIGINT)
    packed = cloudpickle.dumps(_Struck(1) if what == "function" else [[_Struck(1)]])

    reply = _ask(packed, [1]) if what == "function" else _ask(_square, packed=packed)

    assert [reply[0], *reply[2:4], cloudpickle.loads(reply[4])] == ["done", 0, [], []]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_ends_what_takes_too_long_to_be_read() -> None:
    before = signal.getsignal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        _ask(_square, packed=cloudpickle.dumps([[_Struck(2)]]))

    assert signal.getsignal(signal.SIGINT) is before


# Time


def _loop(seconds: float) -> float:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


def _catch_once(seconds: float) -> float:
    try:
        time.sleep(seconds)
    except BaseException:
        time.sleep(seconds)
    return seconds


@pytest.mark.parametrize("work", [time.sleep, _loop, _catch_once], ids=["sleep", "loop", "caught once"])
def test_an_item_that_takes_too_long_is_ended_and_its_mates_are_not(work: Callable[[float], Any]) -> None:
    begin = time.monotonic()

    reply = _run(lambda x: work(30.0) if x == 2 else x, [0, 1, 2, 3], timeout=0.2)

    assert time.monotonic() - begin < 15
    assert (reply.count, reply.values) == (4, [0, 1, None, 3])
    assert reply.texts == {2: "took longer than 0.2 s"}
    assert isinstance(reply.build(2), TimeoutError)


def test_each_item_has_the_whole_time() -> None:
    reply = _run(_loop, [0.5] * 3, timeout=1.2)

    assert (reply.values, reply.errors) == ([0.5] * 3, [])


def test_several_items_that_take_too_long_are_ended_each() -> None:
    reply = _run(time.sleep, [30.0, 0.0, 30.0], timeout=0.3)

    assert reply.values == [None, None, None]
    assert sorted(reply.texts) == [0, 2]


def test_the_timeout_of_an_item_that_ends_the_map_ends_the_batch() -> None:
    reply = _run(time.sleep, [0.0, 30.0, 0.0], timeout=0.3, stop=True)

    assert (reply.count, reply.texts) == (2, {1: "took longer than 0.3 s"})


def test_an_engine_whose_item_cannot_be_reached_ends() -> None:
    program = """
import pickle, signal, sys, time
from stoker.compute.runner import dump_strings, run_batch

def work(x):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    time.sleep(60)

head = pickle.dumps(("call", 1, 0.1, 60.0, False, False, None, None))
run_batch(head, pickle.dumps(work), pickle.dumps(([1],)))
"""
    begin = time.monotonic()

    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)

    assert shown.returncode == 1
    assert "in work" in shown.stderr
    assert time.monotonic() - begin < 15


def test_handlers_and_timer_are_given_back() -> None:
    def on_alarm(signum: int, frame: object) -> None:
        raise AssertionError("the timer was not this one's")

    before = signal.signal(signal.SIGALRM, on_alarm)
    timer = signal.setitimer(signal.ITIMER_REAL, 100.0, 50.0)
    try:
        for timeout in (None, 0.1):
            _run(_exit, [1, 2], timeout=timeout)
        _run(time.sleep, [5.0], timeout=0.05)

        assert signal.getsignal(signal.SIGALRM) is on_alarm
        left, period = signal.getitimer(signal.ITIMER_REAL)
        assert 90 < left <= 100
        assert period == 50
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)


def test_a_thread_runs_a_batch_without_signals() -> None:
    with ThreadPoolExecutor(1) as threads:
        reply = threads.submit(_run, _square, [1, 2], timeout=0.1).result()

    assert reply.values == [1, 4]


# Interrupts


def _signal_self(x: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)
    return x


def test_an_interrupt_ends_the_item_and_the_batch() -> None:
    reply = _run(lambda x: _signal_self(x) if x == 1 else x, [0, 1, 2])

    assert (reply.count, reply.values, reply.texts) == (2, [0, None], {1: "KeyboardInterrupt"})


def test_an_item_may_catch_its_interrupt_and_is_the_last() -> None:
    def work(x: int) -> str:
        try:
            return str(_signal_self(x))
        except KeyboardInterrupt:
            return "saved"

    reply = _run(work, [0, 1, 2])

    assert (reply.count, reply.values, reply.errors) == (1, ["saved"], [])


class _Interrupting(Sequence[int]):
    """Items between which an interrupt comes."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: Any) -> Any:
        if at.start > 0:
            os.kill(os.getpid(), signal.SIGINT)
        return [*range(self._count)][at]


def test_an_interrupt_between_items_raises_nowhere() -> None:
    reply = _run(lambda x: time.sleep(0.001) or x, _Interrupting(10))  # type: ignore[func-returns-value]

    assert reply.errors == []
    assert reply.values == list(range(reply.count))
    assert 1 <= reply.count < 10


_raise_in_c = ctypes.CDLL(None)["raise"]
"""Sends this thread a signal; Python hears of it only when C code has ended."""


@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 3), (500, 0), (500, 3)])
def test_an_interrupt_that_python_hears_of_only_after_an_items_end_is_no_items(before: int, after: int) -> None:
    by_name = f"c{__name__}\n_raise_in_c\n.".encode()

    reply = _run(by_name, [*[0] * before, signal.SIGINT, *[0] * after])

    assert (reply.values, reply.errors) == ([0] * reply.count, [])
    assert before < reply.count <= before + 1 + after


class _InterruptingOnce:
    """A result in the midst of whose packing an interrupt comes."""

    def __reduce__(self) -> tuple[Any, ...]:
        if _watched:
            raise _watched.pop()
        return int, (7,)


def test_an_interrupt_while_results_are_packed_loses_none() -> None:
    _watched.append(KeyboardInterrupt())

    reply = _run(lambda x: _InterruptingOnce() if x == 1 else x, [0, 1, 2])

    assert (reply.values, reply.errors) == ([0, 7, 2], [])


class EngineStopped(SystemExit):
    pass


def _stop(*_: object) -> Any:
    raise EngineStopped("told to end")


class _Stopping:
    def __reduce__(self) -> tuple[Any, ...]:
        return _stop, ()


class _StoppingWhenPacked:
    def __reduce__(self) -> tuple[Any, ...]:
        raise EngineStopped("told to end")


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda: _ask(_stop, [1, 2], timeout=5.0), id="in an item"),
        pytest.param(lambda: _ask(pickle.dumps(_Stopping()), [1]), id="while the function is loaded"),
        pytest.param(lambda: _ask(_square, [_Stopping()]), id="while the items are loaded"),
        pytest.param(lambda: _ask(lambda x: _StoppingWhenPacked(), [1]), id="while the results are packed"),
    ],
)
def test_the_end_of_the_engine_goes_through(ask: Callable[[], Any]) -> None:
    with pytest.raises(EngineStopped, match="told to end"):
        ask()


# Marks


def _read(marks: Marks, number: int) -> tuple[int, int, bool, bool, int]:
    mark = marks.read(number)
    assert mark is not None
    return mark.low, mark.high, mark.loading, mark.finished, mark.pid


def _watch(x: int) -> int:
    marks, number, seen, seconds = _watched[-1]
    seen.append(marks.read(number))
    _loop(seconds)
    return x


def _watch_loading() -> int:
    marks, number, seen, _ = _watched[-1]
    seen.append(marks.read(number))
    return 1


class _Watching:
    def __reduce__(self) -> tuple[Any, ...]:
        return _watch_loading, ()


@pytest.fixture
def seen() -> list[Mark]:
    return []


def test_exact_marks_name_the_item_that_runs(marks: Marks, seen: list[Mark]) -> None:
    _watched.append((marks, 71, seen, 0.0))

    _run(_watch, range(500), marks=marks, number=71, exact=True)

    assert [(mark.low, mark.high) for mark in seen] == [(at, at + 1) for at in range(500)]
    assert {(mark.loading, mark.finished, mark.pid) for mark in seen} == {(False, False, os.getpid())}
    assert marks.read(71).finished  # type: ignore[union-attr]


def test_slow_items_are_named_each(marks: Marks, seen: list[Mark]) -> None:
    _watched.append((marks, 72, seen, 0.001))

    _run(_watch, range(20), marks=marks, number=72)

    assert [(mark.low, mark.high) for mark in seen] == [(at, at + 1) for at in range(20)]


def test_quick_items_are_named_in_steps_that_hold_them(marks: Marks, seen: list[Mark]) -> None:
    _watched.append((marks, 73, seen, 0.0))

    _run(_watch, range(5000), marks=marks, number=73)

    assert all(mark.low <= at < mark.high for at, mark in enumerate(seen))
    assert max(mark.high - mark.low for mark in seen) > 1
    assert len({mark.low for mark in seen}) < 4000


def test_steps_grow_to_a_limit_and_shrink_as_items_become_slow(marks: Marks, seen: list[Mark]) -> None:
    _run(_square, range(1), marks=marks, number=74)
    ended = _read(marks, 74)

    _watched.append((marks, 75, seen, 0.0))
    quick = 200_000
    _run(lambda x: None if x < quick else (_watch(x), _loop(2e-4)), range(quick + 5000), marks=marks, number=75)

    assert ended[3] is True
    widths = [mark.high - mark.low for mark in seen]
    assert max(widths) <= 2**14
    assert widths[-1] == 1


def test_a_mark_says_that_the_items_are_being_read(marks: Marks, seen: list[Mark]) -> None:
    _watched.append((marks, 76, seen, 0.0))

    _run(_square, [_Watching()], marks=marks, number=76)

    assert [(mark.loading, mark.finished, mark.low) for mark in seen] == [(True, False, 0)]


def test_a_batch_that_the_first_error_ended_is_finished_too(marks: Marks) -> None:
    _run(_invert, [1, 0, 1], marks=marks, number=77, stop=True)

    assert _read(marks, 77)[3] is True


def test_the_mark_of_an_engine_that_stops_in_an_item_stays(marks: Marks) -> None:
    with pytest.raises(EngineStopped):
        _ask(lambda x: x if x < 2 else _stop(), range(9), marks=marks, number=78, exact=True)

    assert _read(marks, 78) == (2, 3, False, False, os.getpid())


@pytest.mark.parametrize("wrong", ["boot", "pid", "handle", "token"])
def test_memory_that_is_not_the_clients_is_left_alone(marks: Marks, wrong: str) -> None:
    place = marks.place(79)
    assert place is not None
    boot, pid, handle, token, offset = place
    # A token that no engine has seen.
    token = bytes(16)[:15] + wrong[:1].encode() if wrong == "token" else token[::-1]
    changed = {
        "boot": ("elsewhere", pid, handle, token, offset),
        "pid": (boot, 2**22 + 1, handle, token, offset),
        "handle": (boot, pid, 10**6, token, offset),
        "token": (boot, pid, handle, token, offset),
    }[wrong]

    reply = run_batch(
        pickle.dumps((f"left alone {wrong}", 79, None, math.inf, False, False, changed, None)),
        cloudpickle.dumps(_square),
        cloudpickle.dumps(([3],)),
    )

    assert (reply[0], pickle.loads(reply[4])) == ("done", [9])
    assert marks.read(79) is None


# The text that travels


def test_the_runner_needs_the_standard_library_only() -> None:
    tree = ast.parse(inspect.getsource(runner))

    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).partition(".")[0])

    # The exception is looked for, and brought where it is missing.
    assert imported - set(sys.stdlib_module_names) == {"cloudpickle"}


PROGRAM = """
import base64, json, pickle, sys, types
order = json.load(sys.stdin)
module = types.ModuleType("_stoker_runner")
sys.modules["_stoker_runner"] = module
exec(compile(order["runner"], "_stoker_runner", "exec"), module.__dict__)
replies = []
for parts in order["batches"]:
    head, function, columns = (None if part is None else base64.b64decode(part) for part in parts[:3])
    replies.append(module.run_batch(head, function, columns, order["pickler"] if parts[3] else None))
for name in ("stoker", "numpy", "ipyparallel"):
    try:
        __import__(name)
    except ImportError:
        pass
    else:
        replies.append(name)
sys.stdout.buffer.write(pickle.dumps(replies))
"""


def test_the_text_works_where_there_is_neither_stoker_nor_cloudpickle() -> None:
    def pack(data: bytes | None) -> str | None:
        return None if data is None else base64.b64encode(data).decode()

    def work(x: int) -> Any:
        if x == 3:
            raise ValueError(x)
        if x == 4:
            raise _OddError(x)
        return (lambda: x + 1) if x == 2 else x * x

    # By value: the other side has this module no more than stoker.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        function, columns = cloudpickle.dumps(work), cloudpickle.dumps(([1, 2, 3, 4, 5],))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    heads = [_render_head("text", number, timeout=5.0, stop=False, exact=False, marks=None) for number in (1, 2, 3)]
    order = {
        "runner": inspect.getsource(runner),
        "pickler": read_pickler(),
        "batches": [
            (pack(heads[0]), pack(function), pack(columns), False),
            (pack(heads[1]), pack(function), pack(columns), True),
            (pack(heads[2]), None, pack(columns), False),
        ],
    }

    shown = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM], input=json.dumps(order).encode(), capture_output=True, check=False
    )

    assert shown.stderr == b""
    need, *done = pickle.loads(shown.stdout)
    assert need == ["need", "pickler"]
    assert [reply[0] for reply in done] == ["done", "done"]
    for _, _, count, errors, values, _, pid in done:
        one, two, *rest = pickle.loads(values)
        assert (count, one, two(), rest) == (5, 1, 3, [None, None, 25])
        assert [(position, error[1]) for position, error in errors] == [(2, "ValueError: 3"), (3, "_OddError: 4")]
        assert pid != os.getpid()


def test_an_item_that_begins_after_the_limit_goes_back() -> None:
    reply = _run(lambda item: time.sleep(0.02) or item, [1, 2, 3, 4, 5, 6], limit=0.03)

    assert 1 <= reply.count < 6
    assert reply.values == list(range(1, reply.count + 1))


def test_the_first_item_runs_whatever_the_limit() -> None:
    assert _run(str, [1, 2], limit=0.0).values == ["1"]


@pytest.fixture
def parcel() -> Iterator[Parcel]:
    parcel = Parcel()
    yield parcel
    parcel.close()


def test_large_items_and_results_travel_in_a_parcel(parcel: Parcel) -> None:
    packed = cloudpickle.dumps((list(range(20_000)),))
    parcel.write(packed)

    reply = _ask(str, packed=len(packed), parcel=parcel)

    assert isinstance(reply[4], int)
    assert pickle.loads(parcel.read(reply[4])) == [str(number) for number in range(20_000)]


def test_small_results_travel_in_the_reply(parcel: Parcel) -> None:
    assert pickle.loads(_ask(str, [1], parcel=parcel)[4]) == ["1"]


def test_a_parcel_that_another_batch_has_by_now_is_left_alone(parcel: Parcel) -> None:
    head = _render_head("late", 5, parcel=parcel)
    parcel.address(6)
    parcel.write(b"of another batch")

    function = cloudpickle.dumps(lambda item: "x" * 100_000)
    asked = run_batch(head, function, 16)
    ran = run_batch(head, function, cloudpickle.dumps(([1],)))

    assert asked == ["need", "columns"]
    assert pickle.loads(ran[4]) == ["x" * 100_000]
    assert parcel.read(16) == b"of another batch"


def test_results_for_which_a_parcel_has_no_room_travel_in_the_reply(
    parcel: Parcel, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = _render_head("full", 7, parcel=parcel)
    monkeypatch.setattr(runner, "_open_shared", lambda boot, pid, handle: _FullFile(f"/proc/{pid}/fd/{handle}"))

    ran = run_batch(head, cloudpickle.dumps(lambda item: "x" * 100_000), cloudpickle.dumps(([1],)))

    assert pickle.loads(ran[4]) == ["x" * 100_000]


class _FullFile:
    def __init__(self, path: str) -> None:
        self._file = Path(path).open("r+b")  # noqa: SIM115

    def read(self, length: int) -> bytes:
        return self._file.read(length)

    def seek(self, place: int) -> None:
        self._file.seek(place)

    def write(self, packed: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space")

    def close(self) -> None:
        self._file.close()


class _Word(str):
    __slots__ = ()


@given(column=st.lists(st.text(max_size=40), min_size=1))
def test_lists_of_short_strings_come_back_as_they_were(column: list[str]) -> None:
    packed = dump_strings((column, column), [column, column])

    assert packed is not None
    assert pickle.loads(packed) == (column, column)


@pytest.mark.parametrize(
    "column",
    [
        pytest.param([], id="nothing"),
        pytest.param([1, 2], id="numbers"),
        pytest.param(["a", 1], id="mixed"),
        pytest.param(["a", _Word("b")], id="a class of its own"),
        pytest.param(("a", "b"), id="no list"),
        pytest.param("ab", id="a string"),
        pytest.param(["x" * 100_000] * 1000, id="one long string a thousand times"),
    ],
)
def test_other_items_are_pickled_as_ever(column: Any) -> None:
    assert dump_strings(column, [column]) is None


def test_a_string_of_half_characters_comes_back() -> None:
    assert _run(str, ["\udc80", "a"]).values == ["\udc80", "a"]
