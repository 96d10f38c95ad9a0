"""Start-up files: read here, because the hosts on which they run do not have them."""

from __future__ import annotations

from stoker.spec import ClusterSpec, EngineGroup
from stoker.spec.engines import Host

__all__ = ["read_startup_files"]


def read_startup_files(spec: ClusterSpec) -> ClusterSpec:
    """Give a spec whose groups on other hosts have the text of their start-up files in place of the paths.

    Raises:
        OSError: One cannot be read.
    """
    groups = tuple(_read_files(group) if group.launcher == "ssh" else group for group in spec.engines)
    return spec.model_copy(update={"engines": groups})


def _read_files(group: EngineGroup) -> EngineGroup:
    hosts = tuple(_read_file(host) for host in group.hosts)
    if group.startup_file is None:
        return group.model_copy(update={"hosts": hosts})
    return group.model_copy(update={"hosts": hosts, "startup": group.startup_file.read_text()})


def _read_file(host: Host) -> Host:
    file = host.startup_file
    return host if file is None else host.model_copy(update={"startup": file.read_text()})
