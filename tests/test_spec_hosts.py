from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from stoker.spec.hosts import Address, expand_hosts, parse_address

_REFUSALS = ("must be ", "port must be", "a range must rise", '"')


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        pytest.param("node1", ("node1",), id="one"),
        pytest.param("me@gpu.lab:2222", ("me@gpu.lab:2222",), id="user and port"),
        pytest.param("node[1-3]", ("node1", "node2", "node3"), id="range"),
        pytest.param("node[1-3,7, 9-10]", ("node1", "node2", "node3", "node7", "node9", "node10"), id="several"),
        pytest.param("node[08-11]", ("node08", "node09", "node10", "node11"), id="leading zeros"),
        pytest.param("n[099-101]", ("n099", "n100", "n101"), id="leading zeros that end"),
        pytest.param("n[0-1]", ("n0", "n1"), id="from 0"),
        pytest.param("n[1-9/4]", ("n1", "n5", "n9"), id="steps"),
        pytest.param("me@n[1-2].lab:22", ("me@n1.lab:22", "me@n2.lab:22"), id="within"),
        pytest.param("r[1-2]n[3-4]", ("r1n3", "r1n4", "r2n3", "r2n4"), id="two dimensions"),
    ],
)
def test_a_set_is_expanded_in_order(text: str, hosts: tuple[str, ...]) -> None:
    assert expand_hosts(text) == hosts


@pytest.mark.parametrize("text", ["n[1-9999999999]", "n[1-200]m[1-200]", "n[1-9999][1-9999][1-9999][1-9999]"])
def test_a_set_that_is_too_large_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="at most 10000 are possible"):
        expand_hosts(text)


@settings(max_examples=examples(200), deadline=None)
@given(st.one_of(st.text(max_size=20), st.text("an1209-[],/@:. ", max_size=16)))
def test_any_text_is_expanded_or_refused_in_words(text: str) -> None:
    hosts, refusal = _read(text)

    assert (hosts is None) != (refusal is None)
    assert refusal is None or refusal.startswith(_REFUSALS)
    assert hosts is None or len(set(hosts)) == len(hosts) > 0
    assert hosts is None or all(parse_address(host).host in host for host in hosts)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        pytest.param("a", Address("a"), id="host"),
        pytest.param("me@a.lab", Address("a.lab", user="me"), id="user"),
        pytest.param("10.0.0.1:22", Address("10.0.0.1", port=22), id="port"),
        pytest.param("me@a:2222", Address("a", user="me", port=2222), id="all"),
    ],
)
def test_an_address_is_taken_apart_and_put_together(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


def _read(text: str) -> tuple[tuple[str, ...] | None, str | None]:
    try:
        return expand_hosts(text), None
    except ValueError as error:
        return None, str(error)
