"""Futures and executors on a cluster of two engines: what CPython documents of them, and what they do beyond it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

import stoker
from stoker.cluster import Cluster
from stoker.compute import ItemPlace, RemoteTraceback
from stoker.errors import ConnectError, DeadlockError, EngineDiedError, ItemTimeoutError, NoEnginesError, StokerError
from stoker.spec import parse_spec

pytestmark = pytest.mark.live

ENGINES = 2
SOON = 20.0
LONG = 60.0
"""Seconds that a call would take which no test waits for."""
SPEC = parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": ENGINES}]})
ALONE = parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": 1}]})


class OddError(Exception):
    """An exception of a class that only this module has."""


def square(item: int) -> int:
    return item * item


def refuse(item: int) -> int:
    raise OddError(item)


def say(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return args, kwargs


def note(path: str, word: str, seconds: float = 0.0) -> str:
    """Write a word to a file, then take some time."""
    with open(path, "a") as file:  # noqa: PTH123 - on an engine
        file.write(f"{word}\n")
    time.sleep(seconds)
    return word


def wait_for(path: str) -> None:
    """Wait until there is a file."""
    while not os.path.exists(path):  # noqa: PTH110 - on an engine
        time.sleep(0.01)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A file that engines wait for, until the test makes it or ends."""
    gate = tmp_path / "gate"
    yield gate
    gate.touch()


@pytest.fixture
def executor(own: Cluster) -> Iterator[stoker.Executor]:
    with own.executor() as executor:
        yield executor


@pytest.fixture
def busy(gate: Path, tmp_path: Path, wait_until: Callable[..., Any]) -> Callable[[stoker.Executor], None]:
    """Keeps all engines busy with calls of an executor, until the gate is there."""

    def hold(executor: stoker.Executor) -> None:
        path, begun = str(gate), str(tmp_path / "begun")

        def wait(number: int) -> None:
            note(begun, str(number))
            wait_for(path)

        for number in range(2 * ENGINES):
            executor.submit(wait, number)
        wait_until(lambda: Path(begun).exists() and len(Path(begun).read_text().split()) == ENGINES)

    return hold


@pytest.fixture
def release(gate: Path) -> Callable[[], None]:
    """Lets the engines go on."""
    return gate.touch


# Futures.


def test_a_call_gives_a_future_of_concurrent_futures(own: Cluster) -> None:
    future = own.submit(say, 1, 2, three=3)

    assert isinstance(future, Future)
    assert future.result(SOON) == ((1, 2), {"three": 3})
    assert (future.done(), future.running(), future.cancelled(), future.exception()) == (True, False, False, None)
    assert repr(future).endswith("state=finished returned tuple>")


def test_the_bare_form_takes_any_view(own: Cluster) -> None:
    one = own.client[1]

    pids = {stoker.submit(one, os.getpid).result(SOON) for _ in range(3)}
    balanced = stoker.submit(own.view, square, 3).result(SOON)

    assert pids == {own.engines[1].pid}
    assert balanced == 9


def test_thousands_of_calls_of_different_functions_share_batches(executor: stoker.Executor) -> None:
    functions: list[Callable[[int], int]] = [square, abs, lambda item: item + 1]

    futures = [executor.submit(functions[number % 3], number) for number in range(9000)]
    results = [future.result(SOON) for future in futures]

    assert results == [functions[number % 3](number) for number in range(9000)]
    assert executor.summary.items == 9000
    assert executor.summary.batches < 300


def test_slow_calls_after_many_quick_ones_are_spread_over_engines(executor: stoker.Executor) -> None:
    concurrent.futures.wait([executor.submit(time.sleep, 0) for _ in range(5000)])

    begin = time.monotonic()
    concurrent.futures.wait([executor.submit(time.sleep, 1.0) for _ in range(4)])
    seconds = time.monotonic() - begin

    # All on one engine would take 4 s.
    assert 2.0 <= seconds < 3.8


def test_an_error_is_the_calls_own_and_names_it(own: Cluster) -> None:
    future = own.submit(refuse, 7)

    error: Any = future.exception(SOON)
    assert isinstance(error, OddError)
    assert error.args == (7,)
    place = error.item
    assert place == ItemPlace(
        index=place.index, text="refuse(7)", engine=place.engine, host=socket.gethostname(), attempt=1
    )
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "in refuse" in error.__cause__.text
    with pytest.raises(OddError):
        future.result()


