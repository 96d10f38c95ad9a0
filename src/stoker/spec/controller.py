"""The controller's part of a spec: where it listens, how it hands out tasks, what it keeps."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from stoker.spec.ports import PortPools, parse_ports, share_ports
from stoker.spec.value import LOOPBACK, Value, check_ip

__all__ = ["ControllerSection", "Heartbeat"]


class Heartbeat(Value):
    """How the controller finds out that an engine, or its host, is gone."""

    period: float = Field(default=0.2, ge=0.05, le=60)
    """Seconds between two beats. An engine counts as ready after up to two of them: this is most of
    ipyparallel's start-up time, whose default is 3 s."""

    limit: float = Field(default=60.0, gt=0)
    """Seconds without an answer after which an engine is given up, and after which an engine that hears
    nothing from its controller leaves."""

    @field_validator("limit")
    @classmethod
    def _check_limit(cls, value: float, info: ValidationInfo) -> float:
        period = info.data.get("period")
        # Three times 0.2 is a little more than 0.6.
        if period is not None and value < 3 * period and not math.isclose(value, 3 * period):
            raise ValueError(f"must be at least three periods ({3 * period:g} s), got {value:g}")
        return value


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
