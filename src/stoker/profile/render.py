"""Rendering: a spec becomes the traits of each config file. Never touches the machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stoker.profile.catalogue import Catalogue
from stoker.spec import ClusterSpec, EngineGroup, thaw_setting
from stoker.system.machine import Cores

__all__ = ["ProfileSettings", "Traits", "count_engines", "render_engine_environment", "render_settings"]

Traits = Mapping[str, object]
"""Trait values by ``Class.trait``, in the order in which they are written."""

_LOOPBACK = "127.0.0.1"
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
# An engine's interpreter checks for the controller's beat this much later than it is sent (engine/app.py).
_ENGINE_SLACK = 0.5


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
        "ipcluster_config.py": _render_cluster(spec, cores),
        "ipython_config.py": _render_ipython(spec),
        "ipython_kernel_config.py": _render_kernel(spec),
    }
    for name, value in spec.settings.items():
        assert catalogue is not None, "a spec with settings needs the catalogue"
        for file in catalogue.files_of(name.partition(".")[0]):
            files[file][name] = thaw_setting(value)
    return ProfileSettings(files=files)


def count_engines(group: EngineGroup, cores: Cores) -> int:
    """Give the number of engines in a group on a machine with these cores."""
    match group.count:
        case "cores":
            return cores.logical
        case "physical":
            return cores.physical
        case number:
            return number


def render_engine_environment(group: EngineGroup, *, shared: bool) -> dict[str, str]:
    """Give the environment variables that engines of a group get in addition.

    Args:
        group: Its ``env`` beats its ``threads``.
        shared: Whether several engines share the host.
    """
    threads = group.threads if group.threads is not None else (1 if shared else None)
    limits = {} if threads is None else {name: str(threads) for name in _THREAD_VARIABLES}
    return limits | group.env


def render_startup(group: EngineGroup) -> str | None:
    """Give the line that runs a group's ``startup`` in an engine and ends the engine if that raises.

    ipyparallel sends the traceback of a failed start-up line to clients that are not there yet, and goes on;
    such an engine would take work that it cannot do. Here the traceback goes to the engine's log.
    """
    if group.startup is None:
        return None
    code = group.startup
    if group.startup_file is not None:
        # Not %run: that would not raise, and would hide the names it defines until it is done.
        path = str(group.startup_file)
        code = f"exec(compile(open({path!r}, 'rb').read(), {path!r}, 'exec'))"
    return (
        f"_startup = get_ipython().run_cell({code!a}, store_history=False); "
        "_startup.success or (__import__('traceback').print_exception("
        "_startup.error_before_exec or _startup.error_in_exec), __import__('os')._exit(1)); del _startup"
    )


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
        "HeartMonitor.max_heartmonitor_misses": _count_misses(beat.limit, beat.period),
    }
    return traits


def _count_misses(limit: float, period: float) -> int:
    # Rounded first: 0.54 / 0.06 is a little more than 9.
    return math.ceil(round(limit / period, 6))


def _render_engine(spec: ClusterSpec) -> dict[str, object]:
    beat = spec.controller.heartbeat
    traits: dict[str, object] = {
        "IPEngine.max_heartbeat_misses": _count_misses(beat.limit, beat.period + _ENGINE_SLACK),
        # ipyparallel's 5 s are too few for many engines that start at once on few cores.
        "IPEngine.timeout": spec.cluster.start_timeout,
        "IPEngine.wait_for_url_file": spec.cluster.start_timeout,
    }
    # What all engines share; what differs between groups goes to each on its command line.
    if len({group.work_dir for group in spec.engines}) == 1 and spec.engines[0].work_dir is not None:
        traits["IPEngine.work_dir"] = str(spec.engines[0].work_dir)
    startup = {render_startup(group) for group in spec.engines}
    if len(startup) == 1 and (line := startup.pop()) is not None:
        traits["IPEngine.startup_command"] = line
    return traits


def _render_cluster(spec: ClusterSpec, cores: Cores) -> dict[str, object]:
    count = sum(count_engines(group, cores) for group in spec.engines if group.launcher == "local")
    traits: dict[str, object] = {
        "Cluster.n": count,
        "Cluster.engine_timeout": math.ceil(spec.cluster.start_timeout),
        # It would put the key into the environment of every engine and of all that engines start.
        "Cluster.send_engines_connection_env": False,
        "LocalEngineSetLauncher.delay": 0.0,
    }
    environments = [render_engine_environment(group, shared=count > 1) for group in spec.engines]
    if environments[0] and all(environment == environments[0] for environment in environments):
        traits["EngineLauncher.environment"] = environments[0]
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
