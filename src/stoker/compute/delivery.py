"""How the runner gets to the engines: its text travels with batches until all have it, and then its name alone."""

from __future__ import annotations

import hashlib
import inspect
from functools import cache
from typing import Any

from ipyparallel.serialize import PrePickled

from stoker.compute import runner
from stoker.compute.parallel import portable

__all__ = ["deliver", "lacks_runner"]


def deliver(parts: tuple[Any, ...], *, known: bool) -> tuple[PrePickled, list[Any]]:
    """Give the function that an engine is to call for a batch, and its arguments.

    Args:
        parts: The arguments of ``runner.run_parts``.
        known: Whether all engines have the runner.
    """
    return (_Named(), [parts]) if known else (_stub(), [_name_runner(), _read_runner(), parts])


def lacks_runner(reason: str) -> bool:
    """Say whether a batch failed because its engine had no runner, though it was said to have it."""
    return _name_runner() in reason


class _Named(PrePickled):  # type: ignore[misc]
    """The runner, for engines that have it; on others unpacking it raises a ``ModuleNotFoundError``."""

    def __init__(self) -> None:
        self.buffers = [b"c" + _name_runner().encode() + b"\nrun_parts\n."]


def _call_runner(name: str, source: str, parts: tuple[Any, ...]) -> Any:
    import sys
    import types

    module = sys.modules.get(name)
    if module is None:
        module = types.ModuleType(name)
        # Dataclasses and pickle look modules up there.
        sys.modules[name] = module
        exec(compile(source, name, "exec"), module.__dict__)  # noqa: S102 - stoker's own text
    return module.run_parts(parts)


@cache
def _stub() -> PrePickled:
    return PrePickled(portable(_call_runner))


@cache
def _read_runner() -> str:
    return inspect.getsource(runner)


@cache
def _name_runner() -> str:
    return f"_stoker_runner_{hashlib.sha256(_read_runner().encode()).hexdigest()[:12]}"
