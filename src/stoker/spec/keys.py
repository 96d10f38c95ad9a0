"""The keys of a spec, as its model has them: for messages, for the template, for explanations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stoker.spec.model import ClusterSpec

__all__ = ["Key", "find_section", "list_keys"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key that a spec can hold."""

    place: str
    """Its dotted name, with ``[]`` behind the name of an array of tables: ``engines[].count``."""

    field: FieldInfo
    section: type[BaseModel] | None
    """What it holds where it is a table, or an array of tables."""

    @property
    def name(self) -> str:
        """The last part of its dotted name."""
        return self.place.rpartition(".")[2]

    @property
    def description(self) -> str:
        """What it means, in one line."""
        return " ".join((self.field.description or "").replace("``", "`").split())


def list_keys(model: type[BaseModel] = ClusterSpec, prefix: str = "") -> Iterator[Key]:
    """List the keys of a table and of the tables in it, each table before what it holds."""
    for name, field in model.model_fields.items():
        section = find_section(field)
        yield Key(place=prefix + name, field=field, section=section)
        if section is not None:
            brackets = "[]" if get_args(field.annotation) else ""
            yield from list_keys(section, f"{prefix}{name}{brackets}.")


def find_section(field: FieldInfo) -> type[BaseModel] | None:
    """Give what a key holds where it is a table, or an array of tables; else None."""
    # An array of tables names them in brackets: tuple[EngineGroup, ...].
    found = next(iter(get_args(field.annotation)), field.annotation)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None
