"""How a controller and engines get started here, and what ipyparallel must find on disk about them."""

from stoker.launch.cluster_file import cluster_file, render_cluster_file
from stoker.launch.commands import (
    RUN_VARIABLE,
    Command,
    EngineCommand,
    count_controller_children,
    plan_controller,
    plan_engines,
)
from stoker.launch.connection import Connection, ConnectionFiles, is_listening, read_connection
from stoker.launch.preflight import find_faults, find_taken_ports

__all__ = [
    "RUN_VARIABLE",
    "Command",
    "Connection",
    "ConnectionFiles",
    "EngineCommand",
    "cluster_file",
    "count_controller_children",
    "find_faults",
    "find_taken_ports",
    "is_listening",
    "plan_controller",
    "plan_engines",
    "read_connection",
    "render_cluster_file",
]
