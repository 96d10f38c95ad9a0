from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from stoker.spec.ports import PORTS_NEEDED, PortPools, parse_ports, share_ports

PORTS = st.integers(1, 65535)
_REFUSALS = ("must be a range such as", "ports must rise and lie in", "a port is named twice")


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        pytest.param("10101", (10101,), id="one"),
        pytest.param("10101-10103", (10101, 10102, 10103), id="range"),
        pytest.param("10101-10101", (10101,), id="range of one"),
        pytest.param("5-6,1-2,65535", (5, 6, 1, 2, 65535), id="several, in their order"),
        pytest.param(" 1 - 3 , 7 ", (1, 2, 3, 7), id="blanks"),
    ],
)
def test_a_text_names_ports(text: str, ports: tuple[int, ...]) -> None:
    assert parse_ports(text) == ports


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(PORTS, min_size=1, max_size=30, unique=True))
def test_ports_written_as_text_are_read_back(ports: list[int]) -> None:
    assert parse_ports(",".join(str(port) for port in ports)) == tuple(ports)


@settings(max_examples=examples(200), deadline=None)
@given(st.one_of(st.text(max_size=20), st.text("0123456789-, ", max_size=20)))
def test_any_text_is_read_as_ports_or_refused_in_words(text: str) -> None:
    ports, refusal = _read(text)

    assert (ports is None) != (refusal is None)
    assert refusal is None or refusal.startswith(_REFUSALS)
    assert ports is None or (len(set(ports)) == len(ports) > 0 and all(1 <= port <= 65535 for port in ports))


def test_exactly_enough_ports_are_all_shared_out() -> None:
    pools = share_ports(tuple(range(10101, 10119)))

    assert pools == PortPools(
        engine=(10101, 10102, 10103, 10104, 10105, 10106, 10107, 10108, 10109),
        client=(10110, 10111, 10112, 10113, 10114, 10115),
        internal=(10116, 10117, 10118),
    )


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(PORTS, min_size=PORTS_NEEDED, max_size=60, unique=True))
def test_no_port_is_in_two_pools_and_the_first_ones_are_used_in_order(ports: list[int]) -> None:
    pools = share_ports(tuple(ports))

    assert pools.all == (*pools.engine, *pools.client, *pools.internal) == tuple(ports[:PORTS_NEEDED])
    assert len(set(pools.all)) == PORTS_NEEDED


@pytest.mark.parametrize("count", [0, 1, PORTS_NEEDED - 1])
def test_too_few_ports_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"^{count} ports are too few: a controller needs 18 \(9 for engines"):
        share_ports(tuple(range(1, count + 1)))


def _read(text: str) -> tuple[tuple[int, ...] | None, str | None]:
    try:
        return parse_ports(text), None
    except ValueError as error:
        return None, str(error)
