"""The template: a spec to start from, with every key, written from the model so that the two cannot drift."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import BaseModel

from stoker.errors import Fault, SpecError
from stoker.spec.engines import BATCH_SYSTEMS, EngineGroup, list_launchers
from stoker.spec.keys import Key, list_keys
from stoker.spec.read import parse_spec
from stoker.spec.write import render_key, render_value
from stoker.system.files import write_file

__all__ = ["render_template", "write_template"]

_WIDTH = 118
_HEAD = """\
A cluster of IPython engines, as stoker reads it. Every key is here, with its default, or with an example where the \
default is to say nothing. Take the "#" in front of a key away to set it.
"""
_GROUPS = {
    "ssh": "Engines on other machines, reached over SSH.",
    "slurm": "Engines in a job of Slurm.",
    "pbs": 'Engines in a job of PBS, or, with "lsf" or "sge", of these.',
    "mpi": "Engines that speak MPI with each other.",
}


def render_template(profile: str) -> str:
    """Write a spec that means the default one, with every key as a comment to take the mark from.

    Comments begin with ``# ``, keys to take the mark from with ``#`` alone.

    Args:
        profile: The profile's name.

    Raises:
        SpecError: No profile can have this name.
    """
    parse_spec({"cluster": {"profile": profile}}, source=f"profile {profile!r}")
    lines = [*_comment(_HEAD)]
    for section in list_keys():
        if "." not in section.place:
            lines += ["", *_render_section(section, profile)]
    return "\n".join([*lines, ""])


def write_template(path: Path, *, force: bool = False) -> None:
    """Write the template into a file, whose name gives the profile's.

    Args:
        path: The file.
        force: Whether it may replace a file that is there.

    Raises:
        SpecError: There is one already, or it cannot be written, or no profile can have this name.
    """
    text = render_template(path.stem).encode()
    try:
        if force:
            write_file(path, text, mode=0o644)
        else:
            # Nobody else's file is replaced, even if it comes into being in this moment.
            with path.open("xb") as file:
                file.write(text)
    except FileExistsError:
        problem = "is there already; take another name, or --force to replace it"
        raise SpecError([Fault(source=str(path), key="", problem=problem)]) from None
    except OSError as error:
        raise SpecError([Fault(source=str(path), key="", problem=f"cannot be written: {error.strerror}")]) from error


def _render_section(section: Key, profile: str) -> Iterator[str]:
    yield from _comment(section.description)
    if section.section is EngineGroup:
        yield from _render_groups(section.section)
        return
    yield f"[{section.place}]"
    if section.section is None:
        for name, value in section.field.examples[0].items() if section.field.examples else ():
            yield f"#{render_key(name)} = {render_value(value)}"
        return
    inner = [key for key in list_keys(section.section) if "." not in key.place]
    for key in inner:
        if key.section is None:
            yield from _render(key, profile if key.place == "profile" else _value(key))
    for key in inner:
        if key.section is not None:
            yield ""
            yield from _comment(key.description)
            yield f"[{section.place}.{key.place}]"
            for leaf in list_keys(key.section):
                yield from _render(leaf, _value(leaf))


def _render_groups(model: type[BaseModel]) -> Iterator[str]:
    """Render a local group with all its keys, then a group of each other kind with what only it has."""
    keys = [key for key in list_keys(model) if "." not in key.place]
    yield "[[engines]]"
    shown: set[str] = set()
    for key in keys:
        if "local" in (list_launchers(key.place) or ("local",)):
            shown.add(key.place)
            yield from _render(key, _value(key))
    for launcher, title in _GROUPS.items():
        yield ""
        yield from _comment(title)
        yield "#[[engines]]"
        yield f'#launcher = "{launcher}"'
        if launcher in BATCH_SYSTEMS:
            yield "#count = 4"
        for key in keys:
            if launcher in list_launchers(key.place) and key.place not in shown:
                shown.add(key.place)
                yield from _render(key, _value(key))


def _render(key: Key, value: object) -> Iterator[str]:
    yield from _comment(key.description + _list_choices(key))
    yield f"#{key.name} = {render_value(value)}"


def _value(key: Key) -> object:
    return key.field.examples[0] if key.field.examples else key.field.default


def _list_choices(key: Key) -> str:
    if get_origin(key.field.annotation) is not Literal:
        return ""
    return f" One of: {', '.join(get_args(key.field.annotation))}."


def _comment(text: str) -> list[str]:
    # Not at hyphens, which belong to names and ranges.
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH, break_on_hyphens=False)]
