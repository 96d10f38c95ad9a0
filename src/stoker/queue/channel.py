"""Channels: connections of multiprocessing.managers that carry plain values only, and on which no wait is endless.

Given to managers as a serializer, beside the two that they have. The bytes on the wire are those of a plain manager:
its clients can speak to our server as long as what they send is plain.
"""

from __future__ import annotations

import socket
import struct
from multiprocessing import connection, managers
from typing import Any

from stoker.queue.plain import dump_plain, load_plain

__all__ = ["LARGEST_MESSAGE", "SERIALIZER", "Channel", "Listener", "allow_silence", "open_channel"]

SERIALIZER = "stoker-plain"
"""The name under which managers know these channels."""

LARGEST_MESSAGE = 256 << 20
"""Bytes of one message at the most."""

_SILENCE = 30.0
"""Seconds that a peer may take between two pieces of a message."""

_CONNECT = 10.0
_BACKLOG = 512


class Channel(connection.ConnectionWrapper):  # type: ignore[name-defined,misc]
    """A connection whose messages are plain values."""

    def __init__(self, conn: connection.Connection) -> None:
        super().__init__(conn, dump_plain, load_plain)

    def recv(self) -> Any:
        """Receive one value.

        Raises:
            EOFError: The peer is gone, was silent for too long, or sent what cannot be a message.
            PlainError: The message held anything but a plain value; the next one may be right.
        """
        try:
            data = self._conn.recv_bytes(LARGEST_MESSAGE)
        except OSError as error:
            raise EOFError(str(error)) from error
        return self._loads(data)


class Listener:
    """Listens for channels; as managers want it."""

    def __init__(self, address: tuple[str, int], backlog: int = _BACKLOG) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._socket = socket.create_server(address, family=family, backlog=max(backlog, _BACKLOG))
        self.address: tuple[str, int] = self._socket.getsockname()[:2]

    def accept(self) -> Channel:
        """Wait for the next one to connect."""
        return _make_channel(self._socket.accept()[0])

    def close(self) -> None:
        """Listen no longer."""
        self._socket.close()


def open_channel(address: tuple[str, int], authkey: bytes) -> Channel:
    """Connect to a server; each side proves to the other that it has the key.

    Raises:
        OSError: Nobody listens there, or nobody answers.
        EOFError: It was cut off.
        multiprocessing.AuthenticationError: The keys differ, or it is no such server.
    """
    opened = _make_channel(socket.create_connection(address, timeout=_CONNECT))
    try:
        connection.answer_challenge(opened, authkey)
        connection.deliver_challenge(opened, authkey)
    except BaseException:
        opened.close()
        raise
    return opened


def allow_silence(channel: Channel, seconds: float) -> None:
    """Say how long a peer may be silent before it is given up; the same for what it does not take from us."""
    handle = socket.socket(fileno=channel.fileno())
    try:
        _limit(handle, seconds)
    finally:
        handle.detach()


def _make_channel(sock: socket.socket) -> Channel:
    sock.settimeout(None)
    # A message may be several packets: none waits for the receipt of the one before.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    _limit(sock, _SILENCE)
    return Channel(connection.Connection(sock.detach()))


def _limit(sock: socket.socket, seconds: float) -> None:
    # Of the socket itself, because connections of multiprocessing read and write without a limit of their own.
    value = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)


managers.listener_client[SERIALIZER] = (Listener, open_channel)  # type: ignore[attr-defined]
