"""Stamps: a note that some files were as they should be, so that finding them unchanged needs no second look."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stoker.system.files import read_or_none, write_file

__all__ = ["Stamp", "make_stamp", "read_stamp", "write_stamp"]

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What was found, of which files, under which circumstances."""

    circumstances: Mapping[str, str]
    """Whatever else the finding rests on: versions, the number of cores, ..."""

    files: Mapping[str, str | None]
    """SHA-256 of each file by path; None for one that was not there."""

    lines: tuple[str, ...]
    """What was found, in words."""

    def holds(self, circumstances: Mapping[str, str]) -> bool:
        """Say whether every file is as it was, under the same circumstances."""
        if dict(circumstances) != dict(self.circumstances):
            return False
        return all(_digest(Path(path)) == digest for path, digest in self.files.items())


def make_stamp(files: Iterable[Path], *, circumstances: Mapping[str, str], lines: Iterable[str]) -> Stamp:
    """Make a stamp of files as they are now.

    Raises:
        OSError: One cannot be read.
    """
    digests = {str(path): _digest(path) for path in files}
    return Stamp(circumstances=dict(circumstances), files=digests, lines=tuple(lines))


def read_stamp(path: Path) -> Stamp | None:
    """Read a stamp; None where there is none, or one of another version."""
    try:
        data = json.loads(read_or_none(path) or b"null")
    except (ValueError, OSError):
        return None
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        return None
    return Stamp(circumstances=data["circumstances"], files=data["files"], lines=tuple(data["lines"]))


def write_stamp(path: Path, stamp: Stamp) -> None:
    """Write a stamp."""
    data = {
        "format": _FORMAT,
        "circumstances": dict(stamp.circumstances),
        "files": dict(stamp.files),
        "lines": list(stamp.lines),
    }
    write_file(path, json.dumps(data).encode())


def _digest(path: Path) -> str | None:
    data = read_or_none(path)
    return None if data is None else hashlib.sha256(data).hexdigest()
