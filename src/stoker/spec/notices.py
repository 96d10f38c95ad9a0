"""Notices: what the user should know about a spec although it is no fault."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

from stoker.spec.controller import ControllerSection
from stoker.spec.engines import BATCH_SYSTEMS, EngineGroup
from stoker.spec.value import LOOPBACK

__all__ = ["find_notices", "list_ipcluster_groups"]


def find_notices(
    controller: ControllerSection, engines: Sequence[EngineGroup], *, configured: Sequence[str] = ()
) -> Iterator[str]:
    """Find what is allowed, and yet may surprise.

    Args:
        controller: The spec's.
        engines: The spec's.
        configured: Keys that reach engines through the profile's files alone.
    """
    yield from _find_controller_notices(controller)
    yield from _find_reach_notices(controller, engines)
    yield from _find_ipcluster_notices(engines)
    if configured and engines[0].launcher == "ssh":
        yield (
            f"{', '.join(configured)}: plain `ipcluster start` sends hosts no config files: engines there read what "
            "their own home directory has under the profile's name"
        )


def list_ipcluster_groups(engines: Sequence[EngineGroup]) -> tuple[int, ...]:
    """Give the places of the groups that plain ``ipcluster start`` can start.

    It knows one launcher, the first group's; it submits one job to a batch system and runs one ``mpiexec``, so
    that of such groups only those that are like the first fit in; and it knows each host once.
    """
    first = engines[0]
    if first.launcher in ("local", "ssh"):
        return tuple(place for place, group in enumerate(engines) if group.launcher == first.launcher)
    like = first.model_copy(update={"count": 1})
    return tuple(place for place, group in enumerate(engines) if group.model_copy(update={"count": 1}) == like)


def _find_controller_notices(controller: ControllerSection) -> Iterator[str]:
    if not controller.encryption:
        where = "on all interfaces" if "*" in (controller.client_address, controller.engine_address) else ""
        yield (
            "encryption = false: whoever can read the traffic reads your code and data, and the key that "
            f"lets anyone run code here travels with no protection of its own {where}".rstrip()
        )
    if controller.scheduler == "pure":
        yield (
            'scheduler = "pure": ZeroMQ hands tasks out blindly, so such a cluster cannot be healed: '
            "the tasks of an engine that dies are lost, and load balancing ends there"
        )


def _find_reach_notices(controller: ControllerSection, engines: Sequence[EngineGroup]) -> Iterator[str]:
    if controller.engine_address != LOOPBACK:
        return
    away = [place for place, group in enumerate(engines) if group.launcher in BATCH_SYSTEMS or group.tunnel is False]
    if away:
        yield (
            f"controller.ip: {_name(away)} run on other machines, which cannot reach a controller that listens at "
            f'{LOOPBACK}; write ip = "*", or an address that they can reach'
        )
    tunneled = [place for place, group in enumerate(engines) if group.launcher == "ssh" and group.tunnel is not False]
    if tunneled:
        yield (
            f"controller.ip: {_name(tunneled)} reach a controller that listens at {LOOPBACK} only through the ssh "
            'connections, which `stoker up` does and plain `ipcluster start` does not; without: ip = "*"'
        )


def _find_ipcluster_notices(engines: Sequence[EngineGroup]) -> Iterator[str]:
    started = list_ipcluster_groups(engines)
    left = [place for place in range(len(engines)) if place not in started]
    if left:
        yield (
            f"plain `ipcluster start` has one launcher and one set of options for it: it starts {_name(started)} "
            f"and leaves {_name(left)} out"
        )
    ssh = [place for place in started if engines[place].launcher == "ssh"]
    unsized = [place for place in ssh if any(isinstance(count, str) for _, count in _list_counts(engines[place]))]
    if unsized:
        yield (
            f"{_name(unsized)}: plain `ipcluster start` cannot ask hosts for their cores and starts one engine on "
            "each; write count as a number"
        )
    names = collections.Counter(name for place in ssh for name, _ in _list_counts(engines[place]))
    twice = [name for name, times in names.items() if times > 1]
    if twice:
        yield (
            f"{', '.join(twice)}: in several groups; plain `ipcluster start` knows each host once and starts there "
            "what the first of them says"
        )
    files = [place for place in ssh if engines[place].startup_file is not None]
    if files:
        yield f"{_name(files)}: startup is a file, which must be at the same path on each host"


def _list_counts(group: EngineGroup) -> list[tuple[str, int | str]]:
    return [(name, host.count or group.count) for host in group.hosts for name in host.names]


def _name(places: Sequence[int]) -> str:
    return ", ".join(f"engines[{place}]" for place in places)
