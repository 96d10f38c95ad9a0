"""A queue's directory: its key, its journal, and the address at which it is served."""

from __future__ import annotations

import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from stoker.errors import QueueError
from stoker.system.files import make_directory, read_or_none, write_file

__all__ = ["Address", "QueueDirectory", "parse_address", "read_key"]

_KEY_BYTES = 32
_SHORTEST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens."""

    host: str
    """A name, an IPv4 or an IPv6 address."""

    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class QueueDirectory:
    """The directory of one queue, on the machine that serves it."""

    path: Path

    @classmethod
    def default(cls) -> QueueDirectory:
        """Give the directory of the queue that has no other: ``$XDG_STATE_HOME/stoker/queue``."""
        state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        return cls(Path(state).expanduser() / "stoker" / "queue")

    @property
    def key(self) -> Path:
        """The file with the key, for its owner alone."""
        return self.path / "key"

    @property
    def journal(self) -> Path:
        """The SQLite database with jobs, leases and results."""
        return self.path / "journal.sqlite"

    @property
    def lock(self) -> Path:
        """Held by the server."""
        return self.path / "lock"

    @property
    def address(self) -> Path:
        """Where it is served, or was served last."""
        return self.path / "server.json"

    def make(self) -> bytes:
        """Make what is missing: the directory and a random key. Give the key.

        Raises:
            QueueError: The directory cannot be used, or others can read the key.
        """
        try:
            make_directory(self.path)
            if not self.key.exists():
                write_file(self.key, f"{secrets.token_hex(_KEY_BYTES)}\n".encode())
        except OSError as error:
            raise QueueError(f"{self.path}: cannot be a queue's directory: {error.strerror}") from error
        return read_key(self.key)

    def write_address(self, address: Address) -> None:
        """Note where the server listens.

        Raises:
            OSError: It cannot be written.
        """
        write_file(self.address, f"{json.dumps({'host': address.host, 'port': address.port})}\n".encode())

    def read_address(self) -> Address | None:
        """Read where the queue is served, or was last; None where it never was.

        Raises:
            QueueError: The file is damaged.
        """
        try:
            data = read_or_none(self.address)
            if data is None:
                return None
            fields = json.loads(data)
            return Address(host=str(fields["host"]), port=int(fields["port"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise QueueError(f"{self.address}: cannot be read: {error}; serve the queue again to mend it") from error


def read_key(path: Path) -> bytes:
    """Read a key.

    Raises:
        QueueError: There is none, or others than its owner can read it.
    """
    try:
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise QueueError(f"{path}: others can read this key; type: chmod 600 {path}")
        key = path.read_bytes().strip()
    except FileNotFoundError:
        raise QueueError(f"{path}: no key is there; serve the queue, or copy the key of its server here") from None
    except OSError as error:
        raise QueueError(f"{path}: cannot be read: {error.strerror}") from error
    if len(key) < _SHORTEST:
        raise QueueError(f"{path}: is too short for a key ({len(key)} bytes); copy the server's key file again")
    return key


def parse_address(text: str) -> Address:
    """Read ``HOST:PORT`` or ``[IPV6]:PORT``.

    Raises:
        QueueError: It is of another form.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise QueueError(f"{text!r}: write an address as HOST:PORT, such as 127.0.0.1:50010")
    return Address(host=host.strip("[]"), port=int(port))
