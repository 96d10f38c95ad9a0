"""Processes: started in a session of their own, known by more than their number, ended for certain.

A process number may belong to someone else a moment later. So a process is known by its number and the
moment it started, and everything that belongs to one run of a cluster carries a mark in its environment,
which children inherit: whatever dies in between, the rest is found again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stoker.errors import StopError

if TYPE_CHECKING:
    import subprocess

__all__ = [
    "ProcessId",
    "count_children",
    "exit_status",
    "find_marked",
    "identify",
    "is_running",
    "kill_marked",
    "list_children",
    "read_age",
    "spawn",
    "stop",
]

_POLL = 0.02
_KILL_WAIT = 10.0
_PROC = Path("/proc")
_LOOKS = 20
_LOOK_AGAIN = 0.002
_KERNEL_THREAD = 0x00200000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    """The process number, which is also its process group and session where ``spawn`` started it."""

    started: int
    """Clock ticks between boot and its start; 0 where the system does not tell."""


# Popen objects of what this process started: a child must be reaped by its parent, and only its parent
# learns its exit status.
_children: dict[ProcessId, subprocess.Popen[bytes]] = {}


def spawn(argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> ProcessId:
    """Start a process in a session of its own, which goes on after this one; a thread here reaps it.

    Args:
        argv: The program and its arguments; no shell sees them.
        env: Its whole environment.
        cwd: Its working directory.
        log: The file that gets what it prints; written anew, readable by its owner alone.

    Raises:
        OSError: The program, the directory or the log file cannot be used.
    """
    # Not for agents, which start nothing this way.
    import subprocess
    import threading

    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    output = os.open(log, flags, 0o600)
    try:
        # One that was there keeps its own permissions otherwise.
        os.fchmod(output, 0o600)
        child = subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    finally:
        os.close(output)
    process = identify(child.pid) or ProcessId(pid=child.pid, started=0)
    _children[process] = child
    # One that is not reaped at once looks alive to whoever else waits for its end, such as `ipcluster stop`.
    threading.Thread(target=child.wait, name=f"reaper of {child.pid}", daemon=True).start()
    return process


def identify(pid: int) -> ProcessId | None:
    """Give the identity of the process that has this number now; None where there is none."""
    if _is_linux():
        stat = _read_stat(pid)
        return None if stat is None else ProcessId(pid=pid, started=stat.started)
    return ProcessId(pid=pid, started=0) if _answers(pid) else None


def is_running(process: ProcessId) -> bool:
    """Say whether a process still runs. One that has ended but was not reaped has ended."""
    if exit_status(process) is not None:
        return False
    if not _is_linux():
        return _answers(process.pid)
    stat = _read_stat(process.pid)
    return stat is not None and stat.started == process.started and stat.state not in "ZX"


def exit_status(process: ProcessId, *, wait: float = 0.0) -> int | None:
    """Give the exit status of a child of ours that ended, negative for a signal; None otherwise.

    Args:
        process: The child.
        wait: Seconds to wait for its end: a process whose first thread has ended may have others that end later.
    """
    child = _children.get(process)
    if child is None:
        return None
    import subprocess

    with contextlib.suppress(subprocess.TimeoutExpired):
        return child.wait(wait) if wait else child.poll()
    return None


def count_children(process: ProcessId) -> int | None:
    """Count the children of a process that run; None where the system does not tell."""
    return len(list_children(process.pid)) if _is_linux() else None


def list_children(pid: int) -> tuple[int, ...]:
    """List the children of a process that run, by number; none where the system does not tell."""
    if not _is_linux():
        return ()
    numbers = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]
    stats = {number: _read_stat(number) for number in numbers}
    return tuple(
        number for number, stat in stats.items() if stat is not None and stat.parent == pid and stat.state not in "ZX"
    )


def read_age(process: ProcessId) -> float | None:
    """Give the seconds since a process started; None where the system does not tell."""
    if not _is_linux() or not process.started:
        return None
    uptime = float((_PROC / "uptime").read_text().split()[0])
    return max(0.0, uptime - process.started / os.sysconf("SC_CLK_TCK"))


def find_marked(variable: str, value: str, *, groups: Iterable[ProcessId] = ()) -> tuple[ProcessId, ...]:
    """Find the running processes whose environment carried a mark when they started.

    Args:
        variable: The environment variable.
        value: Its value.
        groups: Leaders of process groups to look at where the system does not show environments
            (anywhere but Linux).
    """
    if not _is_linux():
        return tuple(leader for leader in groups if _answers(leader.pid, group=True))
    mark = f"{variable}={value}".encode()
    return tuple(
        process
        for entry in _PROC.iterdir()
        if entry.name.isdecimal() and (process := _identify_marked(int(entry.name), mark)) is not None
    )


def kill_marked(variable: str, value: str) -> None:
    """Kill every running process whose environment carried a mark when it started; see ``find_marked``."""
    for process in find_marked(variable, value):
        _signal(process, signal.SIGKILL)


def stop(find: Callable[[], Sequence[ProcessId]], *, grace: float) -> int:
    """End processes: ask all of them, give them one deadline, then insist.

    Args:
        find: Gives the processes that still run; asked again and again, because they may start others.
        grace: Seconds between SIGTERM and SIGKILL.

    Returns:
        How many processes had to be killed.

    Raises:
        StopError: Some outlive SIGKILL.
    """
    start: float | None = None
    asked: set[ProcessId] = set()
    killed: set[ProcessId] = set()
    # Whoever was born during one look, of a parent that ended during it, is seen by the next.
    while running := find() or find():
        # A look may take long; nobody is killed who was not asked before.
        start = start or time.monotonic()
        waited = time.monotonic() - start
        if waited > grace + _KILL_WAIT:
            raise StopError([process.pid for process in running])
        signum, told = (signal.SIGTERM, asked) if waited <= grace else (signal.SIGKILL, killed)
        for process in running:
            if process not in told:
                told.add(process)
                _signal(process, signum)
        time.sleep(_POLL)
    return len(killed)


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str
    parent: int
    flags: int
    started: int


def _is_linux() -> bool:
    return sys.platform == "linux"


def _read_stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may itself hold spaces and parentheses. See proc_pid_stat(5).
    fields = text.rpartition(")")[2].split()
    return _Stat(state=fields[0], parent=int(fields[1]), flags=int(fields[6]), started=int(fields[19]))


def _read_environment(pid: int) -> bytes:
    for _ in range(_LOOKS):
        try:
            environment = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            return b""
        # It is empty while a process replaces its program by another (exec), which may take as long as one
        # time slice on a busy machine; always so for what has ended and for the kernel's own threads.
        stat = None if environment else _read_stat(pid)
        if stat is None or stat.state in "ZX" or stat.flags & _KERNEL_THREAD:
            return environment
        time.sleep(_LOOK_AGAIN)
    return b""


def _identify_marked(pid: int, mark: bytes) -> ProcessId | None:
    if mark not in _read_environment(pid).split(b"\0"):
        return None
    process = identify(pid)
    return process if process is not None and is_running(process) else None


def _signal(process: ProcessId, signum: signal.Signals) -> None:
    try:
        if not hasattr(os, "pidfd_open"):
            os.killpg(process.pid, signum)
            return
        handle = os.pidfd_open(process.pid)
    except (ProcessLookupError, PermissionError):
        return
    try:
        # Between the look and the signal the number may pass to another process; the handle cannot.
        if is_running(process):
            signal.pidfd_send_signal(handle, signum)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def _answers(pid: int, *, group: bool = False) -> bool:
    try:
        (os.killpg if group else os.kill)(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
