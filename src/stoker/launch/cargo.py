"""The cargo: stoker's own modules, as they are sent to a host where they live in memory only."""

from __future__ import annotations

import functools
import importlib.util
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import stoker

__all__ = ["pack_cargo", "read_bootstrap"]

_ROOMS = ("system", "agent")
_SPARE = ("cloudpickle",)
"""Packages that go along for hosts where they are missing; functions travel with them."""


@functools.cache
def pack_cargo() -> bytes:
    """Pack what an agent needs: its room and those below, and cloudpickle."""
    place = Path(stoker.__file__).parent
    files = {"stoker": place / "__init__.py", "stoker.errors": place / "errors.py"}
    for room in _ROOMS:
        files |= _list_modules(f"stoker.{room}", place / room)
    for name in _SPARE:
        spec = importlib.util.find_spec(name)
        for directory in () if spec is None else spec.submodule_search_locations or ():
            files |= _list_modules(name, Path(directory))
    sources = {name: (path.name == "__init__.py", path.read_text()) for name, path in files.items()}
    return zlib.compress(json.dumps(sources).encode(), 6)


@functools.cache
def read_bootstrap() -> str:
    """Read the program that takes the cargo and goes on in it."""
    return (Path(stoker.__file__).parent / "agent" / "bootstrap.py").read_text() + "\nmain()\n"


def _list_modules(name: str, directory: Path) -> dict[str, Path]:
    return dict(_walk(name, directory))


def _walk(name: str, directory: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(directory.iterdir()):
        if path.name == "__init__.py":
            yield name, path
        elif path.suffix == ".py":
            yield f"{name}.{path.stem}", path
        elif (path / "__init__.py").exists():
            yield from _walk(f"{name}.{path.name}", path)
