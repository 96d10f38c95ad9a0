"""Which batch is a straggler."""

from __future__ import annotations

import pytest

from stoker.compute.stragglers import Flight, choose_straggler

NOW = 100.0


def flight(number: int, seconds: float, *, expected: float | None = 0.1, twin: bool = False) -> Flight:
    return Flight(number=number, since=NOW - seconds, expected=expected, twin=twin)


@pytest.mark.parametrize(
    ("flights", "longest", "chosen"),
    [
        pytest.param([], 0.1, None, id="nothing is under way"),
        pytest.param([flight(1, 0.9)], 0.1, None, id="less than a second is nothing"),
        pytest.param([flight(1, 1.1)], 0.1, 1, id="more than a second, and three times its peers"),
        pytest.param([flight(1, 1.1, expected=0.5)], 0.1, None, id="not yet three times what its items take"),
        pytest.param([flight(1, 1.6, expected=0.5)], 0.1, 1, id="three times what its items take"),
        pytest.param([flight(1, 1.6)], 0.6, None, id="not yet three times the longest batch"),
        pytest.param([flight(1, 1.9)], 0.6, 1, id="three times the longest batch"),
        pytest.param([flight(1, 500.0, expected=None)], 0.0, None, id="no peer has come home"),
        pytest.param([flight(1, 50.0, twin=True)], 0.1, None, id="it is doubled already"),
        pytest.param([flight(1, 2.0), flight(2, 9.0), flight(3, 5.0)], 0.1, 2, id="the latest of several"),
        pytest.param(
            [flight(1, 9.0, expected=2.0), flight(2, 5.0)], 0.1, 2, id="the one that is the farthest beyond its time"
        ),
        pytest.param([flight(1, 9.0, twin=True), flight(2, 5.0)], 0.1, 2, id="one that is not doubled yet"),
        pytest.param([flight(1, -5.0)], 0.1, None, id="a clock that was set back"),
    ],
)
def test_a_straggler_takes_far_longer_than_its_peers(flights: list[Flight], longest: float, chosen: int | None) -> None:
    assert choose_straggler(flights, now=NOW, longest=longest) == chosen
