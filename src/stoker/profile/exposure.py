"""Exposure: which files of a profile hold keys that others on this machine can read."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from stoker.errors import ProfileError
from stoker.profile.directory import ProfileDirectory
from stoker.profile.finding import Finding
from stoker.profile.layers import Layer

__all__ = ["read_exposures"]

_KEYS = ("key", "curve_secretkey")


def read_exposures(directory: ProfileDirectory, layers: Sequence[Layer]) -> tuple[Finding, ...]:
    """Find what others can read: the directory of keys, connection files, the spec's copy, keys in config files.

    Raises:
        ProfileError: A directory cannot be listed.
    """
    return (
        *_find_lines(directory, layers),
        *_find_directory(directory.security),
        *_find_files(directory),
    )


def _find_directory(path: Path) -> Iterator[Finding]:
    mode = _mode(path)
    if mode is not None and mode & 0o077:
        today = f"its mode is {mode:04o}: others can enter, and connection files are readable for a moment when made"
        yield _exposed(path, None, "", today, f"chmod 700 {path}")


def _find_files(directory: ProfileDirectory) -> Iterator[Finding]:
    try:
        names = sorted(directory.security.glob("ipcontroller*.json")) if directory.security.is_dir() else []
    except OSError as error:
        raise ProfileError(directory.security, f"cannot be read: {error.strerror}") from error
    for path in names:
        if _is_readable(path, (directory.security, directory.path)):
            today = f"its mode is {_mode(path):04o}: whoever reads the key in it can run code on controller and engines"
            yield _exposed(path, None, "", today, f"chmod 600 {path}, and start the cluster anew for a new key")
    if _is_readable(directory.spec, (directory.path,)):
        today = f"its mode is {_mode(directory.spec):04o}: others can read the spec, with all that env and startup say"
        yield _exposed(directory.spec, None, "", today, f"chmod 600 {directory.spec}")


def _find_lines(directory: ProfileDirectory, layers: Sequence[Layer]) -> Iterator[Finding]:
    for layer in layers:
        if not _is_readable(layer.path, (directory.path,)):
            continue
        for entry in layer.entries:
            secret = entry.trait in _KEYS and (entry.class_name == "Session" or entry.trait != "key")
            if secret and entry.assignment.value not in ("", b""):
                today = f"the key stands in a file of mode {_mode(layer.path):04o}, which others can read"
                yield _exposed(layer.path, entry.assignment.line, entry.name, today, f"chmod 600 {layer.path}")


def _is_readable(path: Path, directories: Sequence[Path]) -> bool:
    """Say whether the group or others can read a file, as far as the directories let them come."""
    mode = _mode(path)
    if mode is None:
        return False
    ways = [_mode(above) or 0 for above in directories]
    return any(mode & read and all(way & enter for way in ways) for read, enter in ((0o040, 0o010), (0o004, 0o001)))


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def _exposed(path: Path, line: int | None, setting: str, today: str, remedy: str) -> Finding:
    return Finding(path=path, line=line, setting=setting, kind="exposed", today=today, remedy=remedy)
