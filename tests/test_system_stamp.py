"""Stamps: files that are as they were are recognised, any change is seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stoker.system.stamp import make_stamp, read_stamp, write_stamp


def test_a_stamp_reads_back_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    stamp = make_stamp([tmp_path / "there", tmp_path / "gone"], circumstances={"cores": "2"}, lines=["all is well"])

    write_stamp(tmp_path / "stamp", stamp)

    assert read_stamp(tmp_path / "stamp") == stamp
    assert stamp.holds({"cores": "2"})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda there, gone: there.write_text("y"), id="changed"),
        pytest.param(lambda there, gone: there.unlink(), id="removed"),
        pytest.param(lambda there, gone: gone.write_text(""), id="appeared"),
    ],
)
def test_any_change_of_a_file_is_seen(tmp_path: Path, change: Callable[[Path, Path], object]) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.write_text("x")
    stamp = make_stamp([there, gone], circumstances={}, lines=[])

    change(there, gone)

    assert not stamp.holds({})


def test_other_circumstances_are_seen(tmp_path: Path) -> None:
    stamp = make_stamp([], circumstances={"cores": "2"}, lines=[])

    assert not stamp.holds({"cores": "4"})


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"format": 0}', b"null"])
def test_what_is_no_stamp_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "stamp").write_bytes(text)

    assert read_stamp(tmp_path / "stamp") is None
    assert read_stamp(tmp_path / "missing") is None
