"""The machine that a benchmark ran on, as far as it bears on the figures."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from stoker.system.machine import read_cores

__all__ = ["PACKAGES", "Machine", "read_machine"]

PACKAGES = (
    "stoker",
    "ipyparallel",
    "ipython",
    "ipykernel",
    "pyzmq",
    "tornado",
    "traitlets",
    "numpy",
    "distributed",
    "joblib",
    "ray",
)
"""The packages whose versions bear on the figures of those who are measured."""

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What was there when the first round began."""

    date: str
    """ISO 8601, UTC."""

    system: str
    python: str
    versions: Mapping[str, str]
    """By package; one that is not installed is not there."""

    cpu: str
    """Its model; empty where the system does not tell."""

    cores: int
    """Hardware threads that the benchmark may use."""

    load: float | None
    """Processes that ran or wanted to run, averaged over the last minute; None where the system does not tell.
    Well above 0: others were at work, and only ratios mean something."""


def read_machine(packages: Iterable[str] = PACKAGES) -> Machine:
    """Look at this machine.

    Args:
        packages: Those whose versions are wanted.
    """
    return Machine(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        system=platform.platform(),
        python=platform.python_version(),
        versions=_read_versions(packages),
        cpu=_read_cpu(),
        cores=read_cores().logical,
        load=_read_load(),
    )


def _read_versions(packages: Iterable[str]) -> dict[str, str]:
    # Imported here: every command would pay for it otherwise.
    from importlib import metadata

    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _read_cpu() -> str:
    try:
        text = _CPUINFO.read_text()
    except OSError:
        return platform.processor()
    models = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(models, platform.processor())


def _read_load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None
