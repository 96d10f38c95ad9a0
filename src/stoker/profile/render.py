"""Rendering: a spec becomes the traits of each config file. Never touches the machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stoker.profile.catalogue import Catalogue
from stoker.profile.engines import (
    count_engines,
    count_misses,
    pick_limit,
    pick_period,
    render_engine_environment,
    render_patience,
    render_startup,
)
from stoker.profile.ipcluster import render_ipcluster
from stoker.spec import ClusterSpec, EngineGroup, thaw_setting
from stoker.system.machine import Cores

__all__ = [
    "ProfileSettings",
    "Traits",
    "count_engines",
    "render_engine_config",
    "render_engine_environment",
    "render_settings",
    "render_startup",
]

Traits = Mapping[str, object]
"""Trait values by ``Class.trait``, in the order in which they are written."""

_LOOPBACK = "127.0.0.1"
# What an engine reads, in its order.
_ENGINE_FILES = ("ipython_config.py", "ipengine_config.py")
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileSettings:
    """What each config file of a profile must say."""

    files: Mapping[str, Traits]
    """By file name; every file of the profile is there, perhaps with nothing to say."""


def render_settings(spec: ClusterSpec, *, cores: Cores, catalogue: Catalogue | None = None) -> ProfileSettings:
    """Turn a spec into the traits of each config file.

    Args:
        spec: What the cluster should be.
        cores: The machine's, for groups that want one engine per core.
        catalogue: Says which files know a class; needed only for a spec with ``[settings]``.
    """
    files: dict[str, dict[str, object]] = {
        "ipcontroller_config.py": _render_controller(spec, cores),
        "ipengine_config.py": _render_engine(spec, cores),
        "ipcluster_config.py": render_ipcluster(spec, cores),
        "ipython_config.py": _render_ipython(spec),
        "ipython_kernel_config.py": _render_kernel(spec),
    }
    for file, traits in _render_extra(spec, catalogue).items():
        files[file] |= traits
    return ProfileSettings(files=files)


def render_engine_config(
    spec: ClusterSpec, group: EngineGroup, *, cores: Cores, catalogue: Catalogue | None = None
) -> dict[str, dict[str, object]]:
    """Turn a spec into what an engine of a group must be told where it reads none of the profile's files.

    It says what they say to an engine, and what the group says for its engines alone.

    Args:
        spec: What the cluster should be.
        group: One of its groups.
        cores: The controller's machine's, for groups that want one engine per core.
        catalogue: Says which files know a class; needed only for a spec with ``[settings]``.

    Returns:
        The values of traits by class, then by trait; JSON can say all of them.
    """
    extra = _render_extra(spec, catalogue)
    traits = _render_ipython(spec) | render_patience(spec, cores) | _render_group(group)
    for file in _ENGINE_FILES:
        traits |= extra.get(file, {})
    config: dict[str, dict[str, object]] = {}
    for name, value in traits.items():
        class_name, _, trait = name.partition(".")
        config.setdefault(class_name, {})[trait] = value
    return config


def _render_extra(spec: ClusterSpec, catalogue: Catalogue | None) -> dict[str, dict[str, object]]:
    """Give the spec's ``[settings]`` by the files in which their classes are configured."""
    files: dict[str, dict[str, object]] = {}
    for name, value in spec.settings.items():
        assert catalogue is not None, "a spec with settings needs the catalogue"
        for file in catalogue.files_of(name.partition(".")[0]):
            files.setdefault(file, {})[name] = thaw_setting(value)
    return files


def _render_controller(spec: ClusterSpec, cores: Cores) -> dict[str, object]:
    controller, period = spec.controller, pick_period(spec, cores)
    traits: dict[str, object] = {
        # Never IPController.ip: where it differs from its default it overrides these.
        "IPController.client_ip": controller.client_address,
        "IPController.engine_ip": controller.engine_address,
        # Only the controller's own processes, on this machine, speak to the monitor.
        "IPController.monitor_ip": _LOOPBACK,
        "IPController.enable_curve": controller.encryption,
        "IPController.db_class": controller.database,
        "IPController.registration_timeout": math.ceil(spec.cluster.start_timeout),
        "IPController.log_level": _LEVELS[controller.log_level],
    }
    if controller.location is not None:
        traits["IPController.location"] = controller.location
    if controller.pools is not None:
        traits["IPController.engine_ports"] = list(controller.pools.engine)
        traits["IPController.client_ports"] = list(controller.pools.client)
        traits["IPController.ports"] = list(controller.pools.internal)
    traits |= {
        "TaskScheduler.scheme_name": controller.scheduler,
        "TaskScheduler.hwm": controller.hwm,
        # Not nested below IPController: the monitor's process reads only this one.
        "HeartMonitor.period": round(period * 1000),
        "HeartMonitor.max_heartmonitor_misses": count_misses(pick_limit(spec), period),
    }
    return traits


def _render_engine(spec: ClusterSpec, cores: Cores) -> dict[str, object]:
    # What all engines share; what differs between groups goes to each on its command line.
    first, *others = (_render_group(group) for group in spec.engines)
    shared = {
        name: value for name, value in first.items() if all(name in other and other[name] == value for other in others)
    }
    return render_patience(spec, cores) | shared


def _render_group(group: EngineGroup) -> dict[str, object]:
    traits: dict[str, object] = {}
    if group.work_dir is not None:
        traits["IPEngine.work_dir"] = str(group.work_dir)
    if (line := render_startup(group)) is not None:
        traits["IPEngine.startup_command"] = line
    return traits


def _render_ipython(spec: ClusterSpec) -> dict[str, object]:
    traits: dict[str, object] = {}
    if spec.ipython.extensions:
        traits["InteractiveShellApp.extensions"] = list(spec.ipython.extensions)
    if spec.ipython.exec_lines:
        traits["InteractiveShellApp.exec_lines"] = list(spec.ipython.exec_lines)
    return traits


def _render_kernel(spec: ClusterSpec) -> dict[str, object]:
    given = spec.kernel.model_dump(exclude_unset=True, exclude_none=True)
    return {f"IPKernelApp.{name}": value for name, value in given.items()}
