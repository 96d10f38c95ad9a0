from __future__ import annotations

import os
from pathlib import Path

import pytest

from stoker.launch.lease import Lease, read_mark


def _over_at(looks: list[tuple[float, int | None]], *, seconds: float) -> float | None:
    lease = Lease(seconds, mark=1, now=0.0)
    return next((now for now, mark in looks if lease.is_over(mark=mark, now=now)), None)


@pytest.mark.parametrize(
    ("looks", "over"),
    [
        pytest.param([(now, 1) for now in range(1, 20)], 11, id="nobody touches it"),
        pytest.param([(now, 1 + now // 5) for now in range(1, 60)], None, id="touched every five seconds"),
        pytest.param([(now, 1 if now < 5 else 2) for now in range(1, 40)], 16, id="touched once"),
        pytest.param([(now, None) for now in range(1, 20)], 11, id="missing counts as unchanged"),
        pytest.param([(now, None if 3 < now < 8 else 1) for now in range(1, 20)], 11, id="back as it was"),
        pytest.param([(1, 1), (61, 1), (121, 1), (122, 1)], None, id="stopped for long between looks"),
    ],
)
def test_a_lease_runs_out_in_the_running_time_of_its_holder(
    looks: list[tuple[float, int | None]], over: float | None
) -> None:
    assert _over_at(looks, seconds=10.0) == over


@pytest.mark.parametrize(("seconds", "period"), [(120.0, 1.0), (2.0, 0.5)])
def test_a_short_lease_is_looked_at_more_often(seconds: float, period: float) -> None:
    assert Lease(seconds, mark=None, now=0.0).period == period


def test_the_mark_of_a_file_changes_when_it_is_touched(tmp_path: Path) -> None:
    file = tmp_path / "lease"
    missing = read_mark(file)
    file.touch()

    os.utime(file, ns=(5, 7))

    assert (missing, read_mark(file)) == (None, 7)
