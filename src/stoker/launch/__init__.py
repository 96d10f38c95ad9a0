"""How a controller and engines get started, here and over ssh, and what ipyparallel must find on disk about them.

Importing this loads none of it; names are imported when they are first used. So the controller's own program, which
lies in here, loads no more than it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stoker.system.late import import_late

if TYPE_CHECKING:
    from stoker.launch.agent_link import AgentCommand, AgentLink, AgentSettings
    from stoker.launch.connection import Connection, ConnectionFiles, is_listening, read_connection, read_open_ports
    from stoker.launch.marks import AGENT_VARIABLE, RUN_VARIABLE
    from stoker.launch.preflight import find_faults, find_taken_ports

__all__ = [
    "AGENT_VARIABLE",
    "RUN_VARIABLE",
    "AgentCommand",
    "AgentLink",
    "AgentSettings",
    "Connection",
    "ConnectionFiles",
    "find_faults",
    "find_taken_ports",
    "is_listening",
    "read_connection",
    "read_open_ports",
]

_MODULES = {
    "AGENT_VARIABLE": "marks",
    "RUN_VARIABLE": "marks",
    "AgentCommand": "agent_link",
    "AgentLink": "agent_link",
    "AgentSettings": "agent_link",
    "Connection": "connection",
    "ConnectionFiles": "connection",
    "find_faults": "preflight",
    "find_taken_ports": "preflight",
    "is_listening": "connection",
    "read_connection": "connection",
    "read_open_ports": "connection",
}

__getattr__, __dir__ = import_late(__name__, _MODULES)
