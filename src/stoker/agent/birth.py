"""Birth: how an engine's process comes to be, by fork or as an interpreter of its own."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from stoker.agent.order import EngineOrder
from stoker.agent.page import EnginePage, open_nameless
from stoker.system.orphans import die_with_parent

__all__ = ["ENGINE_VARIABLE", "become_engine", "close_handles", "read_order", "set_name", "spawn_interpreter"]

ENGINE_VARIABLE = "STOKER_ENGINE"
"""Tells in the environment of what an engine starts which engine that was."""

_PR_SET_NAME = 15
_OUTPUT = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
# Stoker need not be installed for this interpreter: the agent's modules come from where this one is.
_PROGRAM = """
import sys
place = sys.argv.pop(1)
sys.path.insert(0, place)
from stoker.agent.interpreter import main
sys.path.remove(place)
main(*sys.argv[1:])
"""
# Or, on a host that was reached from elsewhere, from an open file, as they came.
_CARGO_PROGRAM = """
import sys
from pathlib import Path
with open(int(sys.argv.pop(1)), "rb") as file:
    Cargo(file.read()).install()
from stoker.agent.interpreter import main
main(*sys.argv[1:])
"""
# The interpreter itself ignores these two; nothing else is to be inherited.
_IGNORED = (signal.SIGPIPE, getattr(signal, "SIGXFSZ", signal.SIGPIPE))


def become_engine(order: EngineOrder, *, agent: int) -> None:
    """Make a process that was just forked fresh, as if it had been started for this engine alone.

    Args:
        order: What the engine is to be.
        agent: The process number of its agent, with which it dies.
    """
    os.setsid()
    die_with_parent(agent)
    _reset_signals()
    _reset_files(order.log)
    if order.work_dir is not None:
        os.chdir(order.work_dir)
    os.environ.update(order.env)
    os.environ[ENGINE_VARIABLE] = f"{os.getpid()}"
    # The time zone is read from the environment once, when a program starts.
    time.tzset()
    set_name(f"engine {order.number}")
    _draw_anew()
    gc.enable()


def spawn_interpreter(order: EngineOrder, page: int, *, agent: int) -> int:
    """Start an interpreter for an engine, which reads its order from its standard input; give its process number.

    Raises:
        OSError: It cannot be started, or its directory or log cannot be used.
    """
    # Not where engines are forked.
    import subprocess

    log = _open_log(order.log)
    cargo: Any = next((each for each in sys.meta_path if isinstance(getattr(each, "data", None), bytes)), None)
    handles = [page]
    # Not a pipe: a large order would keep this process waiting for that one.
    sent = open_nameless()
    try:
        _write(sent, json.dumps(order.to_json()).encode())
        if cargo is None:
            program = ["-c", _PROGRAM, str(Path(__file__).parents[2])]
        else:
            handles.append(open_nameless())
            _write(handles[-1], cargo.data)
            program = ["-c", cargo.get_source("stoker.agent.bootstrap") + _CARGO_PROGRAM, str(handles[-1])]
        child = subprocess.Popen(
            [sys.executable, *program, str(page), str(agent)],
            stdin=sent,
            stdout=log,
            stderr=log,
            cwd=order.work_dir,
            env={**os.environ, **order.env},
            pass_fds=handles,
            start_new_session=True,
        )
    finally:
        for handle in (sent, log, *handles[1:]):
            os.close(handle)
    pid = child.pid
    # The agent itself waits for every child that it has.
    child.returncode = 0
    return pid


def read_order(page: int, *, agent: int) -> tuple[EngineOrder, EnginePage]:
    """Take the order that ``spawn_interpreter`` has sent to this process, and its page."""
    die_with_parent(agent)
    order = EngineOrder.from_json(json.load(sys.stdin))
    memory = EnginePage.map(page)
    os.close(page)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.environ[ENGINE_VARIABLE] = f"{os.getpid()}"
    set_name(f"engine {order.number}")
    return order, memory


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, *_IGNORED}:
        try:
            signal.signal(signum, signal.SIG_DFL)
        except (OSError, ValueError):
            # The system's own, which nobody can set.
            continue
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _open_log(log: str) -> int:
    output = os.open(log, _OUTPUT, 0o600)
    # One that was there keeps its own permissions otherwise.
    os.fchmod(output, 0o600)
    return output


def _write(handle: int, data: bytes) -> None:
    with open(handle, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(handle, 0, os.SEEK_SET)


def _draw_anew() -> None:
    # Python reseeds its own generator after a fork; these two stay copies.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    multiprocessing_process = sys.modules.get("multiprocessing.process")
    if multiprocessing_process is not None:
        multiprocessing_process.current_process().authkey = os.urandom(32)


def _reset_files(log: str) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    output = _open_log(log)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    close_handles(3)


def close_handles(first: int) -> None:
    """Close every open file of this process from a number on."""
    try:
        highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    except OSError:
        highest = os.sysconf("SC_OPEN_MAX")
    os.closerange(first, highest + 1)


def set_name(name: str) -> None:
    """Say what ps and top show of this process; 15 bytes at the most. See prctl(2)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)
