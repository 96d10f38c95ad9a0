"""Planning a run: a spec becomes what a supervisor needs to know of it. Never touches the machine."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stoker.cluster.record import name_runtime_directory
from stoker.cluster.run_plan import ControllerPlan, GroupPlan, RunPlan
from stoker.launch.agent_link import AgentCommand, AgentSettings
from stoker.launch.connection import ConnectionFiles
from stoker.launch.marks import AGENT_VARIABLE, RUN_VARIABLE
from stoker.launch.ssh import HostCommand
from stoker.profile import ProfileDirectory
from stoker.profile.catalogue import Catalogue
from stoker.profile.render import count_engines, render_engine_config, render_engine_environment
from stoker.spec import ClusterSpec, EngineGroup
from stoker.spec.hosts import parse_address
from stoker.system.machine import Cores

__all__ = ["count_controller_children", "render_environment", "render_run_plan"]

_MEGABYTE = 1_000_000
# What an interpreter, or the system's loader, reads before it runs any code: too late for a fork.
_EARLY = ("PYTHON", "LD_", "DYLD_", "MALLOC_", "GLIBC_")


def render_run_plan(
    spec: ClusterSpec,
    directory: ProfileDirectory,
    *,
    run: str,
    source: str,
    cwd: Path,
    cores: Cores,
    catalogue: Catalogue | None = None,
    runtime: Path | None = None,
) -> RunPlan:
    """Turn a spec into the plan of one run of its cluster.

    Args:
        spec: What the cluster should be.
        directory: The profile that it is applied to.
        run: The mark of the run.
        source: Where the spec came from.
        cwd: The working directory of controller and engines, but for groups that name one.
        cores: The machine's.
        catalogue: Says which classes engines know; needed only for a spec with ``[settings]``.
        runtime: The runtime directory of a run that is there already; None: where a new one gets it.
    """
    runtime = runtime or name_runtime_directory(directory, spec.cluster.cluster_id)
    parts = list(_list_parts(spec, cores))
    agents = _name_agents(parts)
    return RunPlan(
        run=run,
        name=f"{directory.name}:{spec.cluster.cluster_id}" if spec.cluster.cluster_id else directory.name,
        profile=str(directory.path),
        cluster_id=spec.cluster.cluster_id,
        runtime=str(runtime),
        source=source,
        encrypted=spec.controller.encryption,
        client_address=spec.controller.client_address,
        engine_address=spec.controller.engine_address,
        scheduler=spec.controller.scheduler,
        start_timeout=spec.cluster.start_timeout,
        settings=AgentSettings(
            lease=spec.cluster.lease,
            frozen_after=spec.cluster.frozen_after,
            log_limit=int(spec.cluster.log_limit * _MEGABYTE),
        ),
        controller=_render_controller(spec, directory, runtime, cwd),
        agents=tuple(
            _render_agent(spec, part, name, directory, runtime, cwd, run=run, place=place)
            for place, (name, part) in enumerate({name: part for part, name in agents}.items())
        ),
        groups=tuple(_render_group(spec, part, name, directory, cwd, cores, catalogue) for part, name in agents),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A group's engines on one host."""

    place: int
    """The group's place in the spec."""

    group: EngineGroup
    host: str
    environment: Mapping[str, str]

    @property
    def kind(self) -> object:
        """What one agent can have in common only."""
        group, early = self.group, tuple(sorted(_choose_early(self.environment).items()))
        if not self.host:
            return "", group.python, early
        options = tuple(group.ssh_options.items())
        return self.host, group.python, early, options, group.ssh_config, group.tunnel, group.location


def _list_parts(spec: ClusterSpec, cores: Cores) -> Iterator[_Part]:
    here = [group for group in spec.engines if group.launcher == "local"]
    shared = sum(count_engines(group, cores) for group in here) > 1
    for place, group in enumerate(spec.engines):
        if group.launcher == "local":
            environment = render_engine_environment(group, shared=shared)
            yield _Part(place=place, group=group, host="", environment=environment)
        for host in group.hosts:
            there = group.on_host(host)
            environment = render_engine_environment(there, shared=there.count != 1)
            for name in host.names:
                yield _Part(place=place, group=there, host=name, environment=environment)


def _name_agents(parts: list[_Part]) -> list[tuple[_Part, str]]:
    """Give each part the name of its agent: its host's, with a number where a host has several."""
    names: dict[object, str] = {}
    taken: set[str] = set()
    for part in parts:
        if part.kind not in names:
            base = part.host or "local"
            # A host may be called what another's second agent would be.
            tries = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(1)))
            names[part.kind] = next(name for name in tries if name not in taken)
            taken.add(names[part.kind])
    return [(part, names[part.kind]) for part in parts]


