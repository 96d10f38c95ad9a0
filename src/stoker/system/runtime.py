"""The runtime directory: where a cluster's sockets and lease lie while it runs, readable by its owner alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
from pathlib import Path

from stoker.errors import StokerError

__all__ = ["listen", "make_runtime_directory", "remove_runtime_directory", "runtime_directory"]

# sun_path of unix(7) holds 108 bytes, on some systems 104, with the NUL at its end.
_LONGEST = 100
_LONGEST_NAME = "agent-00.sock"
_BACKLOG = 16


def runtime_directory(place: str) -> Path:
    """Name the runtime directory of what lives at a place: below ``$XDG_RUNTIME_DIR``, else ``/tmp/stoker-UID``.

    The latter too where the first is too long a name for a Unix socket.

    Args:
        place: What tells it from others, such as a profile's path with a cluster id.
    """
    # Not for every agent, which has no need of it: it loads OpenSSL.
    import hashlib

    name = hashlib.sha256(place.encode()).hexdigest()[:12]
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if Path(base).is_absolute():
        directory = Path(base) / "stoker" / name
        if len(os.fsencode(directory / _LONGEST_NAME)) <= _LONGEST and os.access(base, os.W_OK):
            return directory
    # A fixed name, because another process must find it; made and checked so that nobody else can own it.
    return Path(f"/tmp/stoker-{os.getuid()}") / name  # noqa: S108


def make_runtime_directory(directory: Path) -> None:
    """Make a runtime directory, and the one above it.

    Raises:
        StokerError: One of them is there and belongs to, or is open to, someone else.
    """
    for path in (directory.parent, directory):
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise StokerError(f"{path}: must be yours, and nobody else may enter it: chmod 0700, or remove it")


def remove_runtime_directory(directory: Path) -> None:
    """Remove a runtime directory with all that is in it, and the one above it if nothing else is there."""
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):
        directory.parent.rmdir()


def listen(path: Path) -> socket.socket:
    """Listen on a Unix socket that only its owner can connect to; a socket that an ended process left is replaced."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Python's handles are not inherited by what is executed, but a moment lies between bind and chmod.
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener
