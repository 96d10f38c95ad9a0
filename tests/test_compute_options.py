"""The options of a map: each impossible value is refused at birth, with the one error that says what would do."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from stoker.compute import MapOptions
from stoker.errors import StokerError

_MOST = f"at most {threading.TIMEOUT_MAX:.0f} s"
_TIMEOUT = f"map: timeout must be more than 0 s and {_MOST}, or None"
_RETRIES = "map: retries must be a whole number, 0 or more"
_RETRY_ON = "map: retry_on must be an exception class, or a tuple of them"
_BATCH = "map: batch must be a whole number of items, or None"
_ON_ERROR = "map: on_error must be 'raise', 'return' or 'skip'"
_PATIENCE = "map: patience must be 0 s or more"


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("timeout", 0, _TIMEOUT),
        ("timeout", -1.5, _TIMEOUT),
        ("timeout", float("nan"), _TIMEOUT),
        ("timeout", float("inf"), _TIMEOUT),
        ("timeout", "5", _TIMEOUT),
        ("timeout", True, _TIMEOUT),
        ("retries", -1, _RETRIES),
        ("retries", 1.0, _RETRIES),
        ("retries", True, _RETRIES),
        ("retries", None, _RETRIES),
        ("retry_on", "OSError", _RETRY_ON),
        ("retry_on", int, _RETRY_ON),
        ("retry_on", None, _RETRY_ON),
        ("retry_on", [OSError], _RETRY_ON),
        ("retry_on", (OSError, 3), _RETRY_ON),
        ("batch", 0, "map: batch must be 1 or more, or None"),
        ("batch", -7, "map: batch must be 1 or more, or None"),
        ("batch", 2.0, _BATCH),
        ("batch", True, _BATCH),
        ("batch", "8", _BATCH),
        ("on_error", "ignore", _ON_ERROR),
        ("on_error", None, _ON_ERROR),
        ("on_error", ["raise"], _ON_ERROR),
        ("progress", "yes", "map: progress must be True, False or a function"),
        ("progress", None, "map: progress must be True, False or a function"),
        ("patience", -0.1, _PATIENCE),
        ("patience", float("nan"), _PATIENCE),
        ("patience", "300", _PATIENCE),
        ("patience", None, _PATIENCE),
    ],
    ids=repr,
)
def test_an_impossible_value_is_refused(option: str, value: Any, problem: str) -> None:
    with pytest.raises(StokerError) as caught:
        MapOptions(**{option: value})

    assert str(caught.value) == f"{problem}, got {value!r}"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout", None),
        ("timeout", 1),
        ("timeout", 0.001),
        ("timeout", threading.TIMEOUT_MAX),
        ("retries", 0),
        ("retry_on", OSError),
        ("retry_on", (OSError, KeyboardInterrupt)),
        ("retry_on", ()),
        ("batch", 1),
        ("batch", 10**9),
        ("on_error", "return"),
        ("on_error", "skip"),
        ("progress", True),
        ("progress", print),
        ("patience", 0),
        ("patience", float("inf")),
    ],
    ids=repr,
)
def test_a_possible_value_is_kept(option: str, value: Any) -> None:
    assert getattr(MapOptions(**{option: value}), option) is value


def test_an_option_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'time_out'"):
        MapOptions(time_out=3)  # type: ignore[call-arg]