def _render_agent(
    spec: ClusterSpec,
    part: _Part,
    name: str,
    directory: ProfileDirectory,
    runtime: Path,
    cwd: Path,
    *,
    run: str,
    place: int,
) -> AgentCommand | HostCommand:
    group = part.group
    early, log = _choose_early(part.environment), str(directory.log / f"{_stem('agent', spec)}-{name}.log")
    if not part.host:
        return AgentCommand(
            name=name,
            python=group.python,
            env={**early, AGENT_VARIABLE: f"{run}-{name}"},
            cwd=str(cwd),
            log=log,
            socket=str(runtime / f"agent-{place}.sock"),
        )
    address = parse_address(part.host)
    return HostCommand(
        name=name,
        address=part.host,
        destination=address.host if address.user is None else f"{address.user}@{address.host}",
        port=address.port,
        options=group.ssh_options,
        config=None if group.ssh_config is None else str(group.ssh_config),
        python=group.python or "python3",
        early=early,
        env={AGENT_VARIABLE: f"{run}-{name}", RUN_VARIABLE: run},
        place=f"{run} {name}",
        logs=_stem(directory.name, spec),
        log=log,
        # Shorter than the names of other sockets there: ssh adds 17 letters for a moment.
        control=str(runtime / f"c{place}"),
        near=str(runtime / "tunnels.sock"),
        tunnel=group.tunnel,
        target="127.0.0.1" if spec.controller.engine_address == "*" else spec.controller.engine_address,
        location=group.location,
        lease=spec.cluster.lease,
    )


def _render_group(
    spec: ClusterSpec,
    part: _Part,
    name: str,
    directory: ProfileDirectory,
    cwd: Path,
    cores: Cores,
    catalogue: Catalogue | None,
) -> GroupPlan:
    group = part.group
    # Those of another host are known when it is reached.
    unknown = bool(part.host) and isinstance(group.count, str)
    here = str(group.work_dir or cwd) if not part.host else None if group.work_dir is None else str(group.work_dir)
    arguments = _render_profile_arguments(spec, directory)
    return GroupPlan(
        agent=name,
        count=None if unknown else _count(group, cores),
        # A host has no such profile.
        arguments=arguments[1:] if part.host else arguments,
        config=_render_config(spec, group, cores, catalogue),
        env=part.environment,
        work_dir=here,
        fork=group.fork,
        group=part.place,
        host=part.host,
        per=group.count if isinstance(group.count, str) else "cores",
        least=group.min_engines,
    )


def _count(group: EngineGroup, cores: Cores) -> int:
    return group.count if isinstance(group.count, int) else count_engines(group, cores)


def render_environment(environment: Mapping[str, str], directory: ProfileDirectory, run: str) -> dict[str, str]:
    """Give the environment of a run's processes.

    Args:
        environment: That of whoever starts them.
        directory: The profile.
        run: The mark of the run.
    """
    # IPP_* of a surrounding cluster would lead controller or engines to that one.
    kept = {name: value for name, value in environment.items() if not name.startswith("IPP_")}
    return kept | {"IPYTHONDIR": str(directory.path.parent), RUN_VARIABLE: run}


def count_controller_children(spec: ClusterSpec) -> int:
    """Give the number of child processes that a sound controller has: heart monitor, relays and schedulers.

    From ``IPController.init_schedulers`` of ipyparallel 9.2: four relays or schedulers, and a tree of broadcast
    schedulers.
    """
    depth = spec.settings.get("IPController.broadcast_scheduler_depth", 1)
    assert isinstance(depth, int)
    broadcast: int = 2 ** (depth + 1) - 1
    return 1 + 4 + broadcast


def _render_controller(spec: ClusterSpec, directory: ProfileDirectory, runtime: Path, cwd: Path) -> ControllerPlan:
    files = ConnectionFiles.of(directory, spec.cluster.cluster_id)
    lease, end_note = runtime / "lease", runtime / "ended"
    # The scheduler of this name hangs without it; the others would only import it.
    numpy = ("--numpy",) if spec.controller.scheduler == "weighted" else ()
    return ControllerPlan(
        argv=(
            sys.executable,
            "-m",
            "stoker.launch.controller",
            f"--lease-file={lease}",
            f"--lease={spec.cluster.lease}",
            f"--end-note={end_note}",
            f"--keys={files.keys}",
            *numpy,
            "--",
            *_render_profile_arguments(spec, directory),
            # Said here too: the command line holds even where a config file is dropped for an error in it.
            f"--IPController.enable_curve={spec.controller.encryption}",
            # It finds none at the first start; without it, one that is told to end takes its ports' numbers with it.
            "--IPController.reuse_files=True",
        ),
        again=("--IPController.restore_engines=True",),
        cwd=str(cwd),
        log=str(directory.log / f"{_stem('ipcontroller', spec)}.log"),
        children=count_controller_children(spec),
        client_file=str(files.client),
        engine_file=str(files.engine),
        engine_state=str(directory.log / f"engines{spec.cluster.cluster_id}.json"),
        end_note=str(end_note),
        lease_file=str(lease),
    )


def _render_profile_arguments(spec: ClusterSpec, directory: ProfileDirectory) -> tuple[str, str]:
    return f"--profile-dir={directory.path}", f"--cluster-id={spec.cluster.cluster_id}"


def _render_config(
    spec: ClusterSpec, group: EngineGroup, cores: Cores, catalogue: Catalogue | None
) -> dict[str, dict[str, object]]:
    config = render_engine_config(spec, group, cores=cores, catalogue=catalogue)
    if spec.controller.scheduler == "pure":
        # It gives a task that an engine declines to nobody else.
        config.setdefault("EngineKernel", {})["reroutes"] = False
    return config


def _choose_early(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_EARLY)}


def _stem(name: str, spec: ClusterSpec) -> str:
    return f"{name}-{spec.cluster.cluster_id}" if spec.cluster.cluster_id else name
