"""The child that computes: takes batches of calls from its keeper, runs them, writes down what came of each.

Each outcome is in its keeper's file before the next call begins, so whatever kills this process costs the one call
that ran. It imports as little as it can: what it leaves out is what starts fast, and what users' functions find clean.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import sys
import time
from collections.abc import Callable

from stoker.queue.calls import find_function
from stoker.queue.frames import read_frame, write_frame
from stoker.queue.outcome import pack_error, pack_value
from stoker.queue.plain import dump_plain, load_plain
from stoker.system.orphans import die_with_parent

__all__ = ["DONE", "LARGEST", "READY", "main"]

READY = b"r"
"""Told to the keeper when the first batch may come."""

DONE = b"d"
"""Told to the keeper at the end of each batch."""

LARGEST = 128 << 20
"""Bytes that one call's arguments, or its outcome, may have."""


def main(channel: int, outcomes: int, parent: int) -> None:
    """Run batches until the keeper hangs up.

    Args:
        channel: An open socket to the keeper.
        outcomes: An open file that gets a frame for each call, in order: kind, payload, seconds.
        parent: The keeper's process.
    """
    die_with_parent(parent)
    for handle in (channel, outcomes):
        os.set_inheritable(handle, False)
    keeper = socket.socket(fileno=channel)
    functions: dict[str, Callable[..., object]] = {}
    try:
        keeper.sendall(READY)
        while (message := read_frame(channel)) is not None:
            for name, arguments in load_plain(message):
                begin = time.perf_counter()
                kind, payload = _run(functions, name, arguments)
                write_frame(outcomes, dump_plain((kind, payload, time.perf_counter() - begin)))
            _flush()
            keeper.sendall(DONE)
    # The keeper is gone, and nobody wants anything of this process any more.
    except (BrokenPipeError, ConnectionResetError):
        sys.exit(1)


def _run(functions: dict[str, Callable[..., object]], name: str, arguments: bytes) -> tuple[str, bytes]:
    try:
        function = functions.get(name)
        if function is None:
            function = functions[name] = find_function(name)
        positional, keywords = pickle.loads(arguments)  # noqa: S301 - who may put jobs may run code here
        payload = pack_value(function(*positional, **keywords))
        if len(payload) <= LARGEST:
            return "value", payload
        raise ValueError(f"a result may have {LARGEST >> 20} MiB, this one has {len(payload) / (1 << 20):.0f}")
    # Also SystemExit and KeyboardInterrupt: they are the job's, and this process goes on.
    except BaseException as error:
        return "error", pack_error(error, skip=1)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
