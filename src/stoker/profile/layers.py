"""The layers of a profile's configuration: which application reads which settings, in which order. Runs no file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stoker.errors import ProfileError
from stoker.profile.block import find_span
from stoker.profile.directory import CONFIG_FILES
from stoker.profile.source import Assignment, Import, Source, parse_source

__all__ = ["APPLICATIONS", "Entry", "Layer", "list_entries", "parse_layer", "parse_overlay"]

APPLICATIONS: Mapping[str, tuple[str, ...]] = {
    "ipcontroller": ("ipython_config.py", "ipcontroller_config.py"),
    "ipengine": ("ipython_config.py", "ipengine_config.py"),
    "ipcluster": ("ipython_config.py", "ipcluster_config.py"),
    "ipython": ("ipython_config.py",),
    "ipython kernel": ("ipython_config.py", "ipython_kernel_config.py"),
}
"""The files of a profile that each application reads, in its order; beside each, its ``.json`` overlay after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One setting in one file."""

    path: Path
    file: str
    """The config file, ``ipcontroller_config.py`` also for its overlay."""

    order: tuple[int, int, int]
    """Orders the entries of a profile: later ones beat earlier ones of the same name in one application."""

    assignment: Assignment
    in_block: bool

    @property
    def name(self) -> str:
        """The setting as it stands in the file."""
        return self.assignment.name if self.path.suffix == ".json" else f"c.{self.assignment.name}"

    @property
    def class_name(self) -> str:
        """The innermost section."""
        return self.assignment.path[-2]

    @property
    def trait(self) -> str:
        """The trait's own name."""
        return self.assignment.path[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one file says."""

    path: Path
    file: str
    entries: tuple[Entry, ...]
    imports: tuple[Import, ...] = ()
    span: tuple[int, int] | None = None
    """First and last line of stoker's block; None where there is none."""


def parse_layer(path: Path, text: bytes) -> Layer:
    """Read what a config file says.

    Raises:
        ProfileError: It is no Python; IPython drops the whole file.
    """
    source: Source = parse_source(path, text)
    span = find_span(text)

    def is_ours(line: int) -> bool:
        return span is not None and span[0] <= line <= span[1]

    place = _place(path.name)
    entries = tuple(
        Entry(
            path=path,
            file=path.name,
            order=(place, 0, number),
            assignment=assignment,
            in_block=is_ours(assignment.line),
        )
        for number, assignment in enumerate(source.assignments)
    )
    return Layer(path=path, file=path.name, entries=entries, imports=source.imports, span=span)


def parse_overlay(path: Path, text: bytes) -> Layer:
    """Read what the ``.json`` file beside a config file says, which beats the config file.

    Raises:
        ProfileError: It is no JSON object; IPython drops the whole file.
    """
    try:
        decoded = text.decode()
        data = json.loads(decoded)
    except json.JSONDecodeError as error:
        raise ProfileError(path, f"is no JSON (line {error.lineno}: {error.msg})") from None
    except ValueError as error:
        raise ProfileError(path, f"is no JSON (line 1: {error})") from None
    except RecursionError:
        raise ProfileError(path, "is no JSON (line 1: nested too deeply)") from None
    if not isinstance(data, dict):
        raise ProfileError(path, "is no JSON object (line 1)")
    if data.get("version", 1) != 1:
        raise ProfileError(path, f"is in a version of the format that traitlets does not know ({data['version']!r})")
    file = f"{path.stem}.py"
    entries = tuple(
        Entry(
            path=path,
            file=file,
            order=(_place(file), 1, number),
            assignment=Assignment(path=names, value=value, line=line, last_line=line, whole_lines=False),
            in_block=False,
        )
        for number, (names, value, line) in enumerate(_flatten(data, decoded))
    )
    return Layer(path=path, file=file, entries=entries)


def list_entries(layers: Sequence[Layer], application: str) -> tuple[Entry, ...]:
    """Give the entries that an application reads; later ones beat earlier ones."""
    files = APPLICATIONS[application]
    found = [entry for layer in layers if layer.file in files for entry in layer.entries]
    return tuple(sorted(found, key=lambda entry: (files.index(entry.file), *entry.order[1:])))


def _flatten(data: Mapping[str, object], text: str) -> Iterator[tuple[tuple[str, ...], object, int]]:
    pending: list[tuple[tuple[str, ...], object, int]] = [
        ((key,), value, _find_key(text, key, 0)) for key, value in data.items()
    ]
    while pending:
        path, value, start = pending.pop(0)
        # As traitlets has it, a section begins with a capital.
        if isinstance(value, dict) and path[-1][:1].isupper():
            inner = [((*path, key), item, _find_key(text, key, start)) for key, item in value.items()]
            pending = inner + pending
        elif len(path) >= 2:
            yield path, value, text.count("\n", 0, start) + 1


def _find_key(text: str, key: str, start: int) -> int:
    match = re.compile(re.escape(json.dumps(key)) + r"\s*:").search(text, start)
    return match.end() if match else start


def _place(file: str) -> int:
    return CONFIG_FILES.index(file) if file in CONFIG_FILES else len(CONFIG_FILES)
