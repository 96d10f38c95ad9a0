"""A cluster's life: brought up, kept, found again, asked how it is, taken down.

Importing this loads none of it; names are imported when they are first used. So the supervisor's own program, which
lies in here, loads no more than it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stoker.system.late import import_late

if TYPE_CHECKING:
    from stoker.cluster.handle import Cluster, connect, up
    from stoker.cluster.start import Started, start_cluster
    from stoker.cluster.status import (
        AgentStatus,
        ClusterStatus,
        EngineStatus,
        ProcessStatus,
        read_status,
        read_statuses,
    )
    from stoker.cluster.stop import Stopped, stop_cluster
    from stoker.cluster.target import Address, find_cluster, find_running, refuse_running, resolve_spec

__all__ = [
    "Address",
    "AgentStatus",
    "Cluster",
    "ClusterStatus",
    "EngineStatus",
    "ProcessStatus",
    "Started",
    "Stopped",
    "connect",
    "find_cluster",
    "find_running",
    "read_status",
    "read_statuses",
    "refuse_running",
    "resolve_spec",
    "start_cluster",
    "stop_cluster",
    "up",
]

_MODULES = {
    "Address": "target",
    "AgentStatus": "status",
    "Cluster": "handle",
    "ClusterStatus": "status",
    "EngineStatus": "status",
    "ProcessStatus": "status",
    "Started": "start",
    "Stopped": "stop",
    "connect": "handle",
    "find_cluster": "target",
    "find_running": "target",
    "read_status": "status",
    "read_statuses": "status",
    "refuse_running": "target",
    "resolve_spec": "target",
    "start_cluster": "start",
    "stop_cluster": "stop",
    "up": "handle",
}

__getattr__, __dir__ = import_late(__name__, _MODULES)
