from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from examples import examples
from stoker.errors import ProfileError
from stoker.profile.block import remove_block, render_block, replace_block

FILE = Path("/lab/ipcontroller_config.py")
BODY = render_block({"IPController.client_ip": "127.0.0.1", "TaskScheduler.hwm": 1})
BLOCK = b"""\
# >>> stoker >>> edit the spec, not these lines: `stoker apply` writes them anew
c = get_config()  # noqa
c.IPController.client_ip = '127.0.0.1'
c.TaskScheduler.hwm = 1
# <<< stoker <<<
"""

_WORDS = st.sampled_from(
    [*"a=#\t \f\\'", "c = get_config()", "# >>> stoker", ">>> stoker >>>", " # <<< stoker <<<", "Käse", "🧀"]
)
_LINES = st.lists(_WORDS, max_size=4).map("".join)
_ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"])


@st.composite
def _texts(draw: st.DrawFn) -> bytes:
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text = newline.join(draw(st.lists(_LINES, max_size=5))) + draw(st.sampled_from(["", newline]))
    return text.encode(draw(_ENCODINGS), errors="replace")


TEXTS = st.one_of(_texts(), st.binary(max_size=40))


def _is_free_of_marks(text: bytes) -> bool:
    return not any(line.startswith((b"# >>> stoker >>>", b"# <<< stoker <<<")) for line in text.split(b"\n"))


@settings(max_examples=examples(300), deadline=None)
@given(text=TEXTS)
def test_a_block_that_is_put_in_and_taken_out_leaves_every_byte_as_it_was(text: bytes) -> None:
    assume(_is_free_of_marks(text))

    there = replace_block(FILE, text, BODY)

    assert there.startswith(text)
    assert remove_block(FILE, there) == text


@settings(max_examples=examples(200), deadline=None)
@given(text=st.none() | TEXTS)
def test_putting_the_block_in_twice_is_putting_it_in_once(text: bytes | None) -> None:
    assume(text is None or _is_free_of_marks(text))

    once = replace_block(FILE, text, BODY)

    assert replace_block(FILE, once, BODY) == once


@settings(max_examples=examples(200), deadline=None)
@given(text=st.none() | TEXTS)
def test_a_new_block_takes_the_place_of_an_old_one(text: bytes | None) -> None:
    assume(text is None or _is_free_of_marks(text))
    other = render_block({"Cluster.n": 2})

    there = replace_block(FILE, replace_block(FILE, text, BODY), other)

    assert there == replace_block(FILE, text, other)


@settings(max_examples=examples(200), deadline=None)
@given(above=TEXTS, below=TEXTS)
def test_what_the_user_writes_below_the_block_stays_byte_for_byte(above: bytes, below: bytes) -> None:
    assume(_is_free_of_marks(above) and _is_free_of_marks(below))
    kept = above + b"\n" if above and below and not above.endswith(b"\n") else above

    edited = replace_block(FILE, above, BODY) + below
    again = replace_block(FILE, edited, BODY)

    assert remove_block(FILE, edited) == remove_block(FILE, again) == kept + below
    assert again.startswith(kept + below)
    assert again.count(BODY) == 1


@settings(max_examples=examples(100), deadline=None)
@given(text=_texts())
def test_an_editor_that_changes_all_line_ends_leaves_a_block_that_is_found(text: bytes) -> None:
    assume(_is_free_of_marks(text) and b"\r" not in text)
    there = replace_block(FILE, text, BODY)

    edited = there.replace(b"\n", b"\r\n")

    assert remove_block(FILE, edited) in (text.replace(b"\n", b"\r\n"), text.replace(b"\n", b"\r\n") + b"\r")


def test_an_editor_that_drops_the_last_newline_leaves_a_block_that_is_found() -> None:
    there = replace_block(FILE, b"x = 1\n", BODY)

    assert remove_block(FILE, there.removesuffix(b"\n")) == b"x = 1\n"


def test_the_block_stands_at_the_end() -> None:
    there = replace_block(FILE, b"x = 1\n", BODY)

    assert there == b"x = 1\n" + BLOCK


def test_a_newline_that_the_last_line_lacked_is_noted_in_the_block() -> None:
    there = replace_block(FILE, b"x = 1", BODY)

    assert there == b"x = 1\n" + BLOCK.replace(b"anew\n", b"anew (added a newline)\n")


def test_a_file_that_stoker_made_is_gone_with_its_block() -> None:
    there = replace_block(FILE, None, BODY)

    assert there == BLOCK.replace(b"anew\n", b"anew (created this file)\n")
    assert remove_block(FILE, there) is None


def test_a_file_that_stoker_made_and_the_user_wrote_into_stays() -> None:
    there = replace_block(FILE, None, BODY)

    assert remove_block(FILE, b"x = 1\n" + there) == b"x = 1\n"


def test_a_block_in_mid_file_moves_to_the_end_where_it_beats_everything_above() -> None:
    there = replace_block(FILE, b"x = 1\n" + BLOCK + b"y = 2\n", BODY)

    assert there == b"x = 1\ny = 2\n" + BLOCK


def test_no_file_has_no_block() -> None:
    assert remove_block(FILE, None) is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"x = 1\n# >>> stoker >>>\nc.Cluster.n = 2\n", id="begin alone"),
        pytest.param(b"x = 1\n# <<< stoker <<<\n", id="end alone"),
        pytest.param(b"# <<< stoker <<<\n# >>> stoker >>>\n", id="end before begin"),
        pytest.param(BLOCK + b"# <<< stoker <<<\n", id="one end too many"),
        pytest.param(BLOCK.removesuffix(b"# <<< stoker <<<\n"), id="block without its end"),
        pytest.param(BLOCK.partition(b"\n")[2], id="block without its begin"),
    ],
)
def test_half_a_block_is_refused(text: bytes) -> None:
    with pytest.raises(ProfileError) as caught:
        replace_block(FILE, text, BODY)

    assert str(caught.value) == (
        "/lab/ipcontroller_config.py: holds half of stoker's block; "
        "remove the line that is left of it, then apply again"
    )


def test_traits_are_rendered_as_ascii_lines_that_python_reads() -> None:
    body = render_block(
        {"A.text": "Käse 'n' 🧀\n", "A.number": 0.2, "A.on": True, "A.list": [1, "x"], "A.table": {"OMP": "1"}}
    )

    assert body == (
        b"c = get_config()  # noqa\n"
        b"c.A.text = \"K\\xe4se 'n' \\U0001f9c0\\n\"\n"
        b"c.A.number = 0.2\n"
        b"c.A.on = True\n"
        b"c.A.list = [1, 'x']\n"
        b"c.A.table = {'OMP': '1'}\n"
    )
