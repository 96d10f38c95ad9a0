"""Takes down what goes over a network device: every TCP connection's bytes, in their order."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Capture", "capture_traffic"]

_CLONE_NEWNET = 0x40000000
_ALL = 0x0003
_MEMBERSHIP, _PROMISCUOUS = 1, 1
_BUFFER = 1 << 26
_SO_RCVBUFFORCE = 33
_PACKET = 263
_STATISTICS = 6

Flow = tuple[str, int, str, int]
"""From address and port, to address and port."""


@dataclass
class Capture:
    """What was taken down."""

    frames: list[bytes] = field(default_factory=list)
    lost: int = 0
    """Frames that went by too fast."""

    def streams(self) -> dict[Flow, bytes]:
        """Give what each side of each TCP connection said."""
        pieces: dict[Flow, dict[int, bytes]] = defaultdict(dict)
        for frame in self.frames:
            parsed = _parse(frame)
            if parsed is not None and parsed[2]:
                flow, number, data = parsed
                pieces[flow][number] = max(data, pieces[flow].get(number, b""), key=len)
        return {flow: _join(parts) for flow, parts in pieces.items()}

    def find(self, needle: bytes) -> list[Flow]:
        """List the connections in which these bytes went by, in plain."""
        return [flow for flow, data in self.streams().items() if needle in data]


@contextlib.contextmanager
def capture_traffic(namespace: Path, device: str) -> Iterator[Capture]:
    """Take down all that passes a device of a network namespace meanwhile."""
    capture = Capture()
    tap = _open(namespace, device)
    ended = threading.Event()

    def listen() -> None:
        while True:
            try:
                frame, source = tap.recvfrom(1 << 17)
            except TimeoutError:
                if ended.is_set():
                    return
                continue
            if source[2] != socket.PACKET_OUTGOING:  # type: ignore[attr-defined]
                capture.frames.append(frame)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield capture
    finally:
        ended.set()
        thread.join()
        capture.lost = struct.unpack("II", tap.getsockopt(_PACKET, _STATISTICS, 8))[1]
        tap.close()


def _open(namespace: Path, device: str) -> socket.socket:
    made: list[socket.socket] = []

    def make() -> None:
        # Only this thread goes there; its socket stays.
        libc = ctypes.CDLL(None, use_errno=True)
        handle = os.open(namespace, os.O_RDONLY)
        try:
            if libc.setns(handle, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(handle)
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        tap.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        tap.bind((device, 0))
        # A bridge shows what it only forwards to those who want everything.
        membership = struct.pack("iHH8s", socket.if_nametoindex(device), _PROMISCUOUS, 0, b"")
        tap.setsockopt(_PACKET, _MEMBERSHIP, membership)
        tap.settimeout(0.1)
        made.append(tap)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert made, f"no capture at {device}"
    return made[0]


def _join(pieces: dict[int, bytes]) -> bytes:
    """Join what was sent, once: what is sent again may be cut otherwise."""
    whole, end = bytearray(), 0
    for number, data in sorted(pieces.items()):
        fresh = data[max(0, end - number) :] if whole else data
        whole += fresh
        end = max(end, number + len(data))
    return bytes(whole)


def _parse(frame: bytes) -> tuple[Flow, int, bytes] | None:
    """Read a frame: the connection, its sequence number, what it carries; None where it is no TCP over IPv4."""
    if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
        return None
    start = 14 + (frame[14] & 0x0F) * 4
    end = 14 + int.from_bytes(frame[16:18], "big")
    source, target, number = struct.unpack_from("!HHI", frame, start)
    data = frame[start + (frame[start + 12] >> 4) * 4 : end]
    addresses = socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34])
    return (addresses[0], source, addresses[1], target), number, data
