"""The wire between a supervisor and an agent: one JSON object a line, in both directions.

The supervisor's lines have ``do``, the agent's ``say``. A line that is no such object ends the connection: nobody else
speaks there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stoker.errors import StokerError

__all__ = ["VERSION", "LineBuffer", "encode_line"]

VERSION = 1
"""Of the protocol. An agent refuses a supervisor of another version, and the other way round."""

_LONGEST = 256 * 1024 * 1024


def encode_line(message: Mapping[str, Any]) -> bytes:
    """Write a message as one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class LineBuffer:
    """Puts together the lines of a connection from the pieces that arrive."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Take a piece and give the messages that it completes.

        Raises:
            StokerError: What arrived is no message.
        """
        self._rest += data
        if b"\n" not in data:
            if len(self._rest) > _LONGEST:
                raise StokerError(f"a line of more than {_LONGEST} bytes")
            return []
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        return [_parse(line) for line in lines]


def _parse(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise StokerError("a line that is no JSON object")
    return message
