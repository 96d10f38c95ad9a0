"""The end of a tunnel on a host: Unix sockets that engines connect to as if they were a controller's ports.

They outlive the ssh connections that carry the tunnel. Each of these forwards one socket, the carrier's, in a directory
of its own; so nothing that an earlier one has left is in the way.
"""

from __future__ import annotations

import os
import selectors
import shutil
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

from stoker.agent.relay import SESSION, Relay

__all__ = ["Tunnel", "name_interface"]

_MOUTH = "t"
_CARRIER = "carrier-"


def name_interface(runtime: str) -> str:
    """Give the interface that engines connect to, as in a connection file: a colon and the port are added to it."""
    return f"ipc://{runtime}/{_MOUTH}"


class Tunnel:
    """This end of it. For an agent's loop; waits for nothing."""

    def __init__(self, selector: selectors.BaseSelector, runtime: Path) -> None:
        """Prepare; nobody can connect yet.

        Args:
            selector: That of the loop; what is registered with it is a function of the ready events.
            runtime: The agent's runtime directory.
        """
        self._runtime = runtime
        self._relay = Relay(selector, os.urandom(SESSION))

    @property
    def ports(self) -> list[int]:
        """Those of the controller that engines reach through it."""
        return self._relay.ports

    def prepare(self, number: int) -> Path:
        """Make room for a connection's socket, and name it.

        Args:
            number: Tells the connection from earlier ones.
        """
        directory = self._runtime / f"{_CARRIER}{number}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        return directory / "s"

    def use(self, carrier: Path, ports: Iterable[int], *, on_resumed: Callable[[bool], None]) -> None:
        """Go on over a connection's socket, which ssh has made.

        Args:
            carrier: What ``prepare`` has named.
            ports: Those of the controller.
            on_resumed: Called once, when the other end answers: whether nothing was lost.

        Raises:
            OSError: It cannot be connected to.
        """
        handle = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            handle.connect(str(carrier))
        except OSError:
            handle.close()
            raise
        for port in ports:
            self._relay.listen(port, self._runtime / f"{_MOUTH}:{port}")
        self._relay.attach(handle, on_resumed=on_resumed)
        for other in self._runtime.glob(f"{_CARRIER}*"):
            if other != carrier.parent:
                shutil.rmtree(other, ignore_errors=True)

    def close(self) -> None:
        """End it."""
        self._relay.close()
