"""Connection files: what a controller writes so that engines and clients find it. Never shows a key."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.profile.directory import ProfileDirectory
from stoker.system.files import read_or_none, remove_file

__all__ = ["Connection", "ConnectionFiles", "find_host", "is_listening", "read_connection", "read_open_ports"]

_ANY = ("*", "0.0.0.0")  # noqa: S104 - how a controller was told to listen
_PORTS = ("registration", "control", "mux", "task", "iopub", "notification", "broadcast", "hb_ping", "hb_pong")
_SIGNATURE = 10
"""Bytes of a ZMTP greeting's signature: 0xFF, eight of padding, 0x7F (ZMTP 3.1, section 3.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFiles:
    """The files of one controller."""

    client: Path
    engine: Path
    keys: Path
    """The controller's key pair, kept so that it has the same when it is started again."""

    @classmethod
    def of(cls, directory: ProfileDirectory, cluster_id: str) -> ConnectionFiles:
        """Name the files as ipyparallel does."""
        stem = f"ipcontroller-{cluster_id}" if cluster_id else "ipcontroller"
        return cls(
            client=directory.security / f"{stem}-client.json",
            engine=directory.security / f"{stem}-engine.json",
            keys=directory.security / f"{stem}-keys.json",
        )

    def remove(self) -> None:
        """Remove them all, so that nobody takes an ended controller's files for those of the next."""
        for file in (self.client, self.engine, self.keys):
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
        host="127.0.0.1" if address in _ANY else address,
        port=int(client["registration"]),
    )


def read_open_ports(files: ConnectionFiles) -> tuple[int, ...]:
    """Read at which ports a controller listens for other machines, too; none while there is no connection file."""
    found = [data for file in (files.client, files.engine) if (data := _read_json(file)) is not None]
    away = [data for data in found if not _is_loopback(str(data["interface"]).rpartition("://")[2])]
    named = [data[name] for data in away for name in _PORTS if name in data]
    return tuple(sorted({port for ports in named for port in (ports if isinstance(ports, list) else [ports])}))


def find_host(connection: Mapping[str, Any]) -> str:
    """Give the address, or perhaps the name, at which a controller is reached from this machine.

    Args:
        connection: The content of a connection file.
    """
    address = str(connection["interface"]).rpartition("://")[2]
    if address not in _ANY:
        return address
    location = connection.get("location") or ""
    return "127.0.0.1" if location in ("", socket.gethostname()) else str(location)


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


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(read_or_none(path) or b"")
    except ValueError:
        return None
    return data if isinstance(data, dict) and "registration" in data and "interface" in data else None
