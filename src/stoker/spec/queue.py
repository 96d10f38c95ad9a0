"""The job queue's part of a spec: where it is served, and when a job is taken back or given up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from stoker.spec.value import LOOPBACK, Port, Value, check_ip

__all__ = ["QueueSection"]


class QueueSection(Value):
    """Where the job queue of multiprocessing.managers is served (``stoker queue``), and how long its leases are."""

    ip: str = LOOPBACK
    """The address of an interface, or ``*``."""

    port: Port | None = Field(default=None, examples=[50010])
    """Where it listens. Default: any free port, the same one when it is served again."""

    directory: Annotated[Path | None, Field(strict=False, examples=["~/queue"])] = None
    """The directory of its key and its journal. Default: ``$XDG_STATE_HOME/stoker/queue``, else
    ``~/.local/state/stoker/queue``."""

    lease: float = Field(default=30.0, ge=1)
    """Seconds of silence after which a worker's jobs are given to others."""

    attempts: int = Field(default=3, ge=1)
    """How many workers a job may kill before it is given up."""

    time_limit: Annotated[float, Field(gt=0)] | None = Field(default=None, examples=[600.0])
    """Seconds that a job may take unless its producer says otherwise. Default: no limit."""

    @field_validator("ip")
    @classmethod
    def _check_address(cls, value: str) -> str:
        return check_ip(value)
