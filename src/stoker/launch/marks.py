"""Marks: environment variables by which the processes of a cluster are found again, whatever died in between."""

from __future__ import annotations

__all__ = ["AGENT_VARIABLE", "RUN_VARIABLE"]

RUN_VARIABLE = "STOKER_RUN"
"""Marks every process of one run of a cluster, and all that these start."""

AGENT_VARIABLE = "STOKER_AGENT"
"""Marks an agent, and all that comes of it."""
