"""The file by which ipyparallel's own commands know a cluster. That they read it: ``live/test_compatibility.py``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stoker.launch.cluster_file import cluster_file, render_cluster_file
from stoker.profile import ProfileDirectory


@pytest.mark.parametrize(("cluster_id", "name"), [("", "cluster-.json"), ("night", "cluster-night.json")])
def test_the_file_lies_where_ipyparallel_looks_for_it(cluster_id: str, name: str, tmp_path: Path) -> None:
    import ipyparallel

    directory = ProfileDirectory(tmp_path / "profile_lab")
    directory.security.mkdir(parents=True)
    theirs = ipyparallel.Cluster(profile_dir=str(directory.path), cluster_id=cluster_id).cluster_file

    assert str(cluster_file(directory, cluster_id)) == theirs == str(directory.security / name)


def test_the_file_leads_to_the_supervisor_and_holds_no_arguments_and_nothing_of_the_environment(
    tmp_path: Path,
) -> None:
    directory = ProfileDirectory(tmp_path / "profile_lab")
    control_socket = tmp_path / "control.sock"

    data = json.loads(render_cluster_file(directory, "night", engines=3, pid=7, control_socket=control_socket))

    common = {
        "cluster_id": "night",
        "profile_dir": str(directory.path),
        "state": "running",
        "pid": 7,
        "control_socket": str(control_socket),
    }
    assert data == {
        "cluster": {
            "class": "ipyparallel.cluster.cluster.Cluster",
            "cluster_id": "night",
            "profile_dir": str(directory.path),
            "n": 3,
            "delay": 0.0,
            "controller_args": [],
            "controller_ip": "",
            "controller_location": "",
        },
        "controller": {"class": "stoker", "state": common},
        "engines": {"class": "stoker", "sets": {"stoker": {**common, "n": 3}}},
    }


def test_the_file_says_of_a_cluster_what_ipyparallel_itself_would_say(tmp_path: Path) -> None:
    import ipyparallel

    directory = ProfileDirectory(tmp_path / "profile_lab")
    directory.security.mkdir(parents=True)
    theirs = ipyparallel.Cluster(profile_dir=str(directory.path), cluster_id="night", n=3).to_dict()

    ours = json.loads(render_cluster_file(directory, "night", engines=3, pid=7, control_socket=tmp_path / "s"))

    assert set(ours) == set(theirs) | {"controller"}
    assert set(ours["cluster"]) == set(theirs["cluster"])
