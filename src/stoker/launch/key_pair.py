"""A controller's CURVE key pair, and the file that keeps it: whoever starts the controller again needs the same."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from stoker.errors import StokerError
from stoker.system.files import write_file

__all__ = ["KeyPair", "read_or_draw_keys"]

_REMOVE = "remove it; the next start draws a new pair, which engines and clients of before cannot reach"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A key pair of CurveZMQ, as Z85 text."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def draw(cls) -> KeyPair:
        """Draw a new one."""
        public, secret = zmq.curve_keypair()
        return cls(public=public, secret=secret)


def read_or_draw_keys(path: Path) -> KeyPair:
    """Read a key pair, or draw one and write it where there is no file.

    Args:
        path: A file that its owner alone can read.

    Raises:
        StokerError: Others can read the file, it holds no key pair, or it can be neither read nor written.
    """
    try:
        data = _read_private(path)
        if data is not None:
            return _parse(path, data)
        drawn = KeyPair.draw()
        write_file(path, json.dumps({"public": drawn.public.decode(), "secret": drawn.secret.decode()}).encode())
    except OSError as error:
        raise StokerError(f"{path}: the controller's key pair can be neither read nor written: {error}") from error
    return drawn


def _read_private(path: Path) -> bytes | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            owner = f"mode {stat.S_IMODE(status.st_mode):04o}, user {status.st_uid}"
            raise StokerError(f"{path}: others can read the controller's secret key ({owner}): {_REMOVE}")
        return file.read()


def _parse(path: Path, data: bytes) -> KeyPair:
    try:
        content = json.loads(data)
        pair = KeyPair(public=content["public"].encode("ascii"), secret=content["secret"].encode("ascii"))
        sound = zmq.curve_public(pair.secret) == pair.public
    except (ValueError, KeyError, TypeError, AttributeError, zmq.ZMQError):
        sound = False
    if not sound:
        # Without its cause, which may quote the key.
        raise StokerError(f"{path}: holds no key pair of CurveZMQ: {_REMOVE}")
    return pair
