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
    from stoker.compute import (
        Executor,
        imap,
        map,  # noqa: A004 - as the builtin
        parallel,
        read_journal,
        starmap,
        submit,
    )
    from stoker.errors import StokerError
    from stoker.faces.joblib_backend import register_joblib
    from stoker.profile import apply_plan, read_plan
    from stoker.spec import ClusterSpec, parse_spec, read_spec

__all__ = [
    "Cluster",
    "ClusterSpec",
    "Executor",
    "StokerError",
    "apply_plan",
    "connect",
    "imap",
    "load_ipython_extension",
    "map",
    "parallel",
    "parse_spec",
    "read_journal",
    "read_plan",
    "read_spec",
    "register_joblib",
    "starmap",
    "submit",
    "unload_ipython_extension",
    "up",
]

__version__ = "0.1.0"

_ROOMS = {
    "Cluster": "cluster",
    "ClusterSpec": "spec",
    "Executor": "compute",
    "StokerError": "errors",
    "apply_plan": "profile",
    "connect": "cluster",
    "imap": "compute",
    "load_ipython_extension": "faces.magics",
    "map": "compute",
    "parallel": "compute",
    "parse_spec": "spec",
    "read_journal": "compute",
    "read_plan": "profile",
    "read_spec": "spec",
    "register_joblib": "faces.joblib_backend",
    "starmap": "compute",
    "submit": "compute",
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
