"""Retiring lines of a config file: commented out with a reason, so that they can be restored byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Retired", "holds_retired_lines", "restore_lines", "retire_lines"]

_REASON = b"#stoker: "
_LINE = b"#stoker# "
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """One statement that is to be commented out."""

    first: int
    """Its first line, from 1."""

    last: int
    reason: str
    """One line; what is not ASCII in it is escaped."""


def retire_lines(text: bytes, statements: tuple[Retired, ...]) -> bytes:
    """Comment statements out, each below a line that says why.

    Args:
        text: A file's text in any encoding that has ASCII in it; its line ends stay.
        statements: Whole lines; none twice.
    """
    bom, lines = _split(text)
    reasons: Mapping[int, Retired] = {statement.first: statement for statement in statements}
    retired = {line for statement in statements for line in range(statement.first, statement.last + 1)}
    newline = b"\r\n" if b"\r\n" in text else b"\n"
    result = []
    for number, line in enumerate(lines, start=1):
        if number in reasons:
            result.append(_REASON + reasons[number].reason.encode("ascii", "backslashreplace") + newline)
        result.append(_LINE + line if number in retired else line)
    return bom + b"".join(result)


def restore_lines(text: bytes) -> bytes:
    """Undo ``retire_lines``."""
    bom, lines = _split(text)
    kept = (line for line in lines if not line.startswith(_REASON))
    return bom + b"".join(line.removeprefix(_LINE) for line in kept)


def holds_retired_lines(text: bytes) -> bool:
    """Say whether a text has lines that look retired."""
    return any(line.startswith((_REASON, _LINE)) for line in _split(text)[1])


def _split(text: bytes) -> tuple[bytes, list[bytes]]:
    bom = _BOM if text.startswith(_BOM) else b""
    # The line ends of bytes.splitlines, \n, \r and \r\n, are those of Python's parser.
    return bom, text.removeprefix(bom).splitlines(keepends=True)
