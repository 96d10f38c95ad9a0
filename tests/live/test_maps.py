"""Maps through their face on a cluster of two engines: what goes in, what comes out, and how they end early."""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import stoker
from stoker.cluster import Cluster
from stoker.compute import ItemPlace, RemoteTraceback, Standing, channel
from stoker.compute.batching import DEPTH, TARGET
from stoker.compute.channel import Channel
from stoker.errors import ItemTimeoutError, NoEnginesError, StokerError
from stoker.spec import parse_spec

pytestmark = pytest.mark.live

ENGINES = 2
SOON = 15.0
"""Seconds within which a call after a cancelled one has its results."""
LONG = 60.0
"""Seconds that an item would take which no test waits for."""
SPEC = parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": ENGINES}]})
FACTOR = 3
AGES = f"{threading.TIMEOUT_MAX:.0f}"


@dataclass(frozen=True)
class Pair:
    """A value of a class that only this module has."""

    left: int
    right: int

    def swap(self) -> Pair:
        return Pair(self.right, self.left)


class OddError(Exception):
    """An exception of a class that only this module has."""


def square(item: int) -> int:
    return item * item


def triple(item: int) -> int:
    return item * FACTOR


def pair(left: int, right: int) -> Pair:
    return Pair(left, right)


def fail_at_seven(item: int) -> int:
    if item == 7:
        raise ValueError("seven is not to be had")
    return item


def refuse_odd(item: int) -> int:
    if item % 2:
        raise OddError(item)
    return item


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def nap_or_spin(seconds: float) -> float:
    while seconds > 1:
        pass
    return seconds


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@dataclass(frozen=True)
class Journal:
    """A file in which engines write down what they begin."""

    path: Path

    def record(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        path = str(self.path)

        def recorded(item: Any) -> Any:
            with open(path, "a") as file:  # noqa: PTH123 - on an engine
                file.write(f"{item}\n")
            return function(item)

        return recorded

    def read(self) -> list[str]:
        return self.path.read_text().split() if self.path.exists() else []


# What goes in.


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        pytest.param([3, 1, 2], [9, 1, 4], id="a list"),
        pytest.param((3, 1, 2), [9, 1, 4], id="a tuple"),
        pytest.param(range(1, 5000, 3), [item * item for item in range(1, 5000, 3)], id="a range"),
        pytest.param(np.arange(1000), [item * item for item in range(1000)], id="an array"),
        pytest.param({2: "two", 5: "five"}, [4, 25], id="a dictionary's keys"),
        pytest.param((item for item in range(3000)), [item * item for item in range(3000)], id="a generator"),
        pytest.param([], [], id="nothing"),
        pytest.param(iter(()), [], id="a generator of nothing"),
    ],
)
def test_results_come_in_the_order_of_the_items(items: Iterable[int], expected: list[int], own: Cluster) -> None:
    results = own.map(square, items)

    assert results == expected


def test_the_rows_of_an_array_are_items(own: Cluster) -> None:
    table = np.arange(3000.0).reshape(1000, 3)

    results = own.map(np.sum, table)

    assert results == list(table.sum(axis=1))


def test_the_shortest_of_several_iterables_ends_the_map(own: Cluster) -> None:
    results = own.map(lambda *each: sum(each), range(100), itertools.count(1), [5] * 1000)

    assert results == [2 * item + 6 for item in range(100)]


@pytest.mark.parametrize("rows", [list, iter], ids=["a list", "a generator"])
def test_starmap_spreads_the_arguments_of_each_row(rows: Callable[[Any], Any], own: Cluster) -> None:
    results = own.starmap(max, rows([(1, 2), (5, 4, 3), ([7, 8],)] * 100))

    assert results == [2, 5, 8] * 100


