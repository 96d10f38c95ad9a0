"""Stoker keeps a cluster of IPython engines fed.

>>> import stoker
>>> with stoker.up() as cluster:  # doctest: +SKIP
...     cluster.view.map_sync(lambda x: x**2, range(5))
[0, 1, 4, 9, 16]

Importing this loads neither ipyparallel nor IPython; names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stoker import queue as queue
    from stoker.cluster import Cluster, connect, up
    from stoker.compute import parallel
    from stoker.errors import StokerError
    from stoker.profile import apply_plan, read_plan
    from stoker.spec import ClusterSpec, parse_spec, read_spec

__all__ = [
    "Cluster",
    "ClusterSpec",
    "StokerError",
    "apply_plan",
    "connect",
    "load_ipython_extension",
    "parallel",
    "parse_spec",
    "read_plan",
    "read_spec",
    "unload_ipython_extension",
    "up",
]

__version__ = "0.1.0"

_ROOMS = {
    "Cluster": "cluster",
    "ClusterSpec": "spec",
    "StokerError": "errors",
    "apply_plan": "profile",
    "connect": "cluster",
    "load_ipython_extension": "faces.magics",
    "parallel": "compute",
    "parse_spec": "spec",
    "read_plan": "profile",
    "read_spec": "spec",
    "unload_ipython_extension": "faces.magics",
    "up": "cluster",
}


def __getattr__(name: str) -> Any:
    if name == "queue":
        return importlib.import_module(f"{__name__}.queue")
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{room}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
