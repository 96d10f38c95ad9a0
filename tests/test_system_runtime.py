from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.errors import StokerError
from stoker.system.runtime import listen, make_runtime_directory, remove_runtime_directory, runtime_directory

FALLBACK = Path(f"/tmp/stoker-{os.getuid()}")


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose name is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="s-", dir="/tmp") as name:
        yield Path(name)


def mode(path: Path) -> str:
    return oct(path.lstat().st_mode & 0o7777)


def test_it_lies_below_the_sessions_directory(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))

    first, again, other = (runtime_directory(place) for place in ("/a:", "/a:", "/b:"))

    assert first == again != other
    assert first.parent == short / "stoker"
    assert len(first.name) == 12
    assert list(short.iterdir()) == []


@pytest.mark.parametrize(
    "base",
    [
        pytest.param("", id="none"),
        pytest.param("run", id="relative"),
        pytest.param("/no/such/directory", id="missing"),
        pytest.param("/tmp/" + "x" * 80, id="too long a name for a socket"),
    ],
)
def test_elsewhere_it_lies_in_a_named_place(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", base)

    assert runtime_directory("/a:").parent == FALLBACK


def test_without_a_session_it_lies_in_a_named_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)

    assert runtime_directory("/a:").parent == FALLBACK


def test_a_socket_fits_into_the_longest_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for length in range(1, 100):
        base = tmp_path / ("x" * length)
        base.mkdir()
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
        directory = runtime_directory("/a:")
        if directory.parent == FALLBACK:
            return
        make_runtime_directory(directory)
        listen(directory / "agent-00.sock").close()
    raise AssertionError("every name was short enough")


def test_it_is_its_owners_alone(short: Path) -> None:
    directory = short / "stoker" / "a"
    before = os.umask(0)
    try:
        make_runtime_directory(directory)
    finally:
        os.umask(before)
    make_runtime_directory(directory)

    assert (mode(directory), mode(directory.parent)) == ("0o700", "0o700")


@pytest.mark.parametrize("which", ["directory", "above"])
@pytest.mark.parametrize("bits", [0o755, 0o710, 0o701, 0o777])
def test_one_that_is_open_to_others_is_refused(short: Path, which: str, bits: int) -> None:
    directory = short / "stoker" / "a"
    make_runtime_directory(directory)
    path = directory if which == "directory" else directory.parent
    path.chmod(bits)

    with pytest.raises(StokerError) as caught:
        make_runtime_directory(directory)

    assert str(caught.value) == f"{path}: must be yours, and nobody else may enter it: chmod 0700, or remove it"


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_no_directory_is_refused(short: Path, kind: str) -> None:
    directory = short / "stoker" / "a"
    directory.parent.mkdir(mode=0o700)
    if kind == "link":
        (short / "elsewhere").mkdir(mode=0o700)
        directory.symlink_to(short / "elsewhere")
    else:
        directory.write_bytes(b"")

    with pytest.raises(StokerError, match="must be yours"):
        make_runtime_directory(directory)


@pytest.mark.skipif(os.getuid() != 0, reason="gives a directory to someone else")
def test_one_that_is_someone_elses_is_refused(short: Path) -> None:
    directory = short / "stoker" / "a"
    make_runtime_directory(directory)
    os.chown(directory, 12345, 12345)

    with pytest.raises(StokerError, match="must be yours"):
        make_runtime_directory(directory)


def test_it_is_removed_and_what_others_have_beside_it_stays(short: Path) -> None:
    first, second = short / "stoker" / "a", short / "stoker" / "b"
    for directory in (first, second):
        make_runtime_directory(directory)
        (directory / "lease").touch()

    remove_runtime_directory(first)
    assert [path.name for path in first.parent.iterdir()] == ["b"]

    remove_runtime_directory(second)
    remove_runtime_directory(second)
    assert list(short.iterdir()) == []


def test_only_its_owner_can_connect_to_a_socket_and_the_mask_is_as_before(short: Path) -> None:
    before = os.umask(0o022)
    try:
        with listen(short / "a.sock") as listener:
            assert mode(short / "a.sock") == "0o600"
            assert not listener.getblocking()
            assert not listener.get_inheritable()
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(short / "a.sock"))
                accepted, _ = listener.accept()
                accepted.close()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_a_socket_that_an_ended_process_left_is_replaced(short: Path) -> None:
    listen(short / "a.sock").close()

    with listen(short / "a.sock"), socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(short / "a.sock"))
