"""Notices: the hub is told of an engine's death at once, by a child that lives only for that."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

from stoker.agent.birth import close_handles

__all__ = ["fork_notice"]

_LINGER = 1000
"""Milliseconds that a notice waits for a hub that does not answer."""
_END = 5
"""Seconds after which the system ends it, whatever keeps it: the next engine of that number waits for it."""


def fork_notice(number: int, connection: Mapping[str, Any]) -> int:
    """Fork a child that tells the hub that an engine is gone; give its process number.

    The process that calls this must never have a ZeroMQ context: it could not fork any more.

    Args:
        number: The engine's number.
        connection: The content of the engines' connection file.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        # Nobody is to wait for the end of the agent's connections because of this.
        close_handles(3)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(_END)
        _tell(number, connection)
    finally:
        os._exit(0)


def _tell(number: int, connection: Mapping[str, Any]) -> None:
    import zmq
    from ipyparallel.util import disambiguate_ip_address
    from jupyter_client.session import Session

    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.linger = _LINGER
    if connection.get("curve_serverkey"):
        socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
        socket.curve_serverkey = connection["curve_serverkey"].encode()
    protocol, _, address = connection["interface"].partition("://")
    address = disambiguate_ip_address(address, connection.get("location"))
    socket.connect(f"{protocol}://{address}:{connection['registration']}")
    session = Session(
        key=connection.get("key", "").encode(),
        signature_scheme=connection["signature_scheme"],
        packer=connection["pack"],
        unpacker=connection["unpack"],
    )
    session.send(socket, "unregistration_request", content={"id": number})
    socket.close()
    # Waits until it is sent, or for as long as it may linger.
    context.term()
