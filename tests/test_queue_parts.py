"""The pure parts of the queue: plain values, batches, calls; and the clock of its leases."""

from __future__ import annotations

import contextlib
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.errors import QueueError
from stoker.queue.batches import share_jobs, size_batch
from stoker.queue.calls import name_function, parse_calls
from stoker.queue.directory import Address, parse_address
from stoker.queue.outcome import pack_error, unpack_result
from stoker.queue.plain import PlainError, dump_plain, load_plain
from stoker.queue.primes import nth_prime
from stoker.system.clocks import RunningClock
from stoker.workloads.primes import nth_prime as workloads_nth_prime

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_come_back_as_they_were(value: object) -> None:
    assert load_plain(dump_plain(value)) == value


@given(st.binary(max_size=300))
def test_any_bytes_are_a_plain_value_or_refused(data: bytes) -> None:
    with contextlib.suppress(PlainError):
        load_plain(data)


@pytest.mark.parametrize("value", [print, Path(), OrderedDict(), ValueError("x"), int], ids=repr)
def test_whatever_names_a_class_or_function_is_refused(value: object) -> None:
    with pytest.raises(PlainError, match="is no plain value"):
        load_plain(pickle.dumps(value))


@given(st.integers(1, 10_000), st.integers(1, 10**6), st.integers(0, 300))
def test_a_share_is_at_least_one_job_and_never_more_than_wanted_or_there(
    wanted: int, waiting: int, workers: int
) -> None:
    assert 1 <= share_jobs(wanted=wanted, waiting=waiting, workers=workers) <= min(wanted, waiting)


@pytest.mark.parametrize(
    ("jobs", "seconds", "size"),
    [
        pytest.param(0, 0.0, 1, id="the first"),
        pytest.param(1, 0.0, 6, id="grows by a bounded factor"),
        pytest.param(1000, 0.001, 4000, id="up to a limit"),
        pytest.param(100, 1.0, 25, id="shrinks at once"),
        pytest.param(1, 60.0, 1, id="never below one"),
    ],
)
def test_batches_take_about_a_quarter_of_a_second(jobs: int, seconds: float, size: int) -> None:
    assert size_batch(jobs=jobs, seconds=seconds) == size


@pytest.mark.parametrize("function", [lambda: None, RunningClock(0.0, most=1.0).look], ids=["lambda", "bound method"])
def test_a_function_that_cannot_be_imported_by_name_is_refused(function: object) -> None:
    with pytest.raises(QueueError):
        name_function(function)  # type: ignore[arg-type]


def test_a_function_is_named_by_its_module() -> None:
    assert name_function(nth_prime) == "stoker.queue.primes:nth_prime"


def test_lines_of_json_become_arguments() -> None:
    lines = ['[1, "a"]\n', "\n", '{"b": 2}\n', "3\n"]

    assert list(parse_calls(lines, source="x")) == [((1, "a"), {}), ((), {"b": 2}), ((3,), {})]


@pytest.mark.parametrize("text", ["host", "host:", ":5", "host:0", "host:65536", "host:x"])
def test_an_address_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(QueueError, match="write an address as HOST:PORT"):
        parse_address(text)


def test_addresses_are_read_as_they_are_written() -> None:
    for address in (Address(host="node", port=5), Address(host="::1", port=65535)):
        assert parse_address(str(address)) == address


def test_an_exception_travels_with_its_traceback() -> None:
    try:
        {}["gone"]
    except KeyError as raised:
        payload = pack_error(raised)

    result = unpack_result((4, "f:g", "error", payload, None, "node", 9, 1, 0.1, 0.0))

    assert (result.ok, result.problem) == (False, "KeyError: 'gone'")
    with pytest.raises(KeyError) as caught:
        result.get()
    assert "from job 4, attempt 1, on node (process 9):\nTraceback" in caught.value.__notes__[0]


def test_time_in_which_a_process_could_not_run_does_not_count() -> None:
    clock = RunningClock(100.0, most=0.5)

    assert [clock.look(now) for now in (100.25, 100.5, 3700.0, 3700.25)] == [0.25, 0.5, 1.0, 1.25]


@pytest.mark.parametrize("index", [0, 1, 2, 10, 60])
def test_the_queues_primes_are_those_of_the_workloads(index: int) -> None:
    assert nth_prime(index) == workloads_nth_prime(index)
