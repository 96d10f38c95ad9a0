"""The plan of a run on its way: through JSON, to the supervisor, into the record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.cluster.planning import render_run_plan
from stoker.cluster.run_plan import RunPlan
from stoker.launch import ConnectionFiles
from stoker.profile import ProfileDirectory
from stoker.profile.catalogue import read_catalogue
from stoker.spec import parse_spec
from stoker.system.machine import Cores

SPECS: dict[str, dict[str, Any]] = {
    "plain": {"engines": [{"count": 1}]},
    "two groups": {
        "engines": [
            {"count": 1, "python": "/opt/python", "work_dir": "/scratch", "env": {"PYTHONPATH": "/mine"}, "threads": 3},
            {"count": 2, "startup": "import math", "fork": False},
        ]
    },
    "settings": {
        "cluster": {"profile": "lab", "cluster_id": "night", "lease": 7.5},
        "controller": {"encryption": False, "ip": "*", "scheduler": "pure"},
        "ipython": {"extensions": ["autoreload"], "exec_lines": ["import math"]},
        "settings": {"InteractiveShell.colors": "NoColor", "IPEngine.log_level": 10},
    },
}


def make_plan(directory: ProfileDirectory, data: dict[str, Any]) -> RunPlan:
    spec = parse_spec({"cluster": {"profile": "lab"}, **data})
    return render_run_plan(
        spec,
        directory,
        run="c0ffee",
        source="lab.toml",
        cwd=Path("/data"),
        cores=Cores(logical=4, physical=2),
        catalogue=read_catalogue() if spec.settings else None,
    )


@pytest.fixture
def directory(tmp_path: Path) -> ProfileDirectory:
    return ProfileDirectory(tmp_path / "profile_lab")


@pytest.mark.parametrize("data", SPECS.values(), ids=list(SPECS))
def test_a_plan_that_went_through_json_is_the_same(data: dict[str, Any], directory: ProfileDirectory) -> None:
    plan = make_plan(directory, data)

    text = json.dumps(plan.to_json())

    assert RunPlan.from_json(json.loads(text)) == plan


@pytest.mark.parametrize("data", SPECS.values(), ids=list(SPECS))
def test_no_key_is_in_a_plan_only_where_it_lies(data: dict[str, Any], directory: ProfileDirectory) -> None:
    directory.security.mkdir(parents=True)
    cluster_id = data.get("cluster", {}).get("cluster_id", "")
    files = ConnectionFiles.of(directory, cluster_id)
    for file in (files.client, files.engine, files.keys):
        # As of a controller that ran with the same profile.
        file.write_text(json.dumps(dict.fromkeys(("key", "curve_serverkey", "public", "secret"), "PLANTED")))

    plan = make_plan(directory, data)

    assert "PLANTED" not in json.dumps(plan.to_json()) + repr(plan)
    assert f"--keys={files.keys}" in plan.controller.argv


def test_an_engines_order_holds_the_connection_and_does_not_show_it(directory: ProfileDirectory) -> None:
    plan = make_plan(directory, SPECS["two groups"])
    connection = {"registration": 1, "key": "PLANTED"}

    order = plan.groups[0].order(4, connection=connection, log="/log/4", setups=("gASV",))

    group = plan.groups[0]
    assert (order.number, order.connection, order.log, order.setups) == (4, connection, "/log/4", ("gASV",))
    assert (order.arguments, order.config, order.env) == (group.arguments, group.config, group.env)
    assert (order.work_dir, order.fork) == ("/scratch", True)
    assert "PLANTED" not in repr(order)


def test_engines_of_a_changed_plan_keep_the_patience_of_those_that_run(directory: ProfileDirectory) -> None:
    before = make_plan(directory, {"engines": [{"count": 1}, {"count": 1, "startup": "import math"}]})
    after = make_plan(
        directory,
        {"cluster": {"profile": "lab", "lease": 1000.0}, "engines": [{"count": 40}, {"count": 2, "startup": "x = 1"}]},
    )
    misses = [group.config["IPEngine"]["max_heartbeat_misses"] for group in (*before.groups, *after.groups)]

    kept = after.with_patience_of(before)

    assert misses[0] == misses[1] != misses[2] == misses[3]
    assert [group.config["IPEngine"]["max_heartbeat_misses"] for group in kept.groups] == misses[:2]
    # Nothing else.
    changed = [replace(kept.groups[0], config=after.groups[0].config), *kept.groups[1:]]
    assert changed[0] == after.groups[0]
    assert {**kept.groups[1].config["IPEngine"]} == {
        **after.groups[1].config["IPEngine"],
        "max_heartbeat_misses": misses[0],
    }
    assert replace(kept, groups=after.groups) == after
