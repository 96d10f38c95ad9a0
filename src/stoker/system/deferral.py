"""Entries of tables that wait until the module which their keys name is imported, by whoever needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["defer"]


def defer(module: str, *tables: dict[Any, Any]) -> None:
    """Take what is keyed by a name of a module (``module.Class``) out of tables until that module is imported.

    For tables whose owner would import it to find the class; an object of a class that nobody has imported cannot be.

    Args:
        module: A top-level module. Where it is imported already, nothing is taken out.
        tables: Changed in place.
    """
    if module in sys.modules:
        return
    waiting = _Waiting(module)
    for table in tables:
        for key in [key for key in table if isinstance(key, str) and key.partition(".")[0] == module]:
            waiting.entries.append((table, key, table.pop(key)))
    if waiting.entries:
        sys.meta_path.insert(0, waiting)


class _Waiting:
    """Finds no module, but is asked when one is imported."""

    def __init__(self, module: str) -> None:
        self.entries: list[tuple[dict[Any, Any], str, Any]] = []
        self._module = module

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        """Put the entries back where this is their module."""
        if name == self._module:
            while self.entries:
                table, key, value = self.entries.pop()
                table.setdefault(key, value)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
