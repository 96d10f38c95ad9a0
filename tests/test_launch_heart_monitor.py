from __future__ import annotations

import pytest

from stoker.launch.heart_monitor import pick_pause


@pytest.mark.parametrize(
    ("period", "misses", "pause"),
    [
        pytest.param(100, 1500, 500, id="quick, and a patience of minutes"),
        pytest.param(100, 20, 200, id="as many beats as the patience allows"),
        pytest.param(100, 3, 100, id="never quicker than it was told"),
        pytest.param(500, 1500, 500, id="as slow as it gets"),
        pytest.param(3000, 10, 3000, id="ipyparallel's default"),
    ],
)
def test_a_pause_is_long_where_nobody_has_less_patience(period: int, misses: int, pause: int) -> None:
    assert pick_pause(period, misses) == pause
