"""What runs first in a Python on a host: it takes stoker's modules from its standard input into memory.

It is sent as text, so it imports only the standard library, and runs on every Python 3 that is to be told that it is
too old.
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import sys
import zlib
from collections.abc import Sequence
from types import CodeType, ModuleType
from typing import Any

__all__ = ["Cargo", "main"]


class Cargo:
    """Modules that came over a connection: a finder and loader of ``sys.meta_path``."""

    def __init__(self, data: bytes) -> None:
        """Unpack.

        Args:
            data: As ``launch.cargo.pack_cargo`` gives it.
        """
        self.data = data
        self._sources: dict[str, tuple[bool, str]] = json.loads(zlib.decompress(data).decode())

    def install(self) -> None:
        """Have what is in it imported from now on; what is installed here too comes first, stoker itself excepted."""
        sys.meta_path.insert(0, self)
        sys.meta_path.append(_Spare(self))

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find one of stoker's modules."""
        return self.find(name) if name.partition(".")[0] == "stoker" else None

    def find(self, name: str) -> importlib.machinery.ModuleSpec | None:
        """Find a module."""
        if name not in self._sources:
            return None
        return importlib.machinery.ModuleSpec(
            name,
            self,  # type: ignore[arg-type]
            origin="cargo of stoker",
            is_package=self._sources[name][0],
        )

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Run a module's code."""
        name = module.__name__
        exec(self.get_code(name), module.__dict__)  # noqa: S102 - what an import does

    def get_code(self, name: str) -> CodeType:
        """Compile a module."""
        return compile(self.get_source(name), f"<{name}>", "exec", dont_inherit=True)

    def get_source(self, name: str) -> str:
        """Give a module's text, for tracebacks."""
        return self._sources[name][1]


class _Spare:
    def __init__(self, cargo: Cargo) -> None:
        self._cargo = cargo

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return self._cargo.find(name)


def main() -> None:
    """Take the request and the modules, and go on in these."""
    _say({"say": "python", "version": sys.version.split()[0], "executable": sys.executable})
    request = json.loads(b"".join(iter(lambda: _read(1), b"\n")).decode())
    cargo = Cargo(_read(request["cargo"]))
    if list(sys.version_info[:2]) != request["python"]:
        _say({"say": "failed", "stage": "python", "kind": "version", "problem": sys.version.split()[0]})
        return
    cargo.install()
    from stoker.agent.outpost import serve_request

    serve_request(request)


def _say(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def _read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            os._exit(3)
        data += piece
    return data
