"""This machine: how many cores a process of ours may use, and what tells it from others."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Cores", "read_boot", "read_cores"]

_TOPOLOGY = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """The cores that this process may run on."""

    logical: int
    """Hardware threads, as the scheduler sees them; respects CPU affinity (``taskset``, batch systems)."""

    physical: int
    """Cores, where several hardware threads of one core count once; as ``logical`` where unknown."""


def read_cores() -> Cores:
    """Count the cores of this machine that the calling process may use."""
    if not hasattr(os, "sched_getaffinity"):
        logical = os.cpu_count() or 1
        return Cores(logical=logical, physical=logical)
    allowed = os.sched_getaffinity(0)
    siblings = {_read_siblings(cpu) for cpu in allowed}
    return Cores(logical=len(allowed), physical=len(siblings))


@cache
def read_boot() -> str:
    """Give what names the running system, until it starts anew; empty where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _read_siblings(cpu: int) -> str:
    try:
        return (_TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
    except OSError:
        return str(cpu)
