"""Set-ups: what a user wants every new engine to have before it takes tasks."""

from __future__ import annotations

import base64
import importlib
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Setup", "pack_setup", "run_setup", "run_setups"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Something that every engine gets."""

    imports: tuple[str, ...] = ()
    """Modules; ``numpy.linalg`` binds ``numpy``, ``numpy as np`` binds ``np``."""

    names: Mapping[str, Any] = field(default_factory=dict)
    """Names that are set in the engine's namespace."""

    function: Callable[[], Any] | None = None
    """Is called last."""

    cloudpickle: bool = False
    """Whether ipyparallel in the engine takes cloudpickle for what it sends."""


def pack_setup(setup: Setup) -> str:
    """Write a set-up as text; functions of the caller's own modules travel by value where they must."""
    import cloudpickle

    parts = (setup.imports, dict(setup.names), setup.function, setup.cloudpickle)
    return base64.b64encode(cloudpickle.dumps(parts)).decode()


def run_setups(packed: Iterable[str], namespace: dict[str, Any]) -> None:
    """Run set-ups in an engine, in their order."""
    for text in packed:
        run_setup(text, namespace)


def run_setup(packed: str, namespace: dict[str, Any]) -> None:
    """Run a set-up in an engine.

    Args:
        packed: As ``pack_setup`` gives it.
        namespace: The user's names there.
    """
    imports, names, function, cloudpickle = pickle.loads(base64.b64decode(packed))  # noqa: S301 - the user's own
    for module in imports:
        path, _, alias = (part.strip() for part in module.partition(" as "))
        importlib.import_module(path)
        namespace[alias or path.partition(".")[0]] = sys.modules[path if alias else path.partition(".")[0]]
    namespace.update(names)
    if cloudpickle:
        from ipyparallel.serialize import use_cloudpickle

        use_cloudpickle()
    if function is not None:
        function()
