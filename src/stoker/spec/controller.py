"""The controller's part of a spec: where it listens, how it hands out tasks, what it keeps."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from stoker.spec.ports import PortPools, parse_ports, share_ports
from stoker.spec.value import LOOPBACK, Value, check_ip

__all__ = ["ControllerSection", "Heartbeat"]

_QUICKEST = 0.05
_SLOWEST_AUTOMATIC = 3.0
# Beyond the lease: the time in which a new controller is back, and everybody has heard from it.
_GRACE = 30.0


class Heartbeat(Value):
    """How the controller finds out that an engine, or its host, is gone."""

    period: Annotated[float, Field(ge=_QUICKEST, le=60)] | None = Field(default=None, examples=[0.2])
    """Seconds between two beats. ipyparallel's own controller takes an engine after up to two of them, which
    is most of its start-up time; stoker's takes it at once, and lets up to 0.5 s pass between beats. Default:
    0.1 up to 4 engines, 0.2 up to 20, beyond that 0.01 for each, at most 3; never more than a third of
    ``limit``."""

    limit: Annotated[float, Field(gt=0)] | None = Field(default=None, examples=[150.0])
    """Seconds without an answer after which an engine is given up, and after which an engine that hears
    nothing from its controller leaves. Default: 30 more than ``cluster.lease``."""

    @field_validator("limit")
    @classmethod
    def _check_limit(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is None or "period" not in info.data:
            return value
        period = info.data["period"]
        if period is None and not _holds_three(value, _QUICKEST):
            raise ValueError(f"must be at least three of the quickest periods ({3 * _QUICKEST:g} s), got {value:g}")
        if period is not None and not _holds_three(value, period):
            raise ValueError(f"must be at least three periods ({3 * period:g} s), got {value:g}")
        return value

    def pick_limit(self, lease: float) -> float:
        """Give ``limit``, or what it is by default.

        Args:
            lease: The cluster's, in seconds.
        """
        return lease + _GRACE if self.limit is None else self.limit

    def pick_period(self, engines: int) -> float:
        """Give ``period``, or what it is by default: quick, and slower as engines grow.

        Args:
            engines: How many the cluster has.
        """
        if self.period is not None:
            return self.period
        period = _size_period(engines)
        # By default the limit is never that short.
        if self.limit is None or _holds_three(self.limit, period):
            return period
        # ipyparallel counts it in whole milliseconds.
        return math.floor(round(self.limit / 3 * 1000, 6)) / 1000

    def find_clash(self, lease: float) -> str | None:
        """Say why this cannot be with a cluster's lease; None where it can.

        Args:
            lease: The cluster's, in seconds.
        """
        limit = self.pick_limit(lease)
        if self.period is None or _holds_three(limit, self.period):
            return None
        return (
            f"must be at most a third of the limit, which by default is {_GRACE:g} s more than cluster.lease "
            f"({limit:g} s), got {self.period:g}; give a limit of at least {3 * self.period:g}"
        )


def _size_period(engines: int) -> float:
    if engines <= 4:
        return 0.1
    return 0.2 if engines <= 20 else min(engines / 100, _SLOWEST_AUTOMATIC)


def _holds_three(limit: float, period: float) -> bool:
    # Three times 0.2 is a little more than 0.6.
    return limit >= 3 * period or math.isclose(limit, 3 * period)


class ControllerSection(Value):
    """The controller: where it listens, how it hands out tasks, what it keeps."""

    ip: str = LOOPBACK
    """Where it listens: loopback, the IPv4 address of an interface, or ``*`` for all interfaces."""

    client_ip: str | None = Field(default=None, examples=["10.0.0.1"])
    """Where it listens for clients. Default: as ``ip``."""

    engine_ip: str | None = Field(default=None, examples=["10.0.0.1"])
    """Where it listens for engines. Default: as ``ip``."""

    location: str | None = Field(default=None, min_length=1, examples=["head.lab"])
    """The host name or address that engines and clients are told to connect to. Default: this machine's
    host name, which matters only when listening on all interfaces."""

    scheduler: Literal["leastload", "lru", "plainrandom", "twobin", "weighted", "pure"] = "leastload"
    """How the load-balanced view chooses an engine. ``pure`` is ZeroMQ's own round robin: no retries, and
    nothing is noticed when an engine dies."""

    hwm: int = Field(default=1, ge=0)
    """Tasks that wait at an engine at the most, the running one included; 0: no limit."""

    ports: str | None = Field(default=None, examples=["10101-10140"])
    """Fixed ports, such as ``10101-10140``; 18 are needed. Default: any free ones."""

    encryption: bool = True
    """CurveZMQ between controller, engines and clients."""

    database: Literal["NoDB", "DictDB", "SQLiteDB", "MongoDB"] = "NoDB"
    """Where the hub keeps tasks and results. ``NoDB``: nowhere; ipyparallel's own default, ``DictDB``,
    keeps up to 1 GiB in memory, forgets all but the last 1024 tasks, and copies each record at each look."""

    heartbeat: Heartbeat = Heartbeat()
    """How lost engines are noticed."""

    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    """How much the controller writes to its log."""

    @field_validator("ip", "client_ip", "engine_ip")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        return None if value is None else check_ip(value)

    @field_validator("engine_ip")
    @classmethod
    def _check_wildcards(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "ip" not in info.data or "client_ip" not in info.data:
            return value
        ip = info.data["ip"]
        client, engine = info.data["client_ip"] or ip, value or ip
        if client != engine and "*" in (client, engine):
            raise ValueError(
                f'clients at "{client}" and engines at "{engine}": a wildcard for only one of them makes '
                'ipcontroller bind its registration port twice and die ("Address already in use"); '
                'write ip = "*" alone, or two addresses'
            )
        return value

    @field_validator("ports")
    @classmethod
    def _check_ports(cls, value: str | None) -> str | None:
        if value is not None:
            share_ports(parse_ports(value))
        return value

    @property
    def client_address(self) -> str:
        """Where it listens for clients."""
        return self.client_ip or self.ip

    @property
    def engine_address(self) -> str:
        """Where it listens for engines."""
        return self.engine_ip or self.ip

    @property
    def pools(self) -> PortPools | None:
        """Its fixed ports; None: any free ones."""
        return None if self.ports is None else share_ports(parse_ports(self.ports))
