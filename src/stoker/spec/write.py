"""Writing: a spec as TOML text, which reads back as the same spec."""

from __future__ import annotations

import json
import re
from typing import Any

import tomlkit

from stoker.spec.model import ClusterSpec

__all__ = ["render_key", "render_spec", "render_value"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def render_spec(spec: ClusterSpec, *, comment: str = "") -> str:
    """Write a spec as TOML: what was given, not what is default, and always the profile's name.

    Args:
        spec: What to write.
        comment: Lines that go on top.
    """
    data = spec.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    data["cluster"] = {"profile": spec.cluster.profile, **data.get("cluster", {})}
    document = tomlkit.document()
    for line in comment.splitlines():
        document.add(tomlkit.comment(line))
    for name in ClusterSpec.model_fields:
        if name in data:
            document[name] = _order(data[name])
    return tomlkit.dumps(document)


def render_key(name: str) -> str:
    """Write a key, in quotes where it needs them."""
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name)


def render_value(value: object) -> str:
    """Write a value on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{render_key(name)} = {render_value(item)}' for name, item in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(render_value(item) for item in value)}]"
    return json.dumps(value)


def _order(value: Any) -> Any:
    # What becomes a table of its own goes last, where tomlkit would put it: so that reading and writing again
    # gives the same text.
    if isinstance(value, list):
        return [_order(item) for item in value]
    if not isinstance(value, dict):
        return value
    ordered = sorted(value.items(), key=lambda entry: _is_table(entry[1]))
    return {name: _order(item) for name, item in ordered}


def _is_table(value: Any) -> int:
    if isinstance(value, dict):
        return 2
    return int(isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value))
