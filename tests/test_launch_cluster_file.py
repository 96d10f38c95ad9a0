"""The file by which ipyparallel's own commands know a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.launch import Command, EngineCommand, cluster_file, render_cluster_file
from stoker.profile import ProfileDirectory


def engine(number: int, log: Path) -> EngineCommand:
    return EngineCommand(number=number, group=0, command=Command(argv=(), env={}, cwd=Path(), log=log))


@pytest.mark.parametrize(("cluster_id", "name"), [("", "cluster-.json"), ("night", "cluster-night.json")])
def test_the_file_lies_where_ipyparallel_looks_for_it(cluster_id: str, name: str, tmp_path: Path) -> None:
    import ipyparallel

    directory = ProfileDirectory(tmp_path / "profile_lab")
    directory.security.mkdir(parents=True)
    theirs = ipyparallel.Cluster(profile_dir=str(directory.path), cluster_id=cluster_id).cluster_file

    assert str(cluster_file(directory, cluster_id)) == theirs == str(directory.security / name)


def test_ipyparallel_reads_controller_and_engines_from_the_file(tmp_path: Path) -> None:
    import ipyparallel

    directory = ProfileDirectory(tmp_path / "profile_lab")
    directory.security.mkdir(parents=True)
    log = tmp_path / "some.log"
    # Reading fails where the processes that it names do not run.
    sleepers = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(3)]
    pids = [sleeper.pid for sleeper in sleepers]
    try:
        path = cluster_file(directory, "night")
        path.write_bytes(
            render_cluster_file(
                directory,
                "night",
                controller=(pids[0], log),
                engines={number: (pids[1 + number], engine(number, log)) for number in range(2)},
            )
        )
        cluster = ipyparallel.Cluster.from_file(str(path))
        engines = cluster.engines["stoker"]
        read = (cluster.cluster_id, cluster.profile_dir, cluster.n, cluster.controller.process.pid)
        read_engines = {number: launcher.process.pid for number, launcher in engines.launchers.items()}
    finally:
        for sleeper in sleepers:
            os.kill(sleeper.pid, signal.SIGKILL)
            sleeper.communicate()

    assert read == ("night", str(directory.path), 2, pids[0])
    assert read_engines == {"0": pids[1], "1": pids[2]}
    assert (engines.n, type(engines).__name__) == (2, "LocalEngineSetLauncher")


def test_the_file_holds_no_arguments_for_a_controller_and_nothing_of_the_environment(tmp_path: Path) -> None:
    directory = ProfileDirectory(tmp_path / "profile_lab")

    data = json.loads(render_cluster_file(directory, "", controller=(1, tmp_path), engines={}))

    assert data == {
        "cluster": {
            "class": "ipyparallel.cluster.cluster.Cluster",
            "cluster_id": "",
            "profile_dir": str(directory.path),
            "n": 0,
            "delay": 0.0,
            "controller_args": [],
            "controller_ip": "",
            "controller_location": "",
        },
        "controller": {
            "class": "local",
            "state": {
                "cluster_id": "",
                "profile_dir": str(directory.path),
                "state": "running",
                "pid": 1,
                "output_file": str(tmp_path),
            },
        },
        "engines": {
            "class": "local",
            "sets": {
                "stoker": {
                    "cluster_id": "",
                    "profile_dir": str(directory.path),
                    "state": "running",
                    "n": 0,
                    "pid": -1,
                    "engines": {},
                }
            },
        },
    }
