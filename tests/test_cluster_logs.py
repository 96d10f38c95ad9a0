"""The lines of a log that tell why its process failed."""

from __future__ import annotations

import pytest

from stoker.cluster.logs import choose_lines, find_dropped_config

TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "prepare.py", line 1, in <module>',
    "    import nothing",
    "ModuleNotFoundError: No module named 'nothing'",
]


@pytest.mark.parametrize(
    ("lines", "count", "expected"),
    [
        pytest.param([], 3, [], id="an empty log"),
        pytest.param(["one", "two", "three"], 2, ["two", "three"], id="no exception: the last lines"),
        pytest.param(["one", *TRACEBACK, "bye", "bye"], 4, TRACEBACK, id="what ends with the exception"),
        pytest.param(["one", *TRACEBACK], 9, ["one", *TRACEBACK], id="less than asked for"),
        pytest.param([*TRACEBACK, "KeyError: 'x'", "z"], 1, ["KeyError: 'x'"], id="the last of two"),
        pytest.param(["zmq.error.ZMQError: Address already in use"], 1, ..., id="a dotted name"),
        pytest.param(["KeyboardInterrupt", "x"], 1, ["KeyboardInterrupt"], id="without a message"),
        pytest.param(["an Error was here", "x"], 1, ["x"], id="a sentence is no exception"),
        pytest.param(["  ValueError: indented", "x"], 1, ["x"], id="source code is no exception"),
        pytest.param(["ErrorLog: opened", "x"], 1, ["x"], id="a name that only begins so"),
    ],
)
def test_the_lines_that_end_with_the_last_exception_are_chosen(
    lines: list[str], count: int, expected: list[str]
) -> None:
    chosen = choose_lines(lines, count)

    assert chosen == tuple(lines if expected is ... else expected)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        (["all is well"], None),
        (
            ["a", "2026-01-01 [IPController] ERROR | Exception while loading config file /p/ipcontroller_config.py"],
            "/p/ipcontroller_config.py",
        ),
        (["Exception while loading config file /a b/c.py", "Exception while loading config file /d.py"], "/a b/c.py"),
    ],
)
def test_a_config_file_that_was_dropped_is_found_in_a_log(lines: list[str], expected: str | None) -> None:
    assert find_dropped_config(lines) == expected
