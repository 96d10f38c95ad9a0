"""The look around before a start."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from stoker.errors import Fault
from stoker.launch import find_faults, find_taken_ports
from stoker.spec import parse_spec


def faults_of(data: dict[str, Any]) -> list[tuple[str, str]]:
    found = find_faults(parse_spec(data), source="lab.toml")
    assert all(fault == Fault(source="lab.toml", key=fault.key, problem=fault.problem) for fault in found)
    return [(fault.key, fault.problem) for fault in found]


def test_a_plain_spec_can_be_started_here() -> None:
    assert faults_of({}) == []


def test_everything_that_this_machine_cannot_give_is_told_at_once(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    groups = [
        {"launcher": "mpi"},
        {"python": str(missing)},
        {"work_dir": str(missing)},
        {"startup": str(missing / "prepare.py")},
        {"python": "no-such-python", "work_dir": str(missing)},
    ]

    found = faults_of({"controller": {"ip": "192.0.2.1"}, "engines": groups})

    assert found == [
        ("controller.ip", "192.0.2.1 is no address of this machine (Cannot assign requested address)"),
        (
            "engines[0].launcher",
            '`stoker up` of this version starts engines of launcher "local" and "ssh" only, got "mpi"; `stoker apply`, '
            "then `ipcluster start --profile=NAME`, starts them",
        ),
        ("engines[1].python", f"no such program on this machine: {missing}"),
        ("engines[2].work_dir", f"no such directory: {missing}"),
        ("engines[3].startup", f"no such file, or not readable: {missing / 'prepare.py'}"),
        ("engines[4].python", "no such program on this machine: no-such-python"),
        ("engines[4].work_dir", f"no such directory: {missing}"),
    ]


@pytest.mark.parametrize("ip", ["*", "127.0.0.1", "127.0.0.2"])
def test_addresses_of_this_machine_are_fine(ip: str) -> None:
    assert faults_of({"controller": {"ip": ip}}) == []


def test_taken_ports_are_found_and_free_ones_are_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        low = port - 17 if port > 65000 else port
        while_taken = find_taken_ports(parse_spec({"controller": {"ports": f"{low}-{low + 17}"}}))
    after = find_taken_ports(parse_spec({"controller": {"ports": f"{low}-{low + 17}"}}))

    assert port in while_taken
    assert port not in after


def test_without_fixed_ports_none_is_taken() -> None:
    assert find_taken_ports(parse_spec({})) == ()
