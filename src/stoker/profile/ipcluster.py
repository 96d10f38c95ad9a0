"""Rendering ``ipcluster_config.py``: which engines plain ``ipcluster start`` starts, and how."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence

from stoker.profile.engines import (
    count_engines,
    list_host_counts,
    render_engine_environment,
    render_patience,
    render_startup,
)
from stoker.spec import ClusterSpec, EngineGroup
from stoker.spec.engines import BATCH_SYSTEMS
from stoker.spec.hosts import parse_address
from stoker.spec.notices import list_ipcluster_groups
from stoker.system.machine import Cores

__all__ = ["render_ipcluster"]

_ENGINE = ("-m", "ipyparallel.engine")

_BATCH_CLASSES = {
    "slurm": "SlurmEngineSetLauncher",
    "pbs": "PBSEngineSetLauncher",
    "lsf": "LSFEngineSetLauncher",
    "sge": "SGEEngineSetLauncher",
}
# What ipyparallel's own templates say, and one line for each trait that has a value; {name} is filled in by it.
_HEADS: Mapping[str, tuple[str, Sequence[str]]] = {
    "slurm": (
        "#SBATCH",
        ("--export=ALL", "--job-name=ipengine-PROFILE", "--ntasks={n}", "--output={output_file}"),
    ),
    "pbs": ("#PBS", ("-V", "-N ipengine", "-t 1-{n}", "-j oe", "-o {output_file}")),
    "lsf": ("#BSUB", ("-env all", "-J ipengine-PROFILE[1-{n}]", "-o {output_file}", "-e {output_file}")),
    "sge": ("#$", ("-V", "-S /bin/sh", "-N ipengine", "-t 1-{n}", "-j y", "-o {output_file}")),
}
# Trait of the launcher, key of the spec, how the script says it.
_SLURM_OPTIONS = (
    ("queue", "partition", "--partition={queue}"),
    ("account", "account", "--account={account}"),
    ("qos", "qos", "--qos={qos}"),
    ("timelimit", "time_limit", "--time={timelimit}"),
)
_QUEUE_OPTIONS = (("queue", "queue", "-q {queue}"),)


def render_ipcluster(spec: ClusterSpec, cores: Cores) -> dict[str, object]:
    """Render what ipcluster must know to start the engines that it can start.

    Those of the other groups it leaves out, as a notice of the spec says.

    Args:
        spec: What the cluster should be.
        cores: The machine's, for groups that want one engine per core of it.
    """
    groups = [spec.engines[place] for place in list_ipcluster_groups(spec.engines)]
    launcher = groups[0].launcher
    counts = dict(count for group in reversed(groups) for count in reversed(list_host_counts(group)))
    count = sum(counts.values()) if launcher == "ssh" else sum(count_engines(group, cores) for group in groups)
    traits: dict[str, object] = {
        "Cluster.engine_launcher_class": launcher,
        # With SSH an upper limit, which would else be the number of this machine's cores.
        "Cluster.n": count,
        "Cluster.engine_timeout": math.ceil(spec.cluster.start_timeout),
        # It would put the key into the environment of every engine and of all that engines start.
        "Cluster.send_engines_connection_env": False,
        "LocalEngineSetLauncher.delay": 0.0,
    }
    if launcher == "local":
        return traits | _render_local(groups, shared=count > 1)
    if launcher == "ssh":
        return traits | _render_ssh(spec, groups, cores)
    if launcher == "mpi":
        return traits | _render_mpi(groups[0], shared=count > 1)
    return traits | _render_batch(spec, groups[0], shared=count > 1)


def _render_local(groups: Sequence[EngineGroup], *, shared: bool) -> dict[str, object]:
    """Render what all groups share; what differs ipcluster has no place for."""
    traits: dict[str, object] = {}
    environments = [render_engine_environment(group, shared=shared) for group in groups]
    if environments[0] and all(environment == environments[0] for environment in environments):
        traits["EngineLauncher.environment"] = environments[0]
    if len({group.python for group in groups}) == 1:
        traits |= _render_command(groups[0])
    return traits


def _render_ssh(spec: ClusterSpec, groups: Sequence[EngineGroup], cores: Cores) -> dict[str, object]:
    # Hosts read no ipengine_config.py of this profile: what it says goes onto each engine's command line.
    patience = _render_arguments(render_patience(spec, cores))
    hosts: dict[str, dict[str, object]] = {}
    for group in groups:
        there = {name: group.on_host(host) for host in group.hosts for name in host.names}
        for name, count in list_host_counts(group):
            own, port = there[name], parse_address(name).port
            python = own.python or "python3"
            options = [] if own.ssh_config is None else ["-F", str(own.ssh_config)]
            options += [word for option, value in own.ssh_options.items() for word in ("-o", f"{option}={value}")]
            details: dict[str, object] = {
                "n": count,
                "remote_python": python,
                "engine_cmd": [python, *_ENGINE],
                "engine_args": [*patience, *_render_group_arguments(own)],
                "environment": render_engine_environment(own, shared=count > 1),
                # Said here, although the host's name says it: the launcher would append it to a list that all
                # hosts have in common.
                "ssh_args": options + ([] if port is None else ["-p", str(port)]),
                "scp_args": options + ([] if port is None else ["-P", str(port)]),
            }
            hosts.setdefault(name, details)
    common = {
        key: _find_usual([details[key] for details in hosts.values()])
        for key in next(iter(hosts.values()))
        if key != "n"
    }
    engines = {
        name: {key: value for key, value in details.items() if key == "n" or value != common[key]}
        for name, details in hosts.items()
    }
    return {
        "SSHEngineSetLauncher.engines": {
            name: rest["n"] if list(rest) == ["n"] else rest for name, rest in engines.items()
        },
        **{f"SSHEngineSetLauncher.{key}": value for key, value in common.items() if value},
    }


def _find_usual(values: Sequence[object]) -> object:
    """Find the most frequent value; of several, the first."""
    return max(values, key=values.count)


def _render_mpi(group: EngineGroup, *, shared: bool) -> dict[str, object]:
    traits: dict[str, object] = {
        "MPIEngineSetLauncher.mpi_cmd": list(group.mpi_cmd),
        "MPIEngineSetLauncher.mpi_args": list(group.mpi_args),
    }
    if environment := render_engine_environment(group, shared=shared):
        traits["EngineLauncher.environment"] = environment
    return traits | _render_command(group) | _render_engine_args("MPIEngineSetLauncher", group)


def _render_batch(spec: ClusterSpec, group: EngineGroup, *, shared: bool) -> dict[str, object]:
    assert group.launcher in BATCH_SYSTEMS
    name = _BATCH_CLASSES[group.launcher]
    cluster = spec.cluster
    stem = f"{cluster.profile}-{cluster.cluster_id}" if cluster.cluster_id else cluster.profile
    options = _SLURM_OPTIONS if group.launcher == "slurm" else _QUEUE_OPTIONS
    given = [(trait, getattr(group, key), line) for trait, key, line in options if getattr(group, key) is not None]
    prefix, fixed = _HEADS[group.launcher]
    lines = [
        *(line.replace("PROFILE", stem) for line in fixed),
        *(line for _, _, line in given),
        *(_escape(line) for line in group.directives),
    ]
    script = [
        "#!/bin/sh",
        *(f"{prefix} {line}" for line in lines),
        *_render_exports(render_engine_environment(group, shared=shared)),
        ("srun " if group.launcher == "slurm" else "") + "{program_and_args}",
        "",
    ]
    return {
        **{f"{name}.{trait}": value for trait, value, _ in given},
        # ipyparallel's own is the same for every cluster that is started from one directory.
        f"{name}.batch_file_name": f"ipengine-{stem}.{group.launcher}",
        f"{name}.batch_template": "\n".join(script),
        **_render_command(group),
        **_render_engine_args(name, group),
    }


def _render_exports(environment: Mapping[str, str]) -> Iterator[str]:
    # Not every batch system hands the environment on, and LSF's launcher does not even give it these.
    yield "export IPP_PROFILE_DIR='{profile_dir}'"
    yield "export IPP_CLUSTER_ID='{cluster_id}'"
    for name, value in environment.items():
        yield f"export {name}={_escape(shlex.quote(value))}"


def _escape(text: str) -> str:
    # ipyparallel evaluates what stands in braces.
    return text.replace("{", "{{").replace("}", "}}")


def _render_command(group: EngineGroup) -> dict[str, object]:
    return {} if group.python is None else {"EngineLauncher.engine_cmd": [group.python, *_ENGINE]}


def _render_engine_args(name: str, group: EngineGroup) -> dict[str, object]:
    arguments = _render_group_arguments(group)
    return {f"{name}.engine_args": arguments} if arguments else {}


def _render_group_arguments(group: EngineGroup) -> list[str]:
    traits = {"IPEngine.work_dir": group.work_dir, "IPEngine.startup_command": render_startup(group)}
    return _render_arguments({name: value for name, value in traits.items() if value is not None})


def _render_arguments(traits: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in traits.items()]
