from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stoker.system.files import (
    append_log,
    make_directory,
    read_last_lines,
    read_or_none,
    remove_file,
    trim_log,
    write_file,
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "place"
    directory.mkdir()
    return directory


@pytest.fixture(autouse=True)
def _usual_umask() -> Any:
    before = os.umask(0o022)
    yield
    os.umask(before)


def _mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


def _content(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir()}


def test_a_new_file_is_its_owners_alone(place: Path) -> None:
    write_file(place / "a.txt", b"new")

    assert _content(place) == {"a.txt": b"new"}
    assert _mode(place / "a.txt") == "0o600"


def test_a_new_file_gets_the_mode_that_is_asked_for_whatever_the_umask(place: Path) -> None:
    os.umask(0o077)

    write_file(place / "a.txt", b"new", mode=0o664)

    assert _mode(place / "a.txt") == "0o664"


@pytest.mark.parametrize("mode", [0o400, 0o644, 0o640, 0o755, 0o2755])
def test_a_file_that_is_there_keeps_its_mode(place: Path, mode: int) -> None:
    file = place / "a.txt"
    file.write_bytes(b"old, and longer")
    file.chmod(mode)

    write_file(file, b"new")

    assert _content(place) == {"a.txt": b"new"}
    assert _mode(file) == oct(mode)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_file_that_is_there_keeps_its_owner_and_its_group(place: Path) -> None:
    file = place / "a.txt"
    file.write_bytes(b"old")
    os.chown(file, 12345, 23456)
    file.chmod(0o4755)

    write_file(file, b"new")

    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 23456)
    assert _mode(file) == "0o4755"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory to another group")
def test_a_directory_that_hands_its_group_on_changes_no_group(place: Path) -> None:
    file = place / "a.txt"
    file.write_bytes(b"old")
    os.chown(place, 0, 23456)
    place.chmod(0o2755)

    write_file(file, b"new")

    assert file.stat().st_gid == os.getgid()


def test_a_symbolic_link_stays_one(place: Path, tmp_path: Path) -> None:
    (tmp_path / "target.txt").write_bytes(b"old")
    (place / "a.txt").symlink_to("../target.txt")

    write_file(place / "a.txt", b"new")

    assert (place / "a.txt").readlink() == Path("../target.txt")
    assert (tmp_path / "target.txt").read_bytes() == b"new"
    assert list(place.iterdir()) == [place / "a.txt"]


def test_a_link_to_nothing_yet_makes_its_target(place: Path, tmp_path: Path) -> None:
    (place / "a.txt").symlink_to(tmp_path / "target.txt")

    write_file(place / "a.txt", b"new")

    assert (tmp_path / "target.txt").read_bytes() == b"new"
    assert (place / "a.txt").is_symlink()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=["full disk", "control-C"])
