"""Writing: a spec as TOML text, which reads back as the same spec."""

from __future__ import annotations

import tomlkit

from stoker.spec.model import ClusterSpec

__all__ = ["render_spec"]


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
            document[name] = data[name]
    return tomlkit.dumps(document)
