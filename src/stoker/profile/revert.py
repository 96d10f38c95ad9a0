"""Reverting: plans a profile back to the bytes before stoker. What its owner wrote since then stays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stoker.errors import ProfileError, SpecError
from stoker.profile.block import read_body, render_block, restore_text
from stoker.profile.catalogue import read_catalogue
from stoker.profile.directory import CONFIG_FILES, ProfileDirectory
from stoker.profile.plan import FileChange, Plan, read_text
from stoker.profile.render import render_settings
from stoker.spec import read_spec
from stoker.system.machine import read_cores

__all__ = ["Conflict", "Reversion", "read_reversion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A line within stoker's block that stoker did not write; reverting would lose it."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: written by hand into stoker's block: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversion:
    """What reverting a profile changes, and what stands in its way."""

    plan: Plan
    conflicts: tuple[Conflict, ...]


def read_reversion(directory: ProfileDirectory) -> Reversion:
    """Plan the way back: blocks out, retired lines in force again, files that stoker made removed.

    Raises:
        ProfileError: The profile is not there, or a file cannot be read or holds half of a block.
    """
    if not directory.path.is_dir():
        raise ProfileError(directory.path, "there is no such profile")
    texts = {directory.path / name: read_text(directory.path / name) for name in CONFIG_FILES}
    changes = [
        FileChange(path=path, before=text, after=restore_text(path, text))
        for path, text in texts.items()
        if text is not None
    ]
    changes.append(FileChange(path=directory.spec, before=read_text(directory.spec), after=None))
    expected = _read_expected(directory)
    return Reversion(
        plan=Plan(
            directory=directory,
            directories=(),
            changes=tuple(change for change in changes if change.before != change.after),
        ),
        conflicts=tuple(
            conflict
            for path, text in texts.items()
            if text is not None
            for conflict in _find_conflicts(path, text, expected.get(path.name, ()))
        ),
    )


def _read_expected(directory: ProfileDirectory) -> dict[str, tuple[bytes, ...]]:
    """Render what the blocks should hold; nothing where the copy of the spec cannot tell."""
    if not directory.spec.exists():
        return {}
    try:
        spec = read_spec(directory.spec)
    except SpecError:
        return {}
    catalogue = read_catalogue() if spec.settings else None
    settings = render_settings(spec, cores=read_cores(), catalogue=catalogue)
    return {name: tuple(render_block(traits).splitlines()) for name, traits in settings.files.items()}


def _find_conflicts(path: Path, text: bytes, expected: tuple[bytes, ...]) -> list[Conflict]:
    body = read_body(text)
    if body is None or not expected:
        return []
    first = text[: text.index(body)].count(b"\n") + 1 if body else 0
    return [
        Conflict(path=path, line=number, text=line.decode(errors="replace").strip())
        for number, line in enumerate(body.splitlines(), start=first)
        if line.strip() and line not in expected
    ]
