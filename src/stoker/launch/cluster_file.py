"""ipyparallel's cluster file: by it ``ipcluster list`` and ``ipcluster stop`` know a cluster of stoker's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from stoker.launch.commands import EngineCommand
from stoker.profile import ProfileDirectory

__all__ = ["cluster_file", "render_cluster_file"]


def cluster_file(directory: ProfileDirectory, cluster_id: str) -> Path:
    """Name the file as ``ipyparallel.Cluster`` does."""
    return directory.security / f"cluster-{cluster_id}.json"


def render_cluster_file(
    directory: ProfileDirectory,
    cluster_id: str,
    *,
    controller: tuple[int, Path],
    engines: Mapping[int, tuple[int, EngineCommand]],
) -> bytes:
    """Render what ``ipyparallel.Cluster.from_file`` reads (``Cluster.to_dict`` in ipyparallel 9.2).

    Args:
        directory: The profile.
        cluster_id: The cluster's.
        controller: Its process number and log.
        engines: Process number and command by engine number.
    """
    common = {"cluster_id": cluster_id, "profile_dir": str(directory.path), "state": "running"}
    pid, log = controller
    data = {
        "cluster": {
            "class": "ipyparallel.cluster.cluster.Cluster",
            "cluster_id": cluster_id,
            "profile_dir": str(directory.path),
            "n": len(engines),
            "delay": 0.0,
            "controller_args": [],
            "controller_ip": "",
            "controller_location": "",
        },
        "controller": {"class": "local", "state": {**common, "pid": pid, "output_file": str(log)}},
        "engines": {
            "class": "local",
            "sets": {
                "stoker": {
                    **common,
                    "n": len(engines),
                    "pid": -1,
                    "engines": {
                        str(number): {**common, "n": 1, "pid": pid, "output_file": str(engine.command.log)}
                        for number, (pid, engine) in engines.items()
                    },
                }
            },
        },
    }
    return json.dumps(data).encode()
