"""The mouths of tunnels: Unix sockets on a host that a connection forwards to a controller's ports.

A connection makes new ones in a directory of its own; engines know fixed names, which are links to those of the
connection that is there now. So nothing that an earlier connection has left is in the way.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

__all__ = ["link_mouths", "list_mouths", "make_mouths", "name_interface"]

_LINK = "t"
_DIRECTORY = "mouths-"


def name_interface(runtime: str) -> str:
    """Give the interface that engines connect to, as in a connection file: a colon and the port are added to it."""
    return f"ipc://{runtime}/{_LINK}"


def list_mouths(runtime: Path) -> list[int]:
    """List the ports to which engines have been led through a tunnel."""
    return [int(path.name.partition(":")[2]) for path in runtime.glob(f"{_LINK}:*")]


def make_mouths(runtime: Path, number: int) -> Path:
    """Make the directory for a connection's sockets, named by its port each.

    Args:
        runtime: The agent's runtime directory.
        number: Tells the connection from earlier ones.
    """
    directory = runtime / f"{_DIRECTORY}{number}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    return directory


def link_mouths(directory: Path, ports: Iterable[int]) -> None:
    """Have the names that engines know lead to a connection's sockets, and remove those of earlier connections."""
    runtime = directory.parent
    for port in ports:
        fresh = runtime / f"{_LINK}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(directory / str(port))
        fresh.replace(runtime / f"{_LINK}:{port}")
    for other in runtime.glob(f"{_DIRECTORY}*"):
        if other != directory:
            shutil.rmtree(other, ignore_errors=True)
