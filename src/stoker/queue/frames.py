"""Frames: messages between a worker's child and its keeper, each behind its length."""

from __future__ import annotations

import os
import struct

__all__ = ["read_frame", "split_frames", "write_frame"]

_LENGTH = struct.Struct("!Q")
_PIECE = 1 << 20


def write_frame(handle: int, data: bytes) -> None:
    """Write one frame to an open file or socket.

    Raises:
        OSError: Nobody reads it, or there is no room.
    """
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def read_frame(handle: int) -> bytes | None:
    """Read one frame from an open socket; None at its end."""
    head = _read(handle, _LENGTH.size)
    return None if head is None else _read(handle, _LENGTH.unpack(head)[0])


def split_frames(data: bytes) -> tuple[list[bytes], int]:
    """Split off the whole frames at the beginning.

    Returns:
        The frames, and how many bytes they take with their lengths; what follows is not there in full yet.
    """
    frames = []
    begin = 0
    while len(data) - begin >= _LENGTH.size:
        end = begin + _LENGTH.size + _LENGTH.unpack_from(data, begin)[0]
        if end > len(data):
            break
        frames.append(data[begin + _LENGTH.size : end])
        begin = end
    return frames, begin


def _read(handle: int, count: int) -> bytes | None:
    pieces = []
    while count:
        piece = os.read(handle, min(count, _PIECE))
        if not piece:
            return None
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
