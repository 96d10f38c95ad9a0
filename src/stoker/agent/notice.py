"""Notices: the hub is told of an engine's death at once, by a child that lives only for that.

What it sends is the engine's will: the message that the engine itself would take its leave with, written and signed
when it registered. So neither the agent nor this child needs what writes such messages.
"""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Sequence

from stoker.agent.birth import close_handles

__all__ = ["fork_notice", "write_will"]

_LINGER = 1000
"""Milliseconds that a notice waits for a hub that does not answer."""
_END = 5
"""Seconds after which the system ends it, whatever keeps it: the next engine of that number waits for it."""


def write_will(address: str, serverkey: bytes, frames: Sequence[bytes]) -> bytes:
    """Write down what the hub is to be sent when an engine has ended.

    Args:
        address: Of the hub's registrar, as ZeroMQ connects to it.
        serverkey: The hub's public key; empty where nothing is encrypted.
        frames: The message.
    """
    message = [base64.b64encode(frame).decode() for frame in frames]
    return json.dumps([address, serverkey.decode(), message]).encode()


def fork_notice(will: bytes) -> int:
    """Fork a child that tells the hub that an engine is gone; give its process number.

    The process that calls this must never have a ZeroMQ context: it could not fork any more.

    Args:
        will: The engine's, as of ``write_will``.
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
        _send(will)
    finally:
        os._exit(0)


def _send(will: bytes) -> None:
    import zmq

    address, serverkey, message = json.loads(will)
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.linger = _LINGER
    if serverkey:
        socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
        socket.curve_serverkey = serverkey.encode()
    socket.connect(address)
    socket.send_multipart([base64.b64decode(frame) for frame in message])
    socket.close()
    # Waits until it is sent, or for as long as it may linger.
    context.term()
