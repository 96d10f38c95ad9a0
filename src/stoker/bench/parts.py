"""Parts: which processes a contender's cluster consists of, and what each of them is. Read in its own program.

A process belongs to the cluster if it carries the mark of the program's run, or descends from one that does
(Ray's workers write their title over their environment).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from stoker.bench.measure import MARK

__all__ = ["CLIENT", "NamePart", "Parts", "Seen", "plan_parts", "read_processes"]

CLIENT = "client"
"""The part that is the program itself."""

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A process, as it was at one moment."""

    pid: int
    parent: int
    marked: bool
    """Whether its environment carries the mark of this run."""

    command: tuple[str, ...] = ()
    """The words that it was started with, or its title."""


NamePart = Callable[[Seen, str | None], str]
"""Names the part that a process is, given the part that its parent is; None: that one is not of the cluster."""

Parts = Mapping[str, frozenset[int]]
"""The processes of a cluster, by the part they are."""


def plan_parts(processes: Collection[Seen], name_part: NamePart, *, program: int) -> dict[str, frozenset[int]]:
    """Decide which part of the cluster each process is; one that is of no cluster, or of another, is left out.

    Args:
        processes: All that there are.
        name_part: Says what one is, whatever its descendants are; not asked about the program.
        program: The pid of the program, which is ``CLIENT``.
    """
    cluster = _choose_cluster(processes, program)
    parts: dict[str, set[int]] = {}
    waiting: list[tuple[Seen, str | None]] = [(seen, None) for seen in cluster.values() if seen.parent not in cluster]
    while waiting:
        seen, above = waiting.pop()
        part = CLIENT if seen.pid == program else name_part(seen, above)
        parts.setdefault(part, set()).add(seen.pid)
        waiting += [(child, part) for child in cluster.values() if child.parent == seen.pid]
    return {part: frozenset(pids) for part, pids in parts.items()}


def read_processes() -> tuple[Seen, ...]:
    """Read which processes there are."""
    mark = f"{MARK}={os.environ.get(MARK, '')}".encode()
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]
    return tuple(seen for pid in pids if (seen := _read_process(pid, mark)) is not None)


def _choose_cluster(processes: Collection[Seen], program: int) -> dict[int, Seen]:
    children: dict[int, list[Seen]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    chosen: dict[int, Seen] = {}
    waiting = [process for process in processes if process.marked or process.pid == program]
    while waiting:
        process = waiting.pop()
        if process.pid not in chosen:
            chosen[process.pid] = process
            waiting += children.get(process.pid, ())
    return chosen


def _read_process(pid: int, mark: bytes) -> Seen | None:
    place = _PROC / str(pid)
    try:
        # The name, in parentheses, may itself hold spaces and parentheses. See proc_pid_stat(5).
        state, parent = (place / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
        command = (place / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return None
    if state in "ZX":
        return None
    return Seen(pid=pid, parent=int(parent), marked=mark in _read_environment(place), command=tuple(command))


def _read_environment(place: Path) -> list[bytes]:
    try:
        return (place / "environ").read_bytes().split(b"\0")
    except OSError:
        # Another user's, or it ended a moment ago.
        return []
