"""The JSON Schema of a spec, by which editors complete keys and mark what is wrong."""

from __future__ import annotations

from typing import Any, get_args

from stoker.spec.engines import BATCH_SYSTEMS, EngineGroup, list_launchers
from stoker.spec.model import ClusterSpec

__all__ = ["render_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def render_schema() -> dict[str, Any]:
    """Render the model of a spec as a JSON Schema.

    It knows names, types, choices, and which keys belong to which launcher. What takes more than that, such as
    whether ports suffice, only reading the spec finds.
    """
    schema = ClusterSpec.model_json_schema()
    definitions = schema["$defs"]
    # A host is a text, or a table where it differs from its group.
    table = definitions["Host"]
    definitions["Host"] = {
        "title": "Host",
        "anyOf": [{"type": "string", "examples": ["node1", "me@gpu:2222", "node[1-20]"]}, table],
    }
    definitions["EngineGroup"]["allOf"] = _render_rules()
    plain = _strip_markup(schema)
    assert isinstance(plain, dict)
    return {"$schema": _DIALECT, **plain, "title": "A cluster of IPython engines, as stoker reads it"}


def _render_rules() -> list[dict[str, Any]]:
    field = EngineGroup.model_fields["launcher"]
    rules = []
    for launcher in get_args(field.annotation):
        foreign = [key for key in EngineGroup.model_fields if launcher not in (list_launchers(key) or (launcher,))]
        then: dict[str, Any] = {"properties": dict.fromkeys(foreign, False)}
        if launcher == "ssh":
            then["required"] = ["hosts"]
        if launcher in BATCH_SYSTEMS:
            then["required"] = ["count"]
            then["properties"]["count"] = {"type": "integer"}
        chosen = {"properties": {"launcher": {"const": launcher}}}
        # What is not given is no contradiction: the default's rule holds without the key, too.
        condition = chosen if launcher == field.default else {**chosen, "required": ["launcher"]}
        rules.append({"if": condition, "then": then})
    return rules


def _strip_markup(value: object) -> object:
    """Turn the docstrings' double backticks, wherever they are, into single ones, and their line breaks into blanks."""
    if isinstance(value, dict):
        return {
            name: " ".join(item.replace("``", "`").split())
            if name == "description" and isinstance(item, str)
            else _strip_markup(item)
            for name, item in value.items()
        }
    return [_strip_markup(item) for item in value] if isinstance(value, list) else value
