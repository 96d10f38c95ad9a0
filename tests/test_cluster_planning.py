"""What a supervisor is told of a spec, as a value."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from stoker.cluster.planning import (
    _list_parts,
    _name_agents,
    count_controller_children,
    render_environment,
    render_run_plan,
)
from stoker.cluster.record import name_runtime_directory
from stoker.cluster.run_plan import ControllerPlan, GroupPlan, RunPlan
from stoker.launch import AGENT_VARIABLE, RUN_VARIABLE, AgentCommand, AgentSettings
from stoker.profile import ProfileDirectory
from stoker.profile.catalogue import read_catalogue
from stoker.spec import ClusterSpec, parse_spec
from stoker.system.machine import Cores

DIRECTORY = ProfileDirectory(Path("/home/ada/.ipython/profile_lab"))
CORES = Cores(logical=4, physical=2)
CWD = Path("/data")
RUN = "c0ffee"
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def make_spec(**sections: Any) -> ClusterSpec:
    return parse_spec({"cluster": {"profile": "lab", **sections.pop("cluster", {})}, **sections})


def plan(spec: ClusterSpec) -> RunPlan:
    catalogue = read_catalogue() if spec.settings else None
    return render_run_plan(spec, DIRECTORY, run=RUN, source="lab.toml", cwd=CWD, cores=CORES, catalogue=catalogue)


@pytest.mark.parametrize("encryption", [True, False])
def test_a_controller_is_told_its_profile_and_whether_to_encrypt(encryption: bool) -> None:
    runtime = name_runtime_directory(DIRECTORY, "")

    controller = plan(make_spec(controller={"encryption": encryption}, cluster={"lease": 7.5})).controller

    assert controller == ControllerPlan(
        argv=(
            sys.executable,
            "-m",
            "stoker.launch.controller",
            f"--lease-file={runtime}/lease",
            "--lease=7.5",
            f"--end-note={runtime}/ended",
            f"--keys={DIRECTORY.security}/ipcontroller-keys.json",
            "--",
            "--profile-dir=/home/ada/.ipython/profile_lab",
            "--cluster-id=",
            f"--IPController.enable_curve={encryption}",
            "--IPController.reuse_files=True",
        ),
        again=("--IPController.restore_engines=True",),
        cwd="/data",
        log=f"{DIRECTORY.log}/ipcontroller.log",
        children=8,
        client_file=f"{DIRECTORY.security}/ipcontroller-client.json",
        engine_file=f"{DIRECTORY.security}/ipcontroller-engine.json",
        engine_state=f"{DIRECTORY.log}/engines.json",
        end_note=f"{runtime}/ended",
        lease_file=f"{runtime}/lease",
    )


@pytest.mark.parametrize(("scheduler", "imports"), [("leastload", False), ("pure", False), ("weighted", True)])
def test_only_the_scheduler_that_needs_numpy_costs_its_import(scheduler: str, imports: bool) -> None:
    controller = plan(make_spec(controller={"scheduler": scheduler})).controller

    assert ("--numpy" in controller.argv[: controller.argv.index("--")]) == imports


def test_a_plain_spec_is_one_agent_and_one_group() -> None:
    made = plan(make_spec(engines=[{"count": 1}]))

    assert made == RunPlan(
        run=RUN,
        name="lab",
        profile="/home/ada/.ipython/profile_lab",
        cluster_id="",
        runtime=str(name_runtime_directory(DIRECTORY, "")),
        source="lab.toml",
        encrypted=True,
        client_address="127.0.0.1",
        engine_address="127.0.0.1",
        scheduler="leastload",
        start_timeout=60.0,
        settings=AgentSettings(lease=120.0, frozen_after=5.0, log_limit=10_000_000),
        controller=made.controller,
        agents=(
            AgentCommand(
                name="local",
                python=None,
                env={AGENT_VARIABLE: "c0ffee-local"},
                cwd="/data",
                log=f"{DIRECTORY.log}/agent-local.log",
                socket=f"{made.runtime}/agent-0.sock",
            ),
        ),
        groups=(
            GroupPlan(
                agent="local",
                count=1,
                arguments=("--profile-dir=/home/ada/.ipython/profile_lab", "--cluster-id="),
                # 150 s (lease + 30 s) in beats of 0.1 s, each seen 0.5 s late.
                config={"IPEngine": {"max_heartbeat_misses": 250, "timeout": 60.0, "wait_for_url_file": 60.0}},
                env={},
                work_dir="/data",
                fork=True,
            ),
        ),
    )
    assert made.slots == {0: 0}


def test_a_run_that_is_there_already_keeps_its_runtime_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan(make_spec())
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/var/tmp")

    after = render_run_plan(
        make_spec(), DIRECTORY, run=RUN, source="lab.toml", cwd=CWD, cores=CORES, runtime=Path(before.runtime)
    )

    assert after == before != plan(make_spec())


def test_a_cluster_id_is_in_the_arguments_and_in_every_name() -> None:
    spec = make_spec(cluster={"cluster_id": "night"}, engines=[{"count": 1}])

    made = plan(spec)

    assert made.name == "lab:night"
    assert "--cluster-id=night" in made.controller.argv
    assert all("--cluster-id=night" in group.arguments for group in made.groups)
    logs = [made.controller.log, str(made.supervisor_log), made.agents[0].log, str(made.engine_log(0))]
    assert [Path(log).name for log in logs] == [
        "ipcontroller-night.log",
        "supervisor-night.log",
        "agent-night-local.log",
        "ipengine-night-0.log",
    ]
    assert Path(made.controller.engine_state).name == "enginesnight.json"
    assert made.runtime != plan(make_spec()).runtime
    assert {str(Path(path).parent) for path in (made.control_socket, made.agents[0].socket)} == {made.runtime}


@pytest.mark.parametrize(("count", "number"), [(3, 3), ("cores", 4), ("physical", 2)])
def test_there_are_as_many_engines_as_the_spec_says(count: int | str, number: int) -> None:
    made = plan(make_spec(engines=[{"count": count}]))

    assert (made.groups[0].count, made.slots) == (number, dict.fromkeys(range(number), 0))


def test_groups_are_numbered_one_after_the_other_and_each_keeps_what_is_its_own() -> None:
    groups = [
        {"count": 1, "python": "/opt/python", "work_dir": "/scratch", "env": {"COLOUR": "red"}, "threads": 3},
        {"count": 2, "startup": "import math", "fork": False},
    ]

    made = plan(make_spec(engines=groups))

    first, second = made.groups
    assert made.slots == {0: 0, 1: 1, 2: 1}
    python = {agent.name: agent.python for agent in made.agents}
    assert (python[first.agent], first.work_dir, first.fork) == ("/opt/python", "/scratch", True)
    assert first.env == {**dict.fromkeys(THREADS, "3"), "COLOUR": "red"}
    assert "startup_command" not in first.config["IPEngine"]
    assert (python[second.agent], second.work_dir, second.fork) == (None, "/data", False)
    assert second.env == dict.fromkeys(THREADS, "1")
    assert "import math" in second.config["IPEngine"]["startup_command"]
    assert "work_dir" not in second.config["IPEngine"]


def test_groups_share_an_agent_but_for_another_python_or_what_an_interpreter_reads_before_any_code() -> None:
    groups = [
        {"env": {"COLOUR": "red"}},
        {"env": {"PYTHONPATH": "/mine"}},
        {"python": "/opt/python"},
        {"env": {"COLOUR": "blue", "PYTHONPATH": "/mine"}},
        {"env": {"MALLOC_ARENA_MAX": "2"}},
        {},
    ]

    made = plan(make_spec(engines=[{"count": 1, **group} for group in groups]))

    assert [group.agent for group in made.groups] == ["local", "local-1", "local-2", "local-1", "local-3", "local"]
    early = [{key: value for key, value in agent.env.items() if key != AGENT_VARIABLE} for agent in made.agents]
    assert early == [{}, {"PYTHONPATH": "/mine"}, {}, {"MALLOC_ARENA_MAX": "2"}]
    assert [agent.env[AGENT_VARIABLE] for agent in made.agents] == [f"{RUN}-{agent.name}" for agent in made.agents]
    assert len({agent.socket for agent in made.agents}) == len({agent.log for agent in made.agents}) == 4


def test_a_group_may_say_more_precisely_how_many_threads_a_library_takes() -> None:
    made = plan(make_spec(engines=[{"count": 1, "threads": 2, "env": {"MKL_NUM_THREADS": "7"}}]))

    assert made.groups[0].env == {**dict.fromkeys(THREADS, "2"), "MKL_NUM_THREADS": "7"}


def test_all_settings_of_an_engine_are_in_its_plan() -> None:
    spec = make_spec(
        engines=[{"count": 1}],
        ipython={"extensions": ["autoreload"], "exec_lines": ["import math"]},
        settings={"IPEngine.log_level": 10, "InteractiveShell.autocall": 1, "DictDB.record_limit": 4096},
    )

    config = plan(spec).groups[0].config

    assert config["InteractiveShellApp"] == {"extensions": ["autoreload"], "exec_lines": ["import math"]}
    assert config["IPEngine"]["log_level"] == 10
    assert config["InteractiveShell"] == {"autocall": 1}
    assert "DictDB" not in config


@pytest.mark.parametrize(("scheduler", "kernel"), [("leastload", None), ("pure", {"reroutes": False})])
def test_engines_of_the_pure_scheduler_give_no_task_back(scheduler: str, kernel: dict[str, bool] | None) -> None:
    made = plan(make_spec(controller={"scheduler": scheduler}, engines=[{"count": 1}]))

    assert made.groups[0].config.get("EngineKernel") == kernel


def test_what_would_lead_to_another_cluster_is_taken_out_of_the_environment() -> None:
    surrounding = {
        "PATH": "/usr/bin",
        "IPP_CONNECTION_INFO": '{"key": "secret"}',
        "IPP_CURVE_SECRETKEY": "secret",
        "IPP_CLUSTER_ID": "other",
        "IPYTHONDIR": "/elsewhere",
        RUN_VARIABLE: "another run",
    }

    environment = render_environment(surrounding, DIRECTORY, RUN)

    assert environment == {"PATH": "/usr/bin", "IPYTHONDIR": "/home/ada/.ipython", RUN_VARIABLE: RUN}


@pytest.mark.parametrize(("depth", "children"), [(None, 8), (0, 6), (1, 8), (2, 12)])
def test_a_controller_has_a_child_for_each_relay_and_scheduler(depth: int | None, children: int) -> None:
    settings = {} if depth is None else {"IPController.broadcast_scheduler_depth": depth}
    spec = make_spec(settings=settings)

    assert (count_controller_children(spec), plan(spec).controller.children) == (children, children)


def test_no_two_hosts_share_an_agent_whatever_they_are_called() -> None:
    names = ["gpu-1", "gpu", "gpu-1-1", "local", "gpu-1"]
    groups = [
        {"launcher": "ssh", "hosts": [name], "count": 1, "tunnel": place == 4} for place, name in enumerate(names)
    ]
    spec = parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": 1}, *groups]})

    agents = [name for _, name in _name_agents(list(_list_parts(spec, Cores(logical=1, physical=1))))]

    assert agents == ["local", "gpu-1", "gpu", "gpu-1-1", "local-1", "gpu-1-2"]