@pytest.mark.parametrize("step", ["os.fchmod", "os.fsync", "pathlib.Path.replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    place: Path, step: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "a.txt").write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(step, fail)
    with pytest.raises(type(error)):
        write_file(place / "a.txt", b"new")

    assert _content(place) == {"a.txt": b"old"}


def test_a_write_into_a_missing_directory_is_an_os_error(place: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(place / "missing" / "a.txt", b"new")


@pytest.mark.live
@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_writer_that_is_killed_leaves_the_old_file(place: Path, step: str) -> None:
    (place / "a.txt").write_bytes(b"old")
    (place / "a.txt").chmod(0o600)
    module, _, name = step.rpartition(".")
    code = (
        "import os, pathlib, signal\n"
        "from stoker.system.files import write_file\n"
        f"{module}.{name} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_file(pathlib.Path('a.txt'), b'new')\n"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=place, timeout=30)

    assert done.returncode == -signal.SIGKILL
    assert (place / "a.txt").read_bytes() == b"old"
    # Nobody is left to remove the temporary file; it is as hidden as the file itself.
    (left,) = place.glob(".a.txt.*")
    assert _mode(left) == "0o600"


@pytest.mark.live
def test_whoever_reads_meanwhile_sees_the_old_bytes_or_the_new_ones(place: Path) -> None:
    texts = {bytes([letter]) * 100_000 for letter in b"ab"}
    (place / "a.txt").write_bytes(b"a" * 100_000)
    code = (
        "import pathlib\n"
        "from stoker.system.files import write_file\n"
        "for i in range(60):\n"
        "    write_file(pathlib.Path('a.txt'), b'ab'[i % 2:i % 2 + 1] * 100_000)\n"
    )

    with subprocess.Popen([sys.executable, "-c", code], cwd=place) as writer:
        seen = set()
        while writer.poll() is None:
            seen.add((place / "a.txt").read_bytes())

    assert writer.returncode == 0
    assert seen <= texts


def test_a_file_is_read_or_is_none(place: Path) -> None:
    (place / "a.txt").write_bytes(b"x")

    assert read_or_none(place / "a.txt") == b"x"
    assert read_or_none(place / "b.txt") is None


def test_removing_says_whether_there_was_a_file(place: Path) -> None:
    (place / "a.txt").write_bytes(b"x")

    assert remove_file(place / "a.txt") is True
    assert remove_file(place / "a.txt") is False
    assert list(place.iterdir()) == []


def test_a_directory_is_made_with_what_is_missing_above(place: Path) -> None:
    made = make_directory(place / "a" / "b", mode=0o700)

    assert made is True
    assert (_mode(place / "a"), _mode(place / "a" / "b")) == ("0o755", "0o700")


def test_a_directory_that_is_there_stays_as_it_is(place: Path) -> None:
    (place / "a").mkdir(mode=0o750)

    made = make_directory(place / "a", mode=0o700)

    assert made is False
    assert _mode(place / "a") == "0o750"


def test_a_file_is_no_directory(place: Path) -> None:
    (place / "a").write_bytes(b"")

    with pytest.raises(FileExistsError):
        make_directory(place / "a")


@pytest.mark.parametrize(
    ("text", "count", "lines"),
    [
        pytest.param(b"", 3, (), id="empty"),
        pytest.param(b"a\nb\nc\nd\n", 2, ("c", "d"), id="the last ones, oldest first"),
        pytest.param(b"a\nb", 5, ("a", "b"), id="fewer than asked for"),
        pytest.param(b"a\r\nb\r\n", 1, ("b",), id="CRLF"),
        pytest.param(b"a\n\xff\xc3\xa4\n", 1, ("\ufffdä",), id="no UTF-8"),
        pytest.param(b"a\nb\n", 0, (), id="none asked for"),
    ],
)
def test_the_last_lines_of_a_log_are_read(place: Path, text: bytes, count: int, lines: tuple[str, ...]) -> None:
    (place / "a.log").write_bytes(text)

    assert read_last_lines(place / "a.log", count) == lines


def test_no_more_than_the_end_of_a_log_is_read(place: Path) -> None:
    (place / "a.log").write_bytes(b"x" * 1000 + b"\nlast\n")

    assert read_last_lines(place / "a.log", 9, limit=8) == ("xx", "last")


def test_a_log_that_cannot_be_read_has_no_lines(place: Path) -> None:
    assert read_last_lines(place / "missing.log", 3) == ()
    assert read_last_lines(place, 3) == ()


def test_what_is_appended_to_a_log_comes_after_what_is_there_and_a_new_log_is_its_owners_alone(place: Path) -> None:
    append_log(place / "a.log", "one\n")
    append_log(place / "a.log", "two\n")

    assert _content(place) == {"a.log": b"one\ntwo\n"}
    assert _mode(place / "a.log") == "0o600"


def test_what_cannot_be_appended_to_a_log_is_lost(place: Path) -> None:
    append_log(place / "missing" / "a.log", "one\n")

    assert _content(place) == {}


OLD = b"".join(b"line %03d\n" % number for number in range(100))


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        pytest.param(900, None, id="just short enough"),
        pytest.param(899, OLD[-441:], id="one byte too long"),
        pytest.param(100, OLD[-45:], id="much too long"),
        pytest.param(0, b"", id="no line at all"),
    ],
)
def test_the_older_half_of_a_long_log_is_cut_at_a_line(place: Path, limit: int, kept: bytes | None) -> None:
    log = place / "a.log"
    log.write_bytes(OLD)

    cut = trim_log(log, limit)

    assert cut == (kept is not None)
    assert log.read_bytes() == (OLD if kept is None else b"[older lines were cut]\n" + kept)


def test_the_writer_of_a_log_that_was_cut_goes_on_at_its_end(place: Path) -> None:
    log = place / "a.log"
    log.write_bytes(OLD)
    log.chmod(0o600)
    with log.open("ab", buffering=0) as writer:
        trim_log(log, 100)
        writer.write(b"next\n")

    assert log.read_bytes() == b"[older lines were cut]\n" + OLD[-45:] + b"next\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_log_that_is_not_there_is_short_enough(place: Path) -> None:
    assert trim_log(place / "a.log", 10) is False
    assert trim_log(place, 10) is False
    assert not (place / "a.log").exists()


def test_a_log_of_one_long_line_is_cut_whole(place: Path) -> None:
    log = place / "a.log"
    log.write_bytes(b"x" * 1000)

    assert trim_log(log, 100)
    assert log.read_bytes() == b"[older lines were cut]\n"
