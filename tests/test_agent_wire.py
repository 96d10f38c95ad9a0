from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.agent import wire
from stoker.agent.wire import LineBuffer, encode_line
from stoker.errors import StokerError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(messages=st.lists(st.dictionaries(st.text(), values, max_size=3)), sizes=st.lists(st.integers(1, 9), min_size=1))
def test_messages_arrive_whole_and_in_order_however_they_are_cut(
    messages: list[dict[str, Any]], sizes: list[int]
) -> None:
    data = b"".join(encode_line(message) for message in messages)
    buffer = LineBuffer()
    heard = []

    place = 0
    while data:
        size = sizes[place % len(sizes)]
        place += 1
        heard += buffer.feed(data[:size])
        data = data[size:]

    assert heard == messages


def test_a_message_is_one_line() -> None:
    assert encode_line({"do": "a\nb", "n": 1}) == b'{"do":"a\\nb","n":1}\n'


def test_half_a_message_is_none_yet() -> None:
    buffer = LineBuffer()

    assert buffer.feed(b'{"do":') == []
    assert buffer.feed(b"") == []
    assert buffer.feed(b'1}\n{"do":2}\n{') == [{"do": 1}, {"do": 2}]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\n", id="empty"),
        pytest.param(b"hello\n", id="text"),
        pytest.param(b"[1]\n", id="an array"),
        pytest.param(b"null\n", id="null"),
        pytest.param(b"\xff\xfe\n", id="no UTF-8"),
        pytest.param(b"[" * 100_000 + b"\n", id="deep"),
        pytest.param(b'{"a":1}{"b":2}\n', id="two in one line"),
    ],
)
def test_a_line_that_is_no_object_is_an_error(data: bytes) -> None:
    with pytest.raises(StokerError, match=r"^a line that is no JSON object$"):
        LineBuffer().feed(data)


def test_a_line_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_LONGEST", 10)
    buffer = LineBuffer()
    assert buffer.feed(b"x" * 10) == []

    with pytest.raises(StokerError, match=r"^a line of more than 10 bytes$"):
        buffer.feed(b"x")
