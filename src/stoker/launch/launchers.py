"""Launchers for ``ipyparallel.Cluster``: entry points ``stoker``, for controllers and for engines, and ``stoker-ssh``,
for engines on other hosts, which is imported when it is first used.

In a cluster of plain ipyparallel's, the engines of a set are forked by an agent, whose supervisor is the process that
started the set: without it they go on for their lease. In a cluster that ``stoker up`` started, both launchers stand
for its supervisor: whoever stops one of them ends the cluster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stoker.launch.controller_launcher import StokerControllerLauncher
from stoker.launch.engine_launcher import StokerEngineSetLauncher

if TYPE_CHECKING:
    from stoker.launch.ssh_launcher import StokerSSHEngineSetLauncher

__all__ = ["StokerControllerLauncher", "StokerEngineSetLauncher", "StokerSSHEngineSetLauncher"]


def __getattr__(name: str) -> Any:
    if name != "StokerSSHEngineSetLauncher":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # It loads the whole of specs.
    from stoker.launch.ssh_launcher import StokerSSHEngineSetLauncher

    return StokerSSHEngineSetLauncher


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
