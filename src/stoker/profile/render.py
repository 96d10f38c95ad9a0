"""Rendering: a spec becomes the traits of each config file. Never touches the machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stoker.profile.catalogue import Catalogue
from stoker.profile.engines import (
    count_engines,
    count_misses,
    render_engine_environment,
    render_patience,
    render_startup,
)
from stoker.profile.ipcluster import render_ipcluster
from stoker.spec import ClusterSpec, thaw_setting
from stoker.system.machine import Cores

__all__ = [
    "ProfileSettings",
    "Traits",
    "count_engines",
    "render_engine_environment",
    "render_settings",
    "render_startup",
]

Traits = Mapping[str, object]
"""Trait values by ``Class.trait``, in the order in which they are written."""

_LOOPBACK = "127.0.0.1"
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
        "ipcontroller_config.py": _render_controller(spec),
        "ipengine_config.py": _render_engine(spec),
        "ipcluster_config.py": render_ipcluster(spec, cores),
        "ipython_config.py": _render_ipython(spec),
        "ipython_kernel_config.py": _render_kernel(spec),
    }
    for name, value in spec.settings.items():
        assert catalogue is not None, "a spec with settings needs the catalogue"
        for file in catalogue.files_of(name.partition(".")[0]):
            files[file][name] = thaw_setting(value)
    return ProfileSettings(files=files)


def _render_controller(spec: ClusterSpec) -> dict[str, object]:
    controller, beat = spec.controller, spec.controller.heartbeat
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
        "HeartMonitor.period": round(beat.period * 1000),
        "HeartMonitor.max_heartmonitor_misses": count_misses(beat.limit, beat.period),
    }
    return traits


def _render_engine(spec: ClusterSpec) -> dict[str, object]:
    traits = render_patience(spec)
    # What all engines share; what differs between groups goes to each on its command line.
    if len({group.work_dir for group in spec.engines}) == 1 and spec.engines[0].work_dir is not None:
        traits["IPEngine.work_dir"] = str(spec.engines[0].work_dir)
    startup = {render_startup(group) for group in spec.engines}
    if len(startup) == 1 and (line := startup.pop()) is not None:
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
