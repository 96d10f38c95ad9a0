"""A cluster's life: brought up, found again, asked how it is, taken down."""

from stoker.cluster.handle import Cluster, connect, up
from stoker.cluster.start import Started, start_cluster
from stoker.cluster.status import ClusterStatus, EngineStatus, read_status, read_statuses
from stoker.cluster.stop import Stopped, stop_cluster
from stoker.cluster.target import Address, find_cluster, find_running, refuse_running, resolve_spec

__all__ = [
    "Address",
    "Cluster",
    "ClusterStatus",
    "EngineStatus",
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
