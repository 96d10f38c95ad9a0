"""What every engine needs, imported once before the first fork. Starts no thread, no event loop, no ZeroMQ context."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys

from stoker.system.deferral import defer
from stoker.system.lazy_package import import_lazily
from stoker.system.usage import count_tasks

__all__ = ["find_hindrance", "preload"]

# Beside what the engine's module imports: what a start would import late, each engine for itself. Found by comparing
# sys.modules before a fork and in an engine that has run one task of each kind.
_LATE = (
    "cloudpickle",
    "encodings.ascii",
    "faulthandler",
    "IPython.core.completerlib",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "bdb",
    # Of a view's map.
    "ipyparallel.client.remotefunction",
    "sqlite3",
    "tornado.platform.asyncio",
    "unicodedata",
)
# What every engine asks these two packages for, by the module of theirs that has it. The rest is for clients and for
# starting kernels and clusters, 3 MB and a quarter of an agent's start; a task that uses it gets it whole.
_WANTED = {
    # To can a result.
    "ipyparallel": {"dependent": "controller.dependency"},
    "jupyter_client": {"write_connection_file": "connect", "BlockingKernelClient": "blocking"},
}


def preload() -> None:
    """Import what an engine's start needs, and keep the collector from touching, and so from copying, what it made."""
    _leave_out_clients()
    _leave_out_debugger()
    importlib.import_module("stoker.agent.engine")
    # Each engine would import it to can its first result, 8 MB and 0.1 s.
    canning = importlib.import_module("ipyparallel.serialize.canning")
    defer("numpy", canning.can_map, canning.uncan_map)
    for name in _LATE:
        try:
            importlib.import_module(name)
        except ImportError:
            # Of another version of IPython: the engine gets by without it, or imports what replaced it.
            continue
    gc.collect()
    gc.freeze()


def _leave_out_clients() -> None:
    for package in _WANTED:
        import_lazily(package)
    for package, wanted in _WANTED.items():
        for name, module in wanted.items():
            # Of another version: the package is whole when the first asks for it.
            with contextlib.suppress(ImportError, AttributeError):
                value = getattr(importlib.import_module(f"{package}.{module}"), name)
                vars(sys.modules[package]).setdefault(name, value)


def _leave_out_debugger() -> None:
    # Every IPython kernel loads debugpy, 12 MB and the half of an engine's start, for debuggers that attach through
    # Jupyter, which knows no engines. A task that imports debugpy still gets it.
    if "debugpy" not in sys.modules:
        sys.modules["debugpy"] = None  # type: ignore[assignment]
        importlib.import_module("ipykernel.debugger")
        del sys.modules["debugpy"]


def find_hindrance() -> str:
    """Say what stands against forking this process; empty where nothing does."""
    if not hasattr(os, "fork"):
        return "this system has no fork"
    tasks = count_tasks(os.getpid())
    if tasks is not None and tasks > 1:
        return f"something that was imported has started {tasks - 1} thread{'' if tasks == 2 else 's'}"
    return ""
