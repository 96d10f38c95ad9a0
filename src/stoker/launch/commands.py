"""The commands that start a controller and engines: argv, environment, directory and log. Starts nothing.

No key is in them: controller and engines find theirs in the profile's connection files.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stoker.launch.connection import ConnectionFiles
from stoker.profile import ProfileDirectory
from stoker.profile.render import count_engines, render_engine_environment, render_startup
from stoker.spec import ClusterSpec, EngineGroup
from stoker.system.machine import Cores

__all__ = [
    "RUN_VARIABLE",
    "Command",
    "EngineCommand",
    "count_controller_children",
    "plan_controller",
    "plan_engines",
]

RUN_VARIABLE = "STOKER_RUN"
"""Marks every process of one run of a cluster, and all that these start, in their environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One process to start."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """Its whole environment."""

    cwd: Path
    log: Path
    """Gets what it prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCommand:
    """One engine to start."""

    number: int
    """The engine number that it asks the hub for."""

    group: int
    """Its group's place in the spec."""

    command: Command


def plan_controller(
    spec: ClusterSpec, directory: ProfileDirectory, *, run: str, environment: Mapping[str, str], cwd: Path
) -> Command:
    """Give the command that starts the controller.

    Args:
        spec: What the cluster should be; it was applied to the profile.
        directory: The profile.
        run: The mark of this run.
        environment: The environment of whoever starts it.
        cwd: The directory it is started in.
    """
    return Command(
        argv=(
            sys.executable,
            "-m",
            "ipyparallel.controller",
            *_profile_arguments(spec, directory),
            # Said here too: the command line holds even where a config file is dropped for an error in it.
            f"--IPController.enable_curve={spec.controller.encryption}",
        ),
        env=_render_environment(environment, directory, run),
        cwd=cwd,
        log=directory.log / f"{_stem('ipcontroller', spec)}.log",
    )


def count_controller_children(spec: ClusterSpec) -> int:
    """Give the number of child processes that a sound controller has: heart monitor, relays and schedulers.

    From ``IPController.init_schedulers`` of ipyparallel 9.2: four relays or schedulers, and a tree of broadcast
    schedulers.
    """
    depth = spec.settings.get("IPController.broadcast_scheduler_depth", 1)
    assert isinstance(depth, int)
    broadcast: int = 2 ** (depth + 1) - 1
    return 1 + 4 + broadcast


def plan_engines(
    spec: ClusterSpec,
    directory: ProfileDirectory,
    *,
    run: str,
    environment: Mapping[str, str],
    cwd: Path,
    cores: Cores,
) -> tuple[EngineCommand, ...]:
    """Give the commands that start the engines, group by group, numbered from 0.

    Args:
        spec: What the cluster should be; it was applied to the profile.
        directory: The profile.
        run: The mark of this run.
        environment: The environment of whoever starts them.
        cwd: The working directory of groups that name none.
        cores: The machine's.
    """
    groups = [(place, group) for place, group in enumerate(spec.engines) for _ in range(count_engines(group, cores))]
    shared = len(groups) > 1
    return tuple(
        EngineCommand(
            number=number,
            group=place,
            command=Command(
                argv=(
                    group.python or sys.executable,
                    "-m",
                    "ipyparallel.engine",
                    *_profile_arguments(spec, directory),
                    f"--IPEngine.id={number}",
                    f"--IPEngine.url_file={ConnectionFiles.of(directory, spec.cluster.cluster_id).handover}",
                    *_group_arguments(group),
                ),
                env=_render_environment(environment, directory, run) | render_engine_environment(group, shared=shared),
                cwd=group.work_dir or cwd,
                log=directory.log / f"{_stem('ipengine', spec)}-{number}.log",
            ),
        )
        for number, (place, group) in enumerate(groups)
    )


def _profile_arguments(spec: ClusterSpec, directory: ProfileDirectory) -> tuple[str, str]:
    return f"--profile-dir={directory.path}", f"--cluster-id={spec.cluster.cluster_id}"


def _group_arguments(group: EngineGroup) -> list[str]:
    arguments = [] if group.work_dir is None else [f"--IPEngine.work_dir={group.work_dir}"]
    startup = render_startup(group)
    return arguments if startup is None else [*arguments, f"--IPEngine.startup_command={startup}"]


def _render_environment(environment: Mapping[str, str], directory: ProfileDirectory, run: str) -> dict[str, str]:
    # IPP_* of a surrounding cluster would lead controller or engines to that one.
    kept = {name: value for name, value in environment.items() if not name.startswith("IPP_")}
    return kept | {"IPYTHONDIR": str(directory.path.parent), RUN_VARIABLE: run}


def _stem(name: str, spec: ClusterSpec) -> str:
    return f"{name}-{spec.cluster.cluster_id}" if spec.cluster.cluster_id else name
