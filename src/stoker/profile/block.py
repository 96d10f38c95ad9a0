"""The block: the marked lines at a config file's end that are stoker's; every byte outside it is the user's.

Works on bytes, because a config file may have any encoding; the block itself is ASCII.
"""

from __future__ import annotations

import re
from pathlib import Path

from stoker.errors import ProfileError
from stoker.profile.render import Traits
from stoker.profile.retire import Retired, holds_retired_lines, restore_lines, retire_lines

__all__ = ["find_half", "find_span", "read_body", "remove_block", "render_block", "replace_block", "restore_text"]

_BEGIN = b"# >>> stoker >>>"
_END = b"# <<< stoker <<<"
_NOTE = b" edit the spec, not these lines: `stoker apply` writes them anew"
# What goes again with the block: the newline that a last line without one needed, or the whole file.
_ADDED = b" (added a newline)"
_CREATED = b" (created this file)"
_RETIRED = b" (commented old settings out)"
_BLOCK = re.compile(
    rb"(?P<newline>\n?)^" + _BEGIN + rb"(?P<head>[^\n]*)\n(?P<body>.*?)^" + _END + rb"[^\n]*\n?",
    re.MULTILINE | re.DOTALL,
)


def render_block(traits: Traits) -> bytes:
    """Render traits as the lines of a config file.

    At the end of a file they beat everything above, also what ``load_subconfig`` brought and what a
    rebinding of ``c`` hid.
    """
    lines = [
        "c = get_config()  # noqa",
        *(f"c.{name} = {value!a}" for name, value in traits.items()),
        "",
    ]
    return "\n".join(lines).encode("ascii")


def replace_block(path: Path, text: bytes | None, body: bytes, *, retired: tuple[Retired, ...] = ()) -> bytes:
    """Put the block, with this body, at the end of a file's text, in place of the one that was there.

    Args:
        path: The file, for error messages.
        text: What it holds; None where there is no file yet.
        body: What ``render_block`` gave.
        retired: Statements of the text outside the block that are commented out; lines are those of the text
            without the block.

    Raises:
        ProfileError: The text holds a begin or end of a block without the other, or what looks like retired lines.
    """
    rest, was_retired = _take_out(path, text)
    head = _BEGIN + _NOTE
    if rest is None:
        return head + _CREATED + b"\n" + body + _END + b"\n"
    if retired:
        if not was_retired and holds_retired_lines(rest):
            raise ProfileError(path, "has lines that begin with #stoker, which stoker did not write; remove them first")
        rest = retire_lines(rest, retired)
    head += _RETIRED if retired or was_retired else b""
    if rest and not rest.endswith(b"\n"):
        return rest + b"\n" + head + _ADDED + b"\n" + body + _END + b"\n"
    return rest + head + b"\n" + body + _END + b"\n"


def remove_block(path: Path, text: bytes | None) -> bytes | None:
    """Take the block out of a file's text; None where nothing but the block made the file.

    Raises:
        ProfileError: The text holds a begin or end of a block without the other.
    """
    return _take_out(path, text)[0]


def restore_text(path: Path, text: bytes | None) -> bytes | None:
    """Give a file's text as it was before stoker: without the block, and with retired lines in force again.

    Raises:
        ProfileError: The text holds a begin or end of a block without the other.
    """
    rest, retired = _take_out(path, text)
    return restore_lines(rest) if rest is not None and retired else rest


def read_body(text: bytes) -> bytes | None:
    """Give what stands in the block; None where there is none."""
    match = _BLOCK.search(text)
    return None if match is None else match["body"]


def find_span(text: bytes) -> tuple[int, int] | None:
    """Give the first and the last line of the block, from 1; None where there is none."""
    match = _BLOCK.search(text)
    if match is None:
        return None
    # bytes.splitlines counts lines as Python's parser does.
    above = len(text[: match.start() + len(match["newline"])].splitlines())
    return above + 1, above + len(match[0].removeprefix(b"\n").splitlines())


def find_half(text: bytes) -> int | None:
    """Give the line of a begin or end of a block that lacks the other; None where there is none."""
    blank = _BLOCK.sub(lambda match: re.sub(rb"[^\r\n]", b" ", match[0]), text)
    match = re.compile(rb"^(?:" + _BEGIN + rb"|" + _END + rb")", re.MULTILINE).search(blank)
    return None if match is None else len(blank[: match.start()].splitlines()) + 1


def _take_out(path: Path, text: bytes | None) -> tuple[bytes | None, bool]:
    """Give a file's text without the block, and whether lines of it are retired."""
    if text is None:
        return None, False
    heads: list[bytes] = []

    def take_out(match: re.Match[bytes]) -> bytes:
        heads.append(match["head"])
        last = match.end() == len(text)
        return b"" if last and _ADDED in match["head"] else match["newline"]

    rest = _BLOCK.sub(take_out, text)
    if any(line.startswith((_BEGIN, _END)) for line in rest.split(b"\n")):
        raise ProfileError(path, "holds half of stoker's block; remove the line that is left of it, then apply again")
    if not rest and any(_CREATED in head for head in heads):
        return None, False
    return rest, any(_RETIRED in head for head in heads)
