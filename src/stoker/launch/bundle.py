"""Bundles: the one file that a machine needs to start engines of a controller elsewhere.

It is what ipyparallel itself gives its engines, ``ipcontroller-engine.json``, so ``ipengine --file=...`` takes it too.
Whoever has it can run code on the cluster: ipyparallel has one capability for engines and clients.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from stoker.errors import BundleError
from stoker.launch.connection import find_host
from stoker.system.files import write_file

__all__ = ["Bundle", "parse_bundle", "read_bundle", "write_bundle"]

_NEEDED = ("interface", "registration", "control", "mux", "task", "iopub", "broadcast", "hb_ping", "hb_pong")
_FORMAT = ("signature_scheme", "pack", "unpack")
_KEYS = ("key", "curve_serverkey", "location", "ssh")
_OTHERS = 0o077


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What such a file says. It holds the cluster's key: never show it."""

    connection: Mapping[str, Any] = field(repr=False)
    """The content of the engines' connection file."""

    source: str
    """What errors name it by."""

    @property
    def is_encrypted(self) -> bool:
        """Whether the controller speaks CurveZMQ only."""
        return bool(self.connection.get("curve_serverkey"))

    @property
    def location(self) -> str:
        """The controller's machine, as it calls itself; empty where the file does not say it."""
        return self.connection.get("location") or ""

    @property
    def host(self) -> str:
        """The address, or perhaps the name, at which this machine reaches the controller."""
        return find_host(self.connection)

    @property
    def is_for_one_machine(self) -> bool:
        """Whether the controller listens on its own machine's loopback only."""
        return str(self.connection["interface"]).rpartition("://")[2].startswith("127.")

    def at(self, location: str) -> Self:
        """Give the same for a controller that is reached at another address or name, whatever it listens at."""
        there = {"interface": "tcp://*", "location": location}
        return type(self)(connection={**self.connection, **there}, source=self.source)

    def resolve(self) -> Self:
        """Give the same with the address that this machine has to use.

        Raises:
            BundleError: It cannot be known, or it is the loopback of another machine.
        """
        if self.connection.get("ssh"):
            raise BundleError(
                self.source, f"asks for an ssh tunnel to {self.connection['ssh']}, which is not made here"
            )
        if self.is_for_one_machine and self.location not in ("", socket.gethostname()):
            raise BundleError(
                self.source,
                f"its controller listens at {self.host} of {self.location} only; "
                'in its spec, [controller] ip = "ADDRESS" opens it',
            )
        address = _resolve(self.host, self.source)
        return type(self)(connection={**self.connection, "interface": f"tcp://{address}"}, source=self.source)

    def render(self) -> bytes:
        """Write it as the file's content."""
        return json.dumps(dict(self.connection), indent=2).encode() + b"\n"


def parse_bundle(data: bytes, *, source: str) -> Bundle:
    """Read the content of a bundle, or of ``ipcontroller-engine.json``. What engines do not need is left out.

    Raises:
        BundleError: It is something else.
    """
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict) or "registration" not in content:
        raise BundleError(source, "is no connection file of ipyparallel's")
    missing = [name for name in (*_NEEDED, *_FORMAT) if name not in content]
    if "notification" in content and missing:
        raise BundleError(source, "is the clients' connection file; engines need ipcontroller-engine.json beside it")
    if missing:
        raise BundleError(source, f"is no whole connection file for engines: without {', '.join(missing)}")
    known = {name: content[name] for name in (*_NEEDED, *_FORMAT, *_KEYS) if name in content}
    return Bundle(connection=known, source=source)


def read_bundle(path: Path) -> Bundle:
    """Read a bundle.

    Raises:
        BundleError: It cannot be read, others can read it too, or it is something else.
    """
    try:
        data = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise BundleError(str(path), f"cannot be read: {error.strerror}") from error
    bundle = parse_bundle(data, source=str(path))
    if mode & _OTHERS:
        raise BundleError(str(path), f"others can read it, and with it run code on the cluster: chmod 600 {path}")
    return bundle


def write_bundle(bundle: Bundle, path: Path) -> None:
    """Write a bundle, readable by its owner alone. A file that is there is replaced only if it is a bundle.

    Raises:
        BundleError: It cannot be written there.
    """
    try:
        if path.exists():
            parse_bundle(path.read_bytes(), source=str(path))
    except BundleError as error:
        raise BundleError(str(path), "is there, and no bundle; it is left as it is") from error
    except OSError as error:
        raise BundleError(str(path), f"cannot be read: {error.strerror}") from error
    try:
        if path.exists():
            # It keeps its permissions.
            path.chmod(0o600)
        write_file(path, bundle.render(), mode=0o600)
    except OSError as error:
        raise BundleError(str(path), f"cannot be written: {error.strerror}") from error


def _resolve(host: str, source: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise BundleError(
            source,
            f"names {host} as its controller's machine, and this machine knows no address of it ({error}); "
            "give one: --location ADDRESS",
        ) from error
