"""Values as plain data: what ``--json`` prints."""

from __future__ import annotations

import dataclasses
import json
from functools import singledispatch
from pathlib import Path
from typing import Any

from stoker.cluster import Address, Started
from stoker.compute import JournalInfo
from stoker.profile import Plan, ProfileDirectory
from stoker.profile.migrate import Migration

__all__ = ["render_json", "to_data"]


def render_json(value: object) -> str:
    """Render a value as JSON, indented."""
    return json.dumps(to_data(value), indent=2)


@singledispatch
def to_data(value: object) -> Any:
    """Turn a value into what JSON knows: objects by field, sequences as arrays."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_data(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_data(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_data(item) for item in value]
    return value


@to_data.register
def _(value: Path) -> str:
    return str(value)


@to_data.register
def _(value: JournalInfo) -> dict[str, Any]:
    fields = {field.name: to_data(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return {**fields, "complete": value.complete}


@to_data.register
def _(value: ProfileDirectory) -> str:
    return str(value.path)


@to_data.register
def _(value: Address) -> dict[str, str]:
    return {"name": value.name, "directory": str(value.directory.path), "cluster_id": value.cluster_id}


@to_data.register
def _(value: Plan) -> dict[str, Any]:
    return {
        "profile": str(value.directory.path),
        "directories": [{"path": str(path), "mode": f"{mode:04o}"} for path, mode in value.directories],
        "changes": [
            {"path": str(change.path), "new": change.before is None, "diff": change.diff} for change in value.changes
        ],
    }


@to_data.register
def _(value: Migration) -> dict[str, Any]:
    parts = {"retired": value.retired, "carried": value.carried, "left": value.left}
    return {**{name: to_data(steps) for name, steps in parts.items()}, "plan": to_data(value.plan)}


@to_data.register
def _(value: Started) -> dict[str, Any]:
    return {
        **to_data(value.address),
        "new": value.new,
        "seconds": value.seconds,
        "changes": list(value.changes),
        "encrypted": value.record.plan.encrypted,
        "engines": [to_data(engine) for engine in value.record.engines],
        "notices": list(value.notices),
        "open_ports": list(value.open_ports),
        "hindrances": dict(value.hindrances),
    }
