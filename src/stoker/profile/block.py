"""The block: the marked lines at a config file's end that are stoker's; every byte outside it is the user's.

Works on bytes, because a config file may have any encoding; the block itself is ASCII.
"""

from __future__ import annotations

import re
from pathlib import Path

from stoker.errors import ProfileError
from stoker.profile.render import Traits

__all__ = ["remove_block", "render_block", "replace_block"]

_BEGIN = b"# >>> stoker >>>"
_END = b"# <<< stoker <<<"
_NOTE = b" edit the spec, not these lines: `stoker apply` writes them anew"
# What goes again with the block: the newline that a last line without one needed, or the whole file.
_ADDED = b" (added a newline)"
_CREATED = b" (created this file)"
_BLOCK = re.compile(
    rb"(?P<newline>\n?)^" + _BEGIN + rb"(?P<head>[^\n]*)\n.*?^" + _END + rb"[^\n]*\n?",
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


def replace_block(path: Path, text: bytes | None, body: bytes) -> bytes:
    """Put the block, with this body, at the end of a file's text, in place of the one that was there.

    Args:
        path: The file, for error messages.
        text: What it holds; None where there is no file yet.
        body: What ``render_block`` gave.

    Raises:
        ProfileError: The text holds a begin or end of a block without the other.
    """
    rest = remove_block(path, text)
    head = _BEGIN + _NOTE
    if rest is None:
        return head + _CREATED + b"\n" + body + _END + b"\n"
    if rest and not rest.endswith(b"\n"):
        return rest + b"\n" + head + _ADDED + b"\n" + body + _END + b"\n"
    return rest + head + b"\n" + body + _END + b"\n"


def remove_block(path: Path, text: bytes | None) -> bytes | None:
    """Take the block out of a file's text; None where nothing but the block made the file.

    Raises:
        ProfileError: The text holds a begin or end of a block without the other.
    """
    if text is None:
        return None
    created = False

    def take_out(match: re.Match[bytes]) -> bytes:
        nonlocal created
        created = created or _CREATED in match["head"]
        last = match.end() == len(text)
        return b"" if last and _ADDED in match["head"] else match["newline"]

    rest = _BLOCK.sub(take_out, text)
    if any(line.startswith((_BEGIN, _END)) for line in rest.split(b"\n")):
        raise ProfileError(path, "holds half of stoker's block; remove the line that is left of it, then apply again")
    return None if created and not rest else rest