def test_a_batch_of_a_fixed_size_takes_so_many_items(own: Cluster) -> None:
    standings: list[Standing] = []

    results = own.map(square, range(100), batch=30, progress=standings.append)

    assert results == [item * item for item in range(100)]
    assert {standing.done for standing in standings} <= {0, 10, 30, 40, 60, 70, 90, 100}


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What engines say of the batches that they run, beside their replies."""
    heard: list[str] = []
    note = Channel._note_output

    def listen(channel: Channel, sent: Any, message: Any) -> None:
        heard.append(message["content"].get("execution_state", ""))
        note(channel, sent, message)

    monkeypatch.setattr(Channel, "_note_output", listen)
    return heard


def test_engines_of_this_host_need_not_say_what_memory_tells(own: Cluster, statuses: list[str]) -> None:
    own.map(abs, range(20), batch=1)
    statuses.clear()

    values = own.map(square, range(20), batch=1)

    assert values == [item * item for item in range(20)]
    assert statuses == []


def test_engines_of_another_host_say_what_they_run(
    own: Cluster, statuses: list[str], monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., Any]
) -> None:
    own.map(abs, range(20), batch=1)
    statuses.clear()
    monkeypatch.setattr(channel, "read_boot", lambda: "another")

    own.map(square, range(20), batch=1)

    # Not of each: an engine may be quicker than the callback.
    wait_until(lambda: statuses.count("busy") > 5)


def test_of_batches_that_came_home_little_is_kept(own: Cluster) -> None:
    own.map(print, range(300), batch=1)
    # What a batch has printed may come after its reply.
    time.sleep(2.5)
    own.map(abs, range(4), batch=1)

    caches = (own.client._futures, own.client._output_futures, own.client.metadata, own.client.results)
    assert [len(cache) for cache in caches if len(cache) > 20] == []


def test_a_direct_view_spreads_over_its_engines(own: Cluster) -> None:
    both = stoker.map(own.client[:], lambda _: os.getpid(), range(200))
    one = stoker.map(own.client[1], lambda _: os.getpid(), range(200))

    assert len(both) == len(one) == 200
    assert len(set(both)) == ENGINES
    assert set(one) == {own.engines[1].pid}


def test_two_maps_from_two_threads_have_their_own_results(own: Cluster) -> None:
    with ThreadPoolExecutor(2) as threads:
        squares = threads.submit(own.map, square, range(20_000))
        triples = threads.submit(own.map, triple, range(20_000))

    assert squares.result() == [item * item for item in range(20_000)]
    assert triples.result() == [item * FACTOR for item in range(20_000)]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"timeout": 0}, f"map: timeout must be more than 0 s and at most {AGES} s, or None, got 0"),
        ({"retries": -1}, "map: retries must be a whole number, 0 or more, got -1"),
        ({"batch": 0}, "map: batch must be 1 or more, or None, got 0"),
        ({"batch": 2.5}, "map: batch must be a whole number of items, or None, got 2.5"),
        ({"on_error": "ignore"}, "map: on_error must be 'raise', 'return' or 'skip', got 'ignore'"),
        ({"patience": -1}, "map: patience must be 0 s or more, got -1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_option_out_of_range_is_refused_at_once(options: dict[str, Any], problem: str, own: Cluster) -> None:
    calls = (own.map, own.imap, own.starmap)
    refusals = []

    for call in calls:
        with pytest.raises(StokerError) as refused:
            call(square, [1], **options)
        refusals.append(str(refused.value))

    assert refusals == [problem] * len(calls)


def test_what_is_no_option_and_what_is_no_view_is_a_type_error(own: Cluster) -> None:
    with pytest.raises(TypeError, match="chunksize"):
        own.map(square, [1], chunksize=3)
    with pytest.raises(TypeError, match="LoadBalancedView or a DirectView"):
        stoker.map(own.client, square, [1])
    with pytest.raises(TypeError, match="at least one sequence"):
        own.map(square)


# What engines lack.


@pytest.fixture
def local_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that this process can import, and engines cannot."""
    text = """
    LIMIT = 10

    class Box:
        def __init__(self, value):
            self.value = value

    def fill(item):
        return Box(min(item, LIMIT))

    def empty(box):
        return box.value
    """
    (tmp_path / "only_here.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("only_here")
    del sys.modules["only_here"]


def test_lambdas_closures_and_partials_travel(own: Cluster) -> None:
    offset = 5

    def add(item: int) -> int:
        return item + offset

    shifted = own.map(lambda item: add(item) * 2, range(100))
    powers = own.map(functools.partial(pow, 2), range(100))

    assert shifted == [(item + 5) * 2 for item in range(100)]
    assert powers == [2**item for item in range(100)]


def test_a_function_of_a_module_that_engines_lack_travels(local_module: ModuleType, own: Cluster) -> None:
    results = own.map(local_module.fill, range(100))

    assert [type(result) for result in results] == [local_module.Box] * 100
    assert [result.value for result in results] == [min(item, 10) for item in range(100)]


def test_items_of_a_class_that_engines_lack_travel(local_module: ModuleType, own: Cluster) -> None:
    items = [local_module.Box(number) for number in range(100)]

    values = own.map(lambda box: box.value, items)
    emptied = own.map(local_module.empty, items)

    assert values == emptied == list(range(100))


def test_a_result_of_a_class_of_this_module_is_one(own: Cluster) -> None:
    swap = Pair.swap

    results = own.map(pair, range(100), range(1, 101))
    swapped = own.map(Pair.swap, results)

    assert results == [Pair(item, item + 1) for item in range(100)]
    assert swapped == [Pair(item + 1, item) for item in range(100)]
    assert {type(result) for result in (*results, *swapped)} == {Pair}
    # Engines have a copy of the class: what comes back with it changes nothing here.
    assert Pair.swap is swap


def test_what_cannot_be_packed_raises_before_anything_is_sent(own: Cluster) -> None:
    lock = threading.Lock()

    with pytest.raises(TypeError, match="cannot pickle"):
        own.map(lambda _: lock, [1])
    with pytest.raises(TypeError, match="cannot pickle"):
        own.map(square, [1, lock])

    assert own.map(square, [3]) == [9]


# What comes out.


def test_imap_gives_results_in_order(own: Cluster) -> None:
    results = list(own.imap(square, (item for item in range(5000))))

    assert results == [item * item for item in range(5000)]


def test_imap_gives_results_as_they_are_done(own: Cluster) -> None:
    naps = [0.3, *[0.01] * 20]
    long_naps = [4.0, *[0.01] * 20]

    ordered = list(own.imap(nap, naps, batch=1))
    arrived = list(own.imap(nap, long_naps, batch=1, ordered=False))

    assert ordered == naps
    assert arrived == [*[0.01] * 20, 4.0]


def test_imap_reads_no_further_ahead_than_engines_need(own: Cluster) -> None:
    seconds = 0.02
    read = 0

    def count() -> Iterator[float]:
        nonlocal read
        while True:
            read += 1
            yield seconds

    results = own.imap(nap, count())
    before = read
    taken = list(itertools.islice(results, 200))
    ahead = read - len(taken)
    _let_pass(1.0)
    ahead_later = read - len(taken)
    results.close()  # type: ignore[attr-defined]

    assert before == 0
    assert taken == [seconds] * 200
    assert 0 < ahead <= 2 * DEPTH * ENGINES * TARGET / seconds
    assert ahead_later == ahead


def test_closing_the_iterator_cancels_the_rest(own: Cluster, journal: Journal, wait_until: Callable[..., Any]) -> None:
    items = itertools.chain([0.01], itertools.repeat(LONG))
    results = own.imap(journal.record(time.sleep), items, batch=1, ordered=False)

    first = next(results)
    wait_until(lambda: len(journal.read()) >= ENGINES)
    begin = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    begun = len(journal.read())
    again = own.map(square, range(100))
    seconds = time.monotonic() - begin

    assert first is None
    assert again == [item * item for item in range(100)]
    assert seconds < SOON
    assert len(journal.read()) == begun


def test_progress_is_told(own: Cluster) -> None:
    standings: list[Standing] = []

    own.map(fail_at_seven, range(300), on_error="skip", progress=standings.append)

    done = [standing.done for standing in standings]
    last = standings[-1]
    assert done == sorted(done)
    assert (last.done, last.total, last.failures, last.engines, last.note) == (300, 300, 1, ENGINES, "")


# Errors.


def test_an_error_is_the_items_own_and_names_it(own: Cluster) -> None:
    with pytest.raises(ValueError, match="seven is not to be had") as caught:
        own.map(fail_at_seven, range(100))

    error: Any = caught.value
    assert error.item == ItemPlace(index=7, text="7", engine=error.item.engine, host=socket.gethostname(), attempt=1)
    assert error.item.engine in range(ENGINES)
    assert error.__notes__ == [str(error.item)]
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "in fail_at_seven" in error.__cause__.text
    assert error.__cause__.text.endswith("ValueError: seven is not to be had\n")


def test_an_error_of_a_class_of_this_module_is_one(own: Cluster) -> None:
    with pytest.raises(OddError) as caught:
        own.map(refuse_odd, [2, 4, 5, 6])

    assert caught.value.args == (5,)


def test_the_first_error_cancels_the_rest(own: Cluster, journal: Journal) -> None:
    begin = time.monotonic()
    with pytest.raises(OddError):
        own.map(journal.record(lambda item: refuse_odd(item) or nap(LONG)), [0, 1, 2, 4], batch=1)
    begun = len(journal.read())
    again = own.map(square, range(100))
    seconds = time.monotonic() - begin

    assert again == [item * item for item in range(100)]
    assert seconds < SOON
    assert len(journal.read()) == begun


def test_an_iterator_that_is_closed_knows_what_has_come_home_meanwhile(
    own: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As long it would wait for what it thinks is under way.
    monkeypatch.setattr("stoker.compute.call._PARTING", 30.0)
    results = own.imap(square, range(4), batch=1, ordered=False)
    found = [next(results)]
    # All the others come home while nobody asks.
    time.sleep(0.5)
    found.append(next(results))

    begin = time.monotonic()
    results.close()
    seconds = time.monotonic() - begin

    assert set(found) < {0, 1, 4, 9}
    assert seconds < SOON


@pytest.mark.parametrize("batch", [None, 1, 3, 10])
@pytest.mark.parametrize("face", ["map", "imap"])
def test_errors_are_returned_or_skipped(face: str, batch: int | None, own: Cluster) -> None:
    def call(on_error: str) -> list[Any]:
        return list(getattr(own, face)(refuse_odd, range(10), on_error=on_error, batch=batch))

    returned, skipped = call("return"), call("skip")

    assert [str(each) for each in returned] == [str(item) for item in range(10)]
    assert [each.item.index for each in returned if isinstance(each, OddError)] == [1, 3, 5, 7, 9]
    assert skipped == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(("retries", "succeeds"), [(2, True), (1, False)])
def test_an_item_is_tried_again_on_errors_that_were_named(
    retries: int, succeeds: bool, own: Cluster, journal: Journal
) -> None:
    path = str(journal.path)

    def flaky(item: int) -> int:
        with open(path, "a+") as file:  # noqa: PTH123 - on an engine
            file.seek(0)
            before = file.read().split().count(str(item))
            file.write(f"{item}\n")
        if item == 5 and before < 2:
            raise OddError(before)
        return item

    *others, five = own.map(flaky, [0, 1, 2, 3, 4, 5], retries=retries, retry_on=OddError, on_error="return")

    assert others == [0, 1, 2, 3, 4]
    assert sorted(journal.read()) == ["0", "1", "2", "3", "4", *["5"] * (retries + 1)]
    if succeeds:
        assert five == 5
    else:
        assert five.args == (1,)
        assert (five.item.index, five.item.attempt) == (5, 2)


@pytest.mark.parametrize("function", [nap, nap_or_spin], ids=["sleep", "a loop"])
def test_an_item_that_takes_too_long_ends_and_its_batch_mates_do_not(
    function: Callable[[float], float], own: Cluster
) -> None:
    pids = {engine.pid for engine in own.engines}
    items = [*[0.01] * 10, LONG, *[0.01] * 10]

    begin = time.monotonic()
    results = own.map(function, items, timeout=1, batch=len(items), on_error="return")
    seconds = time.monotonic() - begin

    error = results.pop(10)
    assert results == [0.01] * 20
    assert isinstance(error, ItemTimeoutError)
    assert isinstance(error, TimeoutError)
    assert str(error) == f"{error.item}: took longer than 1 s"  # type: ignore[attr-defined]
    assert error.item.index == 10  # type: ignore[attr-defined]
    assert f"in {function.__name__}" in str(error.__cause__)
    assert 1 < seconds < 1 + SOON
    assert {engine.pid for engine in own.engines} == pids


def test_many_items_each_within_its_timeout_are_no_timeout(own: Cluster) -> None:
    results = own.map(nap, [0.1] * 40, timeout=1.5, batch=20)

    assert results == [0.1] * 40


# Interrupts.


def test_an_interrupt_in_the_caller_cancels_and_the_next_call_works_at_once(
    own: Cluster, journal: Journal, wait_until: Callable[..., Any]
) -> None:
    interrupted = []

    def interrupt() -> None:
        wait_until(lambda: len(journal.read()) >= ENGINES)
        interrupted.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        own.map(journal.record(nap), [LONG] * 100)
    thread.join()
    begun = len(journal.read())
    again = own.map(square, range(100))
    seconds = time.monotonic() - interrupted[0]

    assert again == [item * item for item in range(100)]
    assert seconds < SOON
    assert len(journal.read()) == begun


INTERRUPTED = """
import sys, time
import stoker

def work(item):
    with open({journal!r}, "a") as file:
        file.write(f"{{item}}\\n")
    time.sleep({seconds})

with stoker.connect("own", ipython_dir={directory!r}) as cluster:
    try:
        cluster.map(work, range(100))
    except KeyboardInterrupt:
        begin = time.monotonic()
        assert cluster.map(lambda item: item + 1, range(100)) == list(range(1, 101))
        print("again after", time.monotonic() - begin)
"""


def test_ctrl_c_in_a_script_cancels_and_the_next_call_works_at_once(
    own: Cluster, journal: Journal, run: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    directory = str(own._address.directory.path.parent)
    script = INTERRUPTED.format(journal=str(journal.path), seconds=LONG, directory=directory)
    argv = [sys.executable, "-c", script]

    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        wait_until(lambda: len(journal.read()) >= ENGINES)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=LONG)
        seconds = time.monotonic() - begin

    assert process.returncode == 0
    assert float(printed.removeprefix("again after ")) < SOON
    assert seconds < 2 * SOON
    assert len(journal.read()) == ENGINES


# Engines that come and go.


def test_a_map_without_engines_waits_for_as_long_as_it_may_and_goes_on_when_some_come(
    start: Callable[..., Cluster], wait_until: Callable[..., Any]
) -> None:
    cluster = start(SPEC)
    cluster.map(square, [1])
    cluster.scale(0)
    # Those that leave may still take an item before they have.
    wait_until(lambda: cluster.client.ids == [])

    begin = time.monotonic()
    with pytest.raises(NoEnginesError) as caught:
        cluster.map(square, range(10), patience=1)
    waited = time.monotonic() - begin
    standings: list[Standing] = []
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(cluster.map, square, range(10), patience=60, progress=standings.append)
        wait_until(lambda: standings)
        scaled = cluster.scale(2)
        results = waiting.result(20)

    assert str(caught.value) == (
        "there was no engine for 1 s: 0 items are done; start engines, or give it more patience"
    )
    assert 1 <= waited < 1 + SOON
    assert standings[0].note == "no engines: waiting"
    assert scaled["wanted"] == 2
    assert results == [item * item for item in range(10)]


def test_engines_that_leave_in_mid_map_finish_what_they_run(
    start: Callable[..., Cluster], journal: Journal, wait_until: Callable[..., Any]
) -> None:
    cluster = start(SPEC)

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(cluster.map, journal.record(nap), [0.02] * 200)
        wait_until(lambda: len(journal.read()) >= 20)
        cluster.scale(1)
        cluster.scale(3)
        results = running.result(60)

    assert results == [0.02] * 200
    assert len(journal.read()) == 200


def _let_pass(seconds: float) -> None:
    # Time in which nothing is to happen.
    time.sleep(seconds)
