"""Addresses: where engines on another host may reach a controller on this machine."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from typing import Any

__all__ = ["list_addresses", "list_engine_ports"]

_PORTS = ("registration", "control", "mux", "task", "iopub", "hb_ping", "hb_pong", "broadcast")
_WILDCARDS = ("*", "0.0.0.0")  # noqa: S104 - how a controller was told to listen


def list_addresses(connection: Mapping[str, Any], *, seen_as: str) -> list[str]:
    """List the addresses at which another host may find a controller, the likeliest first.

    Args:
        connection: The engines' connection file.
        seen_as: The address under which the host sees this machine; empty where that is not known.
    """
    listens = _read_address(connection)
    if listens not in _WILDCARDS:
        # On loopback only this machine itself gets through, be it reached over ssh.
        is_loopback = ipaddress.ip_address(listens).is_loopback
        return [listens] if not is_loopback or _is_loopback(seen_as) else []
    named = str(connection.get("location") or "")
    found = [seen_as, named, *_list_own()]
    return list(dict.fromkeys(address for address in found if _is_ipv4(address)))


def list_engine_ports(connection: Mapping[str, Any]) -> list[int]:
    """List the ports that an engine connects to."""
    ports: list[int] = []
    for name in _PORTS:
        value = connection.get(name, [])
        ports += value if isinstance(value, list) else [value]
    return [int(port) for port in ports]


def _read_address(connection: Mapping[str, Any]) -> str:
    return str(connection["interface"]).removeprefix("tcp://")


def _list_own() -> list[str]:
    import psutil

    return [
        each.address
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family == socket.AF_INET and not _is_loopback(each.address)
    ]


def _is_ipv4(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return False


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False
