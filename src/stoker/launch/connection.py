"""Connection files: what a controller writes so that engines and clients find it. Never shows a key."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.profile import ProfileDirectory
from stoker.system.files import read_or_none, remove_file, write_file

__all__ = ["Connection", "ConnectionFiles", "is_listening", "read_connection"]

_SIGNATURE = 10
"""Bytes of a ZMTP greeting's signature: 0xFF, eight of padding, 0x7F (ZMTP 3.1, section 3.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFiles:
    """The files of one controller."""

    client: Path
    engine: Path
    handover: Path
    """A whole copy of the engines' file, for engines that wait for it while the controller, which writes its own in
    place, is not yet done."""

    @classmethod
    def of(cls, directory: ProfileDirectory, cluster_id: str) -> ConnectionFiles:
        """Name the files as ipyparallel does."""
        stem = f"ipcontroller-{cluster_id}" if cluster_id else "ipcontroller"
        return cls(
            client=directory.security / f"{stem}-client.json",
            engine=directory.security / f"{stem}-engine.json",
            handover=directory.security / f"{stem}-engine-whole.json",
        )

    def hand_over(self) -> None:
        """Give the engines that wait their copy."""
        write_file(self.handover, self.engine.read_bytes())

    def remove(self) -> None:
        """Remove them all, so that nobody takes an ended controller's files for those of the next."""
        for file in (self.client, self.engine, self.handover):
            remove_file(file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What a connection file says, but for its keys."""

    encrypted: bool
    """Whether the controller speaks CurveZMQ only."""

    host: str
    """Where its registration port is reached from this machine."""

    port: int
    """The registration port."""


def read_connection(files: ConnectionFiles) -> Connection | None:
    """Read a controller's connection files; None while one of them is missing or half written."""
    if _read_json(files.engine) is None or (client := _read_json(files.client)) is None:
        return None
    address = str(client["interface"]).removeprefix("tcp://")
    return Connection(
        encrypted=bool(client.get("curve_serverkey")),
        host="127.0.0.1" if address in ("*", "0.0.0.0") else address,  # noqa: S104
        port=int(client["registration"]),
    )


def is_listening(connection: Connection, *, timeout: float) -> bool:
    """Say whether a ZeroMQ socket listens where a connection file points.

    Args:
        connection: What the file says.
        timeout: Seconds to wait for an answer.
    """
    with contextlib.suppress(OSError):
        with socket.create_connection((connection.host, connection.port), timeout=timeout) as peer:
            peer.settimeout(timeout)
            greeting = peer.recv(_SIGNATURE, socket.MSG_WAITALL)
        return len(greeting) == _SIGNATURE and greeting[0] == 0xFF and greeting[-1] == 0x7F
    return False


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(read_or_none(path) or b"")
    except ValueError:
        return None
    return data if isinstance(data, dict) and "registration" in data and "interface" in data else None
