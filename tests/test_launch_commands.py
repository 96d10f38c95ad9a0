"""The commands that start a controller and engines, as values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from stoker.launch import RUN_VARIABLE, Command, count_controller_children, plan_controller, plan_engines
from stoker.profile import ProfileDirectory
from stoker.spec import ClusterSpec, parse_spec
from stoker.system.machine import Cores

DIRECTORY = ProfileDirectory(Path("/home/ada/.ipython/profile_lab"))
CORES = Cores(logical=4, physical=2)
CWD = Path("/data")
RUN = "c0ffee"
EVERY_ENGINE = {"IPYTHONDIR": "/home/ada/.ipython", RUN_VARIABLE: RUN}
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


def controller_of(spec: ClusterSpec, environment: dict[str, str] | None = None) -> Command:
    return plan_controller(spec, DIRECTORY, run=RUN, environment=environment or {}, cwd=CWD)


def engines_of(spec: ClusterSpec, environment: dict[str, str] | None = None) -> list[Command]:
    engines = plan_engines(spec, DIRECTORY, run=RUN, environment=environment or {}, cwd=CWD, cores=CORES)
    assert [engine.number for engine in engines] == list(range(len(engines)))
    return [engine.command for engine in engines]


def options(command: Command) -> list[str]:
    """The arguments that say more than which program, profile and cluster."""
    common = ("--profile-dir", "--cluster-id", "--IPEngine.id", "--IPEngine.url_file")
    return [word for word in command.argv[3:] if not word.startswith(common)]


@pytest.mark.parametrize("encryption", [True, False])
def test_a_controller_is_told_its_profile_and_whether_to_encrypt(encryption: bool) -> None:
    command = controller_of(make_spec(controller={"encryption": encryption}))

    assert command == Command(
        argv=(
            sys.executable,
            "-m",
            "ipyparallel.controller",
            "--profile-dir=/home/ada/.ipython/profile_lab",
            "--cluster-id=",
            f"--IPController.enable_curve={encryption}",
        ),
        env=EVERY_ENGINE,
        cwd=CWD,
        log=DIRECTORY.log / "ipcontroller.log",
    )


def test_an_engine_is_told_its_profile_its_number_and_the_file_to_wait_for() -> None:
    command, *_ = engines_of(make_spec(engines=[{"count": 1}]))

    assert command == Command(
        argv=(
            sys.executable,
            "-m",
            "ipyparallel.engine",
            "--profile-dir=/home/ada/.ipython/profile_lab",
            "--cluster-id=",
            "--IPEngine.id=0",
            "--IPEngine.url_file=/home/ada/.ipython/profile_lab/security/ipcontroller-engine-whole.json",
        ),
        env=EVERY_ENGINE,
        cwd=CWD,
        log=DIRECTORY.log / "ipengine-0.log",
    )


def test_a_cluster_id_is_in_the_arguments_and_in_the_names_of_the_logs() -> None:
    spec = make_spec(cluster={"cluster_id": "night"}, engines=[{"count": 1}])

    commands = [controller_of(spec), *engines_of(spec)]

    assert all("--cluster-id=night" in command.argv for command in commands)
    assert [command.log.name for command in commands] == ["ipcontroller-night.log", "ipengine-night-0.log"]


@pytest.mark.parametrize(("count", "number"), [(3, 3), ("cores", 4), ("physical", 2)])
def test_there_are_as_many_engines_as_the_spec_says(count: int | str, number: int) -> None:
    assert len(engines_of(make_spec(engines=[{"count": count}]))) == number


def test_groups_are_numbered_one_after_the_other_and_each_keeps_what_is_its_own() -> None:
    groups = [
        {"count": 1, "python": "/opt/python", "work_dir": "/scratch", "env": {"COLOUR": "red"}, "threads": 3},
        {"count": 2, "startup": "import math"},
    ]
    spec = make_spec(engines=groups)

    engines = plan_engines(spec, DIRECTORY, run=RUN, environment={}, cwd=CWD, cores=CORES)

    first, second, third = (engine.command for engine in engines)
    assert [engine.group for engine in engines] == [0, 1, 1]
    assert (first.argv[0], first.cwd) == ("/opt/python", Path("/scratch"))
    assert options(first) == ["--IPEngine.work_dir=/scratch"]
    assert first.env == {**EVERY_ENGINE, **dict.fromkeys(THREADS, "3"), "COLOUR": "red"}
    assert (second.argv[0], second.cwd) == (sys.executable, CWD)
    assert [word.partition("=")[0] for word in options(second)] == ["--IPEngine.startup_command"]
    assert "import math" in options(second)[0]
    assert second.env == third.env == {**EVERY_ENGINE, **dict.fromkeys(THREADS, "1")}
    assert options(second) == options(third)


def test_a_group_may_say_more_precisely_how_many_threads_a_library_takes() -> None:
    command, *_ = engines_of(make_spec(engines=[{"count": 1, "threads": 2, "env": {"MKL_NUM_THREADS": "7"}}]))

    assert command.env == {**EVERY_ENGINE, **dict.fromkeys(THREADS, "2"), "MKL_NUM_THREADS": "7"}


def test_what_would_lead_to_another_cluster_is_taken_out_of_the_environment() -> None:
    surrounding = {
        "PATH": "/usr/bin",
        "IPP_CONNECTION_INFO": '{"key": "secret"}',
        "IPP_CURVE_SECRETKEY": "secret",
        "IPP_CLUSTER_ID": "other",
        "IPYTHONDIR": "/elsewhere",
        RUN_VARIABLE: "another run",
    }
    spec = make_spec(engines=[{"count": 1}])

    commands = [controller_of(spec, surrounding), *engines_of(spec, surrounding)]

    assert [command.env for command in commands] == [{"PATH": "/usr/bin", **EVERY_ENGINE}] * 2
    assert all("secret" not in " ".join(command.argv) for command in commands)


@pytest.mark.parametrize(("depth", "children"), [(None, 8), (0, 6), (1, 8), (2, 12)])
def test_a_controller_has_a_child_for_each_relay_and_scheduler(depth: int | None, children: int) -> None:
    settings = {} if depth is None else {"IPController.broadcast_scheduler_depth": depth}

    assert count_controller_children(make_spec(settings=settings)) == children
