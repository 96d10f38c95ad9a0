"""ipyparallel's cluster file: by it ``ipcluster list`` and ``ipcluster stop`` know a cluster of stoker's."""

from __future__ import annotations

import json
from pathlib import Path

from stoker.profile.directory import ProfileDirectory

__all__ = ["cluster_file", "render_cluster_file"]


def cluster_file(directory: ProfileDirectory, cluster_id: str) -> Path:
    """Name the file as ``ipyparallel.Cluster`` does."""
    return directory.security / f"cluster-{cluster_id}.json"


def render_cluster_file(
    directory: ProfileDirectory, cluster_id: str, *, engines: int, pid: int, control_socket: Path
) -> bytes:
    """Render what ``ipyparallel.Cluster.from_file`` reads (``Cluster.to_dict`` in ipyparallel 9.2).

    Controller and engines are of stoker's launchers, which hand every order to the supervisor.

    Args:
        directory: The profile.
        cluster_id: The cluster's.
        engines: How many are wanted.
        pid: The process number of the supervisor.
        control_socket: Where it answers.
    """
    common = {
        "cluster_id": cluster_id,
        "profile_dir": str(directory.path),
        "state": "running",
        "pid": pid,
        "control_socket": str(control_socket),
    }
    data = {
        "cluster": {
            "class": "ipyparallel.cluster.cluster.Cluster",
            "cluster_id": cluster_id,
            "profile_dir": str(directory.path),
            "n": engines,
            "delay": 0.0,
            "controller_args": [],
            "controller_ip": "",
            "controller_location": "",
        },
        "controller": {"class": "stoker", "state": common},
        "engines": {"class": "stoker", "sets": {"stoker": {**common, "n": engines}}},
    }
    return json.dumps(data).encode()