def test_callbacks_come_in_order_and_their_errors_are_logged_only(
    own: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []
    all_told = threading.Event()

    def fail(future: Future[Any]) -> None:
        raise OddError("a callback's own")

    future = own.submit(time.sleep, 0.2)
    for add in (lambda _: told.append(1), fail, lambda done: told.append(done), lambda _: all_told.set()):
        future.add_done_callback(add)
    assert all_told.wait(SOON)
    future.add_done_callback(lambda _: told.append(3))

    assert told == [1, future, 3]
    assert [record.message for record in caplog.records] == [f"exception calling callback for {future!r}"]
    assert own.submit(square, 2).result(SOON) == 4


def test_a_callback_that_would_end_the_program_ends_nothing(own: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    future = own.submit(time.sleep, 0.2)
    future.add_done_callback(lambda _: sys.exit(1))

    assert future.result(SOON) is None
    assert own.submit(square, 2).result(SOON) == 4
    assert [record.message for record in caplog.records] == [f"a callback of {future!r} raised"]


def test_what_waits_can_be_cancelled_and_never_runs(
    executor: stoker.Executor, busy: Callable[..., None], release: Callable[[], None], tmp_path: Path
) -> None:
    path = str(tmp_path / "ran")
    busy(executor)
    told: list[Future[Any]] = []

    waiting = [executor.submit(note, path, str(number)) for number in range(10)]
    for future in waiting[::2]:
        future.add_done_callback(told.append)
    states = [future.cancel() for future in waiting[::2]]
    done, not_done = concurrent.futures.wait(waiting, return_when="FIRST_COMPLETED")
    release()
    results = [future.result(SOON) for future in waiting[1::2]]

    assert states == [True] * 5
    assert told == waiting[::2]
    assert done == set(waiting[::2])
    assert not_done == set(waiting[1::2])
    assert results == ["1", "3", "5", "7", "9"]
    assert sorted(Path(path).read_text().split()) == results
    with pytest.raises(CancelledError):
        waiting[0].result()
    assert all(future.cancel() for future in waiting[::2])
    assert not waiting[1].cancel()


def test_what_was_sent_runs_and_is_not_cancelled(executor: stoker.Executor, wait_until: Callable[..., Any]) -> None:
    future = executor.submit(time.sleep, 0.3)
    wait_until(future.running)

    assert not future.cancel()
    assert future.result(SOON) is None


def test_as_completed_and_wait_have_their_timeouts(own: Cluster, gate: Path) -> None:
    quick, slow = own.submit(square, 3), own.submit(wait_for, str(gate))

    completed = concurrent.futures.as_completed([slow, quick], timeout=2.0)
    first = next(completed)
    with pytest.raises(concurrent.futures.TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        next(completed)
    with pytest.raises(concurrent.futures.TimeoutError):
        slow.result(timeout=0.01)
    done, not_done = concurrent.futures.wait([slow, quick], timeout=0.01)
    gate.touch()
    later = concurrent.futures.wait([slow, quick], timeout=SOON)

    assert first is quick
    assert (done, not_done) == ({quick}, {slow})
    assert later == ({slow, quick}, set())


@pytest.mark.parametrize("when", ["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"])
def test_every_future_that_is_waited_for_while_thousands_are_resolved_is_told_once(when: str, own: Cluster) -> None:
    futures = [own.submit(square, number) for number in range(20_000)]

    seen = list(concurrent.futures.as_completed(futures[::7], timeout=20))
    done, not_done = concurrent.futures.wait(futures, timeout=20, return_when=when)

    assert len(seen) == len(set(seen)) == len(futures[::7])
    assert len(done) + len(not_done) == len(futures)
    assert when == "FIRST_COMPLETED" or not not_done


def test_what_cannot_be_packed_fails_alone(own: Cluster) -> None:
    lock = threading.Lock()

    futures = [own.submit(say, lock if number in (3, 150) else number) for number in range(300)]
    errors = {number: future.exception(SOON) for number, future in enumerate(futures)}

    assert [number for number, error in errors.items() if error is not None] == [3, 150]
    assert [str(errors[number]) for number in (3, 150)] == ["cannot pickle '_thread.lock' object"] * 2
    assert futures[4].result() == ((4,), {})


def test_what_cannot_be_read_there_or_here_fails_alone(own: Cluster) -> None:
    class Odd:
        def __init__(self, here: bool) -> None:
            self.here = here

        def __reduce__(self) -> Any:
            return (_read_here, (os.getpid(),)) if self.here else (_read_there, (os.getpid(),))

    def _read_there(pid: int) -> None:
        if os.getpid() != pid:
            raise OSError("not there")

    def _read_here(pid: int) -> Any:
        # What came with the batch makes on the engine what cannot be read here.
        class Back:
            def __reduce__(self) -> Any:
                return _refuse_here, (pid,)

        return Back()

    def _refuse_here(pid: int) -> None:
        if os.getpid() == pid:
            raise OSError("not here")

    def give(value: Any) -> Any:
        return value

    there, here = Odd(here=False), Odd(here=True)
    futures = [own.submit(give, {5: there, 70: here}.get(number, number)) for number in range(100)]
    errors = {number: future.exception(SOON) for number, future in enumerate(futures)}

    assert [number for number, error in errors.items() if error is not None] == [5, 70]
    assert isinstance(errors[5], StokerError)
    assert "OSError: not there" in str(errors[5])
    assert "OSError: not here" in str(errors[70])


def test_a_call_that_kills_engines_is_named_and_the_others_are_done(own: Cluster) -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    futures = [own.submit(square, number) for number in range(100)]
    poison = own.submit(die)
    futures += [own.submit(square, number) for number in range(100, 200)]

    error = poison.exception(30)
    results = [future.result(30) for future in futures]
    assert isinstance(error, EngineDiedError)
    assert error.cause == "SIGKILL"
    assert "die()" in str(error)
    assert results == [number * number for number in range(200)]


def test_timeouts_and_retries_are_those_of_a_map(own: Cluster, tmp_path: Path) -> None:
    path = str(tmp_path / "tries")

    def flaky() -> int:
        note(path, "try")
        with open(path) as file:  # noqa: PTH123 - on an engine
            tries = len(file.read().split())
        if tries < 3:
            raise OddError(tries)
        return tries

    with own.executor(timeout=0.3, retries=2, retry_on=OddError) as executor:
        late, tried = executor.submit(time.sleep, LONG), executor.submit(flaky)

        assert isinstance(late.exception(SOON), ItemTimeoutError)
        assert tried.result(SOON) == 3
    with pytest.raises(StokerError, match="retries must be"):
        own.executor(retries=-1)
    with pytest.raises(TypeError, match="an executor has no option progress"):
        own.executor(progress=True)


# Futures as arguments.


def test_futures_among_the_arguments_are_waited_for(
    own: Cluster, busy: Callable[..., None], release: Callable[[], None]
) -> None:
    with own.executor() as executor:
        busy(executor)
        first = executor.submit(square, 3)
        foreign: Future[int] = Future()
        second = executor.submit(say, first, 2, three=first, four=foreign)
        third = executor.submit(say, second)
        release()
        first.result(SOON)
        early = second.done()
        foreign.set_result(4)

        assert third.result(SOON) == ((((9, 2), {"three": 9, "four": 4}),), {})
        assert not early


def test_the_error_of_an_argument_is_that_of_the_call_with_its_cause(own: Cluster, tmp_path: Path, gate: Path) -> None:
    path = str(tmp_path / "ran")

    failed = own.submit(refuse, 1)
    slow = own.submit(wait_for, str(gate))
    dependent = own.submit(say, note, path, slow, failed)
    last = own.submit(say, dependent)

    error: Any = last.exception(SOON)
    assert not slow.done()
    gate.touch()
    assert slow.result(SOON) is None
    assert error is failed.exception()
    assert isinstance(error.__cause__, RemoteTraceback)
    assert error.item.text == "refuse(1)"
    assert not Path(path).exists()


def test_what_needs_a_cancelled_future_is_cancelled_and_can_be_itself(own: Cluster) -> None:
    foreign: Future[int] = Future()
    other: Future[int] = Future()
    first, second = own.submit(say, foreign), own.submit(say, other)
    third = own.submit(say, second)

    foreign.cancel()
    cancelled = second.cancel()
    done, _ = concurrent.futures.wait([first, second, third], timeout=SOON)

    assert cancelled
    assert done == {first, second, third}
    assert all(future.cancelled() for future in done)
    other.set_result(1)


# Executors.


def test_map_gives_results_in_order_and_has_a_timeout(executor: stoker.Executor, gate: Path) -> None:
    assert isinstance(executor, concurrent.futures.Executor)
    assert list(executor.map(pow, range(50), range(2, 100), chunksize=7)) == [
        number ** (number + 2) for number in range(50)
    ]

    results = executor.map(wait_for, ["/", str(gate)], timeout=2.0)
    assert next(results) is None
    with pytest.raises(TimeoutError):
        next(results)
    gate.touch()
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor.map(square, [1], chunksize=0)
    refusals = executor.map(refuse, [1, 2])
    with pytest.raises(OddError):
        next(refusals)


def test_leaving_an_executor_waits_for_its_calls(own: Cluster, tmp_path: Path) -> None:
    path = str(tmp_path / "ran")
    before = _list_threads()

    with own.executor() as executor:
        futures = [executor.submit(note, path, str(number), 0.01) for number in range(50)]
        dependent = executor.submit(say, futures[-1])

    assert all(future.done() for future in (*futures, dependent))
    assert sorted(map(int, Path(path).read_text().split())) == list(range(50))
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(square, 1)
    assert _list_threads() <= before


def test_a_shutdown_that_does_not_wait_lets_calls_finish(own: Cluster) -> None:
    executor = own.executor()
    future = executor.submit(time.sleep, 2)

    executor.shutdown(wait=False)
    done = future.done()

    assert not done
    assert future.result(SOON) is None
    executor.shutdown()


def test_a_shutdown_may_cancel_what_waits(
    own: Cluster, busy: Callable[..., None], release: Callable[[], None], tmp_path: Path
) -> None:
    path = str(tmp_path / "ran")
    executor = own.executor()
    busy(executor)
    foreign: Future[int] = Future()

    waiting = [executor.submit(note, path, str(number)) for number in range(10)]
    dependent = executor.submit(say, foreign)
    executor.shutdown(wait=False, cancel_futures=True)
    release()
    executor.shutdown()

    assert all(future.cancelled() for future in (*waiting, dependent))
    assert not Path(path).exists()


def test_an_unused_executor_is_shut_down_at_once(own: Cluster) -> None:
    own.executor().shutdown()


@pytest.mark.long
def test_an_idle_executor_costs_no_cpu_and_its_thread_ends(own: Cluster, wait_until: Callable[..., Any]) -> None:
    executor = own.executor()
    before = _list_threads()
    executor.submit(square, 1).result(SOON)
    (thread,) = _list_threads() - before

    begin = _read_cpu(thread)
    time.sleep(1.0)
    spent = _read_cpu(thread) - begin
    gone = wait_until(lambda: not thread.is_alive(), timeout=20.0)
    again = executor.submit(square, 3).result(SOON)

    assert spent <= 0.02
    assert gone
    assert again == 9
    executor.shutdown()


def test_the_summary_tells_what_was_done(own: Cluster) -> None:
    with own.executor(label="squares") as executor:
        concurrent.futures.wait([executor.submit(square, number) for number in range(1000)])
        executor.submit(refuse, 1).exception(SOON)
    summary = executor.summary

    assert (summary.label, summary.items, summary.failures, summary.deaths, summary.again) == ("squares", 1001, 1, 0, 0)
    assert sum(share.items for share in summary.engines) == 1001
    assert {share.engine for share in summary.engines} <= set(range(ENGINES))
    assert repr(executor) == f"<stoker.Executor {summary}>"


# Where waiting would have no end.


def test_a_callback_that_waits_for_another_call_is_told_so(own: Cluster) -> None:
    caught: Future[Any] = Future()

    def wait(future: Future[Any]) -> None:
        try:
            caught.set_result(own.submit(square, 2).result())
        except DeadlockError as error:
            caught.set_exception(error)

    own.submit(time.sleep, 0.2).add_done_callback(wait)

    with pytest.raises(DeadlockError, match="a callback waits for a call on the same engines"):
        caught.result(SOON)


def test_a_callback_may_submit_and_look_but_not_wait(own: Cluster) -> None:
    caught: Future[Any] = Future()

    def go_on(future: Future[Any]) -> None:
        following = own.submit(square, 3)
        try:
            following.result(timeout=0)
        except TimeoutError:
            following.add_done_callback(lambda done: caught.set_result(done.result()))

    own.submit(time.sleep, 0.2).add_done_callback(go_on)

    assert caught.result(SOON) == 9


def test_a_callback_that_waits_for_all_calls_is_told_so(own: Cluster) -> None:
    caught: Future[Any] = Future()
    executor = own.executor()

    def wait(future: Future[Any]) -> None:
        try:
            caught.set_result(executor.shutdown())
        except DeadlockError as error:
            caught.set_exception(error)

    executor.submit(time.sleep, 0.2).add_done_callback(wait)

    with pytest.raises(DeadlockError, match="a callback waits for the end of all calls"):
        caught.result(SOON)
    executor.shutdown()


def _nest(profile: str, ipython_dir: str, depth: int, patience: float) -> int:
    with stoker.connect(profile, ipython_dir=ipython_dir) as cluster, cluster.executor(patience=patience) as executor:
        return int(executor.submit(abs if depth == 0 else _nest, -1).result()) + 1


def test_a_task_may_wait_for_calls_on_other_engines(own: Cluster) -> None:
    directory = os.environ["IPYTHONDIR"]
    where = _find_ipython_dir(own)

    assert directory != where
    assert own.submit(_nest, "own", where, 0, LONG).result(20) == 2


def test_a_task_that_waits_for_a_call_on_the_only_engine_is_told_so(start: Callable[..., Cluster]) -> None:
    cluster = start(ALONE)

    future = cluster.submit(_nest, "lab", os.environ["IPYTHONDIR"], 0, 2.0)

    with pytest.raises(DeadlockError, match="runs on the only engine"):
        future.result(30)


def test_tasks_that_keep_all_engines_waiting_are_told_so(own: Cluster) -> None:
    futures = [own.submit(_nest, "own", _find_ipython_dir(own), 0, 3.0) for _ in range(ENGINES)]
    outcomes = [future.exception(60) for future in futures]

    assert any(isinstance(outcome, DeadlockError) for outcome in outcomes), outcomes
    assert all(outcome is None or "no engine has begun this call for 3 s" in str(outcome) for outcome in outcomes)


# When things end.


def test_closing_the_connection_resolves_what_is_under_way(start: Callable[..., Cluster]) -> None:
    cluster = start(SPEC)
    before = _list_threads()
    running = [cluster.submit(time.sleep, LONG) for _ in range(ENGINES)]
    waiting = [cluster.submit(time.sleep, LONG) for _ in range(20)]
    time.sleep(0.5)

    begin = time.monotonic()
    cluster.close()
    seconds = time.monotonic() - begin

    assert seconds < SOON
    assert all(isinstance(future.exception(0), ConnectError) for future in running)
    assert all(future.done() for future in waiting)
    assert _list_threads() <= before


def test_closing_the_client_under_it_resolves_what_is_under_way(start: Callable[..., Cluster]) -> None:
    cluster = start(SPEC)
    futures = [stoker.submit(cluster.view, time.sleep, LONG) for _ in range(20)]
    time.sleep(0.5)

    cluster.client.close()

    assert all(isinstance(future.exception(SOON), ConnectError) for future in futures)


def test_without_engines_futures_end_within_patience(
    start: Callable[..., Cluster], wait_until: Callable[..., Any]
) -> None:
    cluster = start(SPEC)
    cluster.scale(0)
    wait_until(lambda: cluster.client.ids == [])

    with cluster.executor(patience=1) as executor:
        futures = [executor.submit(square, number) for number in range(100)]
        errors = [future.exception(SOON) for future in futures]

    assert {type(error) for error in errors} == {NoEnginesError}
    assert len(set(map(id, errors))) == 100


def _run_program(text: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *args], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_program_that_ends_finishes_its_calls_first(own: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "ran"
    text = """
    import sys, time, concurrent.futures
    import stoker
    def note(path, word):
        time.sleep(0.02)
        with open(path, "a") as file:
            file.write(f"{word}\\n")
        return word
    cluster = stoker.connect("own", ipython_dir=sys.argv[1])
    futures = [cluster.submit(note, sys.argv[2], number) for number in range(50)]
    cluster.submit(note, sys.argv[2], futures[-1])
    cluster.submit(note, sys.argv[2], concurrent.futures.Future())
    print("ends")
    """

    begin = time.monotonic()
    ended = _run_program(text, _find_ipython_dir(own), str(path))
    seconds = time.monotonic() - begin

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ends\n", "")
    assert sorted(map(int, path.read_text().split())) == sorted([*range(50), 49])
    assert seconds < 15


def test_an_idle_executor_keeps_no_program_alive(own: Cluster) -> None:
    text = """
    import sys, time, stoker
    cluster = stoker.connect("own", ipython_dir=sys.argv[1])
    print(cluster.submit(abs, -3).result())
    begin = time.monotonic()
    import atexit
    atexit.register(lambda: print(time.monotonic() - begin < 5.0))
    """

    ended = _run_program(text, _find_ipython_dir(own))

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "3\nTrue\n", "")


def test_a_process_that_was_forked_is_told_that_calls_are_not_its_own(own: Cluster) -> None:
    text = """
    import os, sys, time, stoker
    cluster = stoker.connect("own", ipython_dir=sys.argv[1])
    future = cluster.submit(time.sleep, 0.5)
    pid = os.fork()
    if pid == 0:
        for attempt in (future.result, lambda: cluster.submit(abs, 1)):
            try:
                attempt()
            except stoker.StokerError as error:
                print(error, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    print(future.result())
    """

    ended = _run_program(text, _find_ipython_dir(own))

    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [
        "this call was made by the process that this one was forked from: its result goes there",
        "this executor belongs to the process that this one was forked from: connect again",
        "None",
    ]


# asyncio.


def test_futures_and_executors_work_with_asyncio(own: Cluster, executor: stoker.Executor) -> None:
    async def work() -> list[Any]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            asyncio.wrap_future(own.submit(square, 3)),
            loop.run_in_executor(executor, square, 4),
            *(loop.run_in_executor(executor, functools.partial(square, number)) for number in range(100)),
        )

    assert asyncio.run(work()) == [9, 16, *(number * number for number in range(100))]


def test_amap_leaves_the_loop_free(own: Cluster) -> None:
    async def work() -> tuple[list[int], list[int], int]:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        turning = asyncio.create_task(turn())
        results = await own.amap(lambda item: time.sleep(0.01) or item, range(100))
        taken = [item async for item in own.aimap(square, iter(range(1000)))]
        turning.cancel()
        return results, taken, turns

    results, taken, turns = asyncio.run(work())

    assert results == list(range(100))
    assert taken == [item * item for item in range(1000)]
    assert turns > 20


def test_errors_of_amap_are_those_of_map(own: Cluster) -> None:
    with pytest.raises(OddError):
        asyncio.run(own.amap(refuse, [1]))
    with pytest.raises(StokerError, match="retries must be"):
        asyncio.run(own.amap(refuse, [1], retries=-1))
    with pytest.raises(StokerError, match="retries must be"):
        own.aimap(refuse, [1], retries=-1)


def test_cancelling_amap_cancels_the_map(own: Cluster, tmp_path: Path) -> None:
    path = str(tmp_path / "ran")

    def has_begun() -> bool:
        return Path(path).exists() and len(Path(path).read_text().split()) >= ENGINES

    async def work() -> float:
        task = asyncio.create_task(own.amap(functools.partial(note, path), map(str, range(100)), [LONG] * 100))
        async with asyncio.timeout(SOON):
            while not has_begun():
                await asyncio.sleep(0.02)
        begin = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - begin

    seconds = asyncio.run(work())
    begun = len(Path(path).read_text().split())
    after = own.map(square, range(100))

    assert seconds < 15
    assert begun <= ENGINES
    assert after == [item * item for item in range(100)]


def test_leaving_aimap_early_cancels_the_rest(own: Cluster, tmp_path: Path) -> None:
    path = str(tmp_path / "ran")

    # Of no module, which engines would ask for first, to get the batches again in another order.
    def begin_item(item: int) -> int:
        with open(path, "a") as file:  # noqa: PTH123 - on an engine
            file.write(f"{item}\n")
        time.sleep(LONG if item else 0.01)
        return item

    async def work() -> tuple[Any, float]:
        results = own.aimap(begin_item, range(100), ordered=False, batch=1)
        first = await anext(results)
        begin = time.monotonic()
        await results.aclose()
        return first, time.monotonic() - begin

    first, seconds = asyncio.run(work())
    begun = len(Path(path).read_text().split())

    assert first == 0
    assert seconds < 15
    assert own.map(square, [3]) == [9]
    assert len(Path(path).read_text().split()) == begun


def _list_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "stoker-submit"}


def _read_cpu(thread: threading.Thread) -> float:
    fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _find_ipython_dir(cluster: Cluster) -> str:
    return str(cluster._address.directory.path.parent)
