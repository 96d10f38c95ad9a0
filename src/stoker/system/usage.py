"""Usage: what a process has taken of the machine. Tells what the system tells, None for the rest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Usage", "count_oom_kills", "count_tasks", "read_peak", "read_state", "read_usage"]

_PROC = Path("/proc")
_SUMS = {"Rss": "rss", "Pss": "pss"}
_OWN = ("Private_Clean", "Private_Dirty", "Private_Hugetlb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one process has taken. Memory is in bytes."""

    cpu: float | None = None
    """Seconds of CPU, its own and the system's for it, since it started; without its children."""

    rss: int | None = None
    """Memory that is resident, what it shares included whole."""

    pss: int | None = None
    """The same, what it shares divided among the sharers."""

    uss: int | None = None
    """Memory that would be free if it ended."""

    peak: int | None = None
    """The highest ``rss`` so far."""


def read_usage(pid: int) -> Usage:
    """Read what a process has taken; takes milliseconds, because the kernel walks its memory."""
    sums = _read_fields(_PROC / str(pid) / "smaps_rollup")
    own = [sums[name] for name in _OWN if name in sums]
    return Usage(
        cpu=_read_cpu(pid),
        **{key: sums[name] for name, key in _SUMS.items() if name in sums},
        uss=sum(own) if own else None,
        peak=read_peak(pid),
    )


def read_peak(pid: int) -> int | None:
    """Read the highest resident memory of a process so far, in bytes."""
    return _read_fields(_PROC / str(pid) / "status").get("VmHWM")


def read_state(pid: int) -> str | None:
    """Read the state of a process as proc_pid_stat(5) writes it, such as ``T`` for stopped; None: no such process."""
    fields = _read_stat(pid)
    return fields[0] if fields else None


def count_tasks(pid: int) -> int | None:
    """Count the threads of a process, also those that Python does not know of."""
    try:
        return sum(1 for _ in (_PROC / str(pid) / "task").iterdir())
    except OSError:
        return None


def count_oom_kills() -> int | None:
    """Read how many processes the kernel has killed for want of memory since it booted."""
    try:
        lines = (_PROC / "vmstat").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def _read_cpu(pid: int) -> float | None:
    fields = _read_stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else None


def _read_stat(pid: int) -> list[str]:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return []
    # The name, in parentheses, may itself hold spaces and parentheses. See proc_pid_stat(5).
    return text.rpartition(")")[2].split()


def _read_fields(path: Path) -> dict[str, int]:
    """Read lines such as ``Pss: 123 kB``, in bytes."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    split = [line.split() for line in lines]
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in split if len(words) == 3 and words[2] == "kB"}
