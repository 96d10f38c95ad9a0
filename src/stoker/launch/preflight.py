"""The look around before anything is started: what a spec asks for and this machine cannot give."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator

from stoker.errors import Fault
from stoker.spec import ClusterSpec, EngineGroup

__all__ = ["find_faults", "find_taken_ports"]

_LOOPBACK = "127.0.0.1"


def find_faults(spec: ClusterSpec, *, source: str) -> tuple[Fault, ...]:
    """Find everything in a spec that cannot be started here.

    Args:
        spec: What the cluster should be.
        source: What the faults name as the place.
    """
    found = list(_find_controller_problems(spec))
    for place, group in enumerate(spec.engines):
        found += [(f"engines[{place}].{key}", problem) for key, problem in _find_group_problems(group)]
    return tuple(Fault(source=source, key=key, problem=problem) for key, problem in found)


def find_taken_ports(spec: ClusterSpec) -> tuple[int, ...]:
    """Find those of the controller's fixed ports that another program uses now."""
    pools = spec.controller.pools
    if pools is None:
        return ()
    wanted = {
        (spec.controller.engine_address, pools.engine),
        # Everybody registers at the first of the engines' ports.
        (spec.controller.client_address, (pools.engine[0], *pools.client)),
        (_LOOPBACK, pools.internal),
    }
    taken = {
        port
        for address, ports in wanted
        for port in ports
        if _try_bind("" if address == "*" else address, port) is not None
    }
    return tuple(sorted(taken))


def _find_group_problems(group: EngineGroup) -> Iterator[tuple[str, str]]:
    if group.launcher == "ssh":
        yield from _find_ssh_problems(group)
        return
    if group.launcher != "local":
        yield (
            "launcher",
            f'`stoker up` of this version starts engines of launcher "local" and "ssh" only, got "{group.launcher}"; '
            "`stoker apply`, then `ipcluster start --profile=NAME`, starts them",
        )
        return
    if group.python is not None and shutil.which(group.python) is None:
        yield "python", f"no such program on this machine: {group.python}"
    if group.work_dir is not None and not group.work_dir.is_dir():
        yield "work_dir", f"no such directory: {group.work_dir}"
    if group.startup_file is not None and not os.access(group.startup_file, os.R_OK):
        yield "startup", f"no such file, or not readable: {group.startup_file}"


def _find_ssh_problems(group: EngineGroup) -> Iterator[tuple[str, str]]:
    if shutil.which("ssh") is None:
        yield "launcher", "there is no ssh on this machine; install OpenSSH's client"
    if group.ssh_config is not None and not os.access(group.ssh_config, os.R_OK):
        yield "ssh_config", f"no such file, or not readable: {group.ssh_config}"
    # It is read here, and its text sent.
    files = [("startup", group.startup_file)]
    files += [(f"hosts[{place}].startup", host.startup_file) for place, host in enumerate(group.hosts)]
    for key, file in dict(files).items():
        if file is not None and not os.access(file, os.R_OK):
            yield key, f"no such file on this machine, or not readable: {file}"


def _find_controller_problems(spec: ClusterSpec) -> Iterator[tuple[str, str]]:
    controller = spec.controller
    keys = {"ip": controller.ip, "client_ip": controller.client_ip, "engine_ip": controller.engine_ip}
    for key, address in keys.items():
        if address not in (None, "*") and (problem := _try_bind(str(address), 0)):
            yield f"controller.{key}", f"{address} is no address of this machine ({problem})"
            return


def _try_bind(address: str, port: int) -> str | None:
    """Bind a TCP socket for a moment; give the reason where that fails."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As ZeroMQ does: ports of connections that ended a moment ago are free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.strerror
    return None
