"""``python -m stoker.launch.controller OPTIONS -- ARGUMENTS``: ipyparallel's controller, made safe to supervise.

It takes the arguments of ``ipcontroller``. Beyond what that does, it ends with whatever ends a part of it, holds a
lease on its supervisor, keeps its key pair over restarts and leaves no half-written file: see ``hub_program``.

Exit statuses: 0 told to stop, by a signal or by a client; 1 it could not start; 2 wrong usage; 69 the lease ran out;
70 one of its children died.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from stoker.errors import StokerError
from stoker.system.orphans import die_with_parent
from stoker.system.runtime import remove_runtime_directory

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Be a controller until it ends, and give its exit status.

    Args:
        argv: The words after the program's name; None: those that it was started with.
    """
    parser = argparse.ArgumentParser(prog="python -m stoker.launch.controller", description="An ipyparallel controller")
    parser.add_argument("--lease-file", type=Path, required=True, help="the file that its supervisor touches")
    parser.add_argument("--lease", type=float, required=True, help="seconds it goes on while nobody touches that")
    parser.add_argument("--end-note", type=Path, required=True, help="the file that says that a client ended it")
    parser.add_argument("--keys", type=Path, required=True, help="the file that keeps its CURVE key pair")
    parser.add_argument("--period", type=int, help="milliseconds between two beats where no configuration says it")
    parser.add_argument("--silence", type=float, help="with it: seconds without a beat until an engine is given up")
    parser.add_argument("--tidy", action="store_true", help="remove the lease file's directory at the end")
    parser.add_argument("--numpy", action="store_true", help="import numpy at once, as ipcontroller does")
    parser.add_argument("arguments", nargs="*", help="after --: arguments of ipcontroller")
    words = parser.parse_args(argv)

    _bind_children()
    with contextlib.nullcontext() if words.numpy else _hidden("numpy"):
        from stoker.launch.hub_program import ControllerOrder, run_controller
    order = ControllerOrder(
        lease_file=words.lease_file,
        lease=words.lease,
        end_note=words.end_note,
        keys=words.keys,
        period=words.period,
        silence=words.silence,
    )
    try:
        return run_controller(order, words.arguments)
    except StokerError as error:
        parser.exit(1, f"{error}\n")
    finally:
        if words.tidy:
            remove_runtime_directory(words.lease_file.parent)


def _bind_children() -> None:
    """See to it that whatever this process forks dies with it, and what that forks with that."""
    if sys.platform != "linux":
        return
    # What is set up here would not reach children that are started afresh, the default from Python 3.14 on.
    multiprocessing.set_start_method("fork")
    # So that children need not import it.
    importlib.import_module("ctypes")
    forking = [0]

    def note_parent() -> None:
        forking[0] = os.getpid()

    def follow_parent() -> None:
        die_with_parent(forking[0])

    os.register_at_fork(before=note_parent, after_in_child=follow_parent)


@contextlib.contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Make a module seem not to be installed.

    ipyparallel imports numpy if it can, for the scheduler ``weighted`` alone: a quarter of the time and of the memory
    of its imports, and threads in a process that is going to fork.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        # Who needs it later, such as a user's configuration, can have it.
        del sys.modules[module]


if __name__ == "__main__":
    sys.exit(main())
