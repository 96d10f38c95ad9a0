"""Reverting: back to the bytes before stoker."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from examples import examples
from stoker.errors import ProfileError
from stoker.profile import ProfileDirectory, apply_plan, read_plan
from stoker.profile.block import replace_block, restore_text
from stoker.profile.retire import Retired, holds_retired_lines, restore_lines, retire_lines
from stoker.profile.revert import Conflict, read_reversion
from stoker.spec import ClusterSpec, parse_spec

FILE = Path("/lab/ipcontroller_config.py")
BODY = b"c = get_config()  # noqa\n"
LINES = st.lists(st.sampled_from(["c = 1", "x", "", "  y", "#stoker", "# stoker: no", "Käse", "\t"]), max_size=6)
TEXTS = st.one_of(
    st.builds(
        lambda lines, newline, last, bom: bom + (newline.join(lines) + (newline if last else "")).encode(),
        LINES,
        st.sampled_from(["\n", "\r\n", "\r"]),
        st.booleans(),
        st.sampled_from([b"", b"\xef\xbb\xbf"]),
    ),
    st.binary(max_size=60),
)


@pytest.fixture
def directory(home: Path) -> ProfileDirectory:
    return ProfileDirectory.of(ClusterSpec())


def _read(directory: ProfileDirectory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.path.glob("*") if path.is_file()}


@settings(max_examples=examples(300), deadline=None)
@given(text=TEXTS, data=st.data())
def test_lines_that_were_retired_and_restored_are_as_before(text: bytes, data: st.DataObject) -> None:
    assume(not holds_retired_lines(text))
    count = len(text.removeprefix(b"\xef\xbb\xbf").splitlines())
    picked = data.draw(st.sets(st.integers(1, count), max_size=3)) if count else set()
    statements = tuple(Retired(first=line, last=line, reason="old: ä") for line in sorted(picked))

    there = retire_lines(text, statements)

    assert restore_lines(there) == text
    assert (there != text) == bool(statements)


@settings(max_examples=examples(300), deadline=None)
@given(text=st.none() | TEXTS, retire=st.booleans())
def test_a_text_that_was_patched_and_restored_is_as_before(text: bytes | None, retire: bool) -> None:
    assume(text is None or not (holds_retired_lines(text) or b"stoker >>>" in text or b"stoker <<<" in text))
    first = Retired(first=1, last=1, reason="old")
    retired = (first,) if retire and text and text.removeprefix(b"\xef\xbb\xbf").splitlines() else ()

    once = replace_block(FILE, text, BODY, retired=retired)
    twice = replace_block(FILE, once, BODY + b"c.A.b = 1\n")

    assert restore_text(FILE, once) == text
    assert restore_text(FILE, twice) == text


def test_retired_lines_keep_the_line_ends_of_the_file() -> None:
    there = retire_lines(b"a\r\nb = (1,\r\n  2)\r\nc", (Retired(first=2, last=3, reason="why"),))

    assert there == b"a\r\n#stoker: why\r\n#stoker# b = (1,\r\n#stoker#   2)\r\nc"


def test_lines_that_only_look_retired_are_refused_and_not_touched() -> None:
    with pytest.raises(ProfileError) as caught:
        replace_block(FILE, b"#stoker# x\nc.A.b = 1\n", BODY, retired=(Retired(first=2, last=2, reason="old"),))

    assert "lines that begin with #stoker" in str(caught.value)


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=LINES.map(lambda lines: "".join(f"# {line}\n" for line in lines).encode()))
def test_reverting_an_applied_profile_gives_back_every_byte(directory: ProfileDirectory, text: bytes) -> None:
    directory.path.mkdir(parents=True, exist_ok=True)
    (directory.path / "ipcontroller_config.py").write_bytes(text)
    before = _read(directory)

    apply_plan(read_plan(ClusterSpec()))
    applied = _read(directory)
    apply_plan(read_reversion(directory).plan)

    assert applied != before
    assert _read(directory) == before


def test_what_the_user_wrote_since_then_stays(directory: ProfileDirectory) -> None:
    apply_plan(read_plan(ClusterSpec()))
    file = directory.path / "ipengine_config.py"
    file.write_bytes(b"above = 1\n" + file.read_bytes() + b"below = 2\n")

    apply_plan(read_reversion(directory).plan)

    assert _read(directory) == {"ipengine_config.py": b"above = 1\nbelow = 2\n"}


def test_a_line_written_by_hand_into_the_block_is_named(directory: ProfileDirectory) -> None:
    apply_plan(read_plan(ClusterSpec()))
    file = directory.path / "ipython_config.py"
    file.write_bytes(file.read_bytes().replace(b"# <<<", b"c.InteractiveShell.colors = 'Linux'\n# <<<"))

    conflicts = read_reversion(directory).conflicts

    assert conflicts == (Conflict(path=file, line=3, text="c.InteractiveShell.colors = 'Linux'"),)


def test_reverting_twice_changes_nothing(directory: ProfileDirectory) -> None:
    apply_plan(read_plan(parse_spec({"engines": [{"count": 2}]})))
    apply_plan(read_reversion(directory).plan)

    again = read_reversion(directory)

    assert not again.plan
    assert again.conflicts == ()


def test_a_profile_that_is_not_there_is_refused(directory: ProfileDirectory) -> None:
    with pytest.raises(ProfileError) as caught:
        read_reversion(directory)

    assert str(caught.value) == f"{directory.path}: there is no such profile"
