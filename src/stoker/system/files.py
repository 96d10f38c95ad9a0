"""Files: written whole or not at all. Never interprets what it writes."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = [
    "StagedFile",
    "append_log",
    "find_staged",
    "make_directory",
    "open_private",
    "read_last_lines",
    "read_or_none",
    "remove_file",
    "stage_file",
    "trim_log",
    "write_file",
]


_STAGED = ".stoker-"


def write_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put data into a file so that, whatever happens, it holds the old bytes or the new ones.

    Args:
        path: A symbolic link is followed, so that it stays a link.
        data: The whole content.
        mode: Permissions of a new file. A file that is there keeps its own, and its owner.

    Raises:
        OSError: The file is as it was before.
    """
    with stage_file(path, data, mode=mode) as staged:
        staged.commit()


@dataclass(slots=True)
class StagedFile:
    """New content that lies, whole and safe on disk, beside the file that it is to replace."""

    path: Path
    _temporary: Path
    _done: bool = False

    def commit(self) -> None:
        """Put it into the file's place."""
        self._temporary.replace(self.path)
        self._done = True
        _sync_directory(self.path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._done:
            with contextlib.suppress(OSError):
                self._temporary.unlink()


def find_staged(directory: Path) -> list[Path]:
    """Find the files that are staged in a directory: by processes that are at it, or were killed at it."""
    return sorted(directory.glob(f".*{_STAGED}*"))


def stage_file(path: Path, data: bytes, *, mode: int = 0o600) -> StagedFile:
    """Write data beside a file, so that committing it needs no more room on the disk.

    Several files are changed together by staging all before the first is committed. Leaving the ``with`` block of
    one that was not committed removes it.

    Args:
        path: A symbolic link is followed, so that it stays a link.
        data: The whole content.
        mode: Permissions of a new file. A file that is there keeps its own, and its owner.

    Raises:
        OSError: Nothing is left of it.
    """
    path = path.resolve()
    # Not for every agent, which writes no such files.
    import tempfile

    handle, name = tempfile.mkstemp(prefix=f".{path.name}{_STAGED}", dir=path.parent)
    staged = StagedFile(path, Path(name))
    try:
        with os.fdopen(handle, "wb") as file:
            _take_over(path, file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        staged.__exit__()
        raise
    return staged


def read_or_none(path: Path) -> bytes | None:
    """Read a file; None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def remove_file(path: Path) -> bool:
    """Remove a file; say whether it was there."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def make_directory(path: Path, *, mode: int = 0o700) -> bool:
    """Make a directory and what is missing above it; say whether it was missing.

    Args:
        path: A directory that is there stays as it is.
        mode: Permissions of this directory alone; the ones above it get the usual ones.
    """
    if path.is_dir():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=mode, exist_ok=True)
    return True


def read_last_lines(path: Path, count: int, *, limit: int = 65536) -> tuple[str, ...]:
    """Read the last lines of a text file, oldest first.

    Args:
        path: A file that cannot be read gives no lines.
        count: How many lines at the most.
        limit: Bytes that are read from the end of the file at the most.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            text = file.read().decode(errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-count:]) if count else ()


def open_private(path: str, flags: int) -> int:
    """Open a file, a new one as its owner's alone; an ``opener`` of ``open``."""
    return os.open(path, flags, 0o600)


def append_log(path: Path, text: str) -> None:
    """Write to the end of a log, a new one as its owner's alone; what cannot be written is lost."""
    with contextlib.suppress(OSError), open(path, "a", opener=open_private) as log:
        log.write(text)


def trim_log(path: Path, limit: int) -> bool:
    """Cut the older part of a log that has grown beyond a limit; say whether it had.

    Its writers go on, if they append (``O_APPEND``); what they write in this very moment may be lost.

    Args:
        path: The log; one that is not there is short enough.
        limit: Bytes it may have; half of them are kept.
    """
    try:
        with path.open("rb+") as file:
            if os.fstat(file.fileno()).st_size <= limit:
                return False
            file.seek(-(limit // 2), os.SEEK_END)
            file.readline()
            kept = file.read()
            file.truncate(0)
        with path.open("ab") as file:
            file.write(b"[older lines were cut]\n" + kept)
    except OSError:
        return False
    return True


def _take_over(path: Path, handle: int, mode: int) -> None:
    try:
        there = path.stat()
    except FileNotFoundError:
        os.fchmod(handle, mode)
        return
    new = os.fstat(handle)
    if (there.st_uid, there.st_gid) != (new.st_uid, new.st_gid):
        os.fchown(handle, there.st_uid, there.st_gid)
    # After the owner, because changing that one clears some bits.
    os.fchmod(handle, stat.S_IMODE(there.st_mode))


def _sync_directory(path: Path) -> None:
    # Without this a power cut can undo the rename; some file systems cannot do it.
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
