"""Settings: traits that have no key of their own, by their own names, checked as far as their text goes."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

__all__ = ["Setting", "SettingName", "find_key", "list_traits", "thaw_setting"]

_TRAIT = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*")

# Each of these traits has a key of its own in the spec, which checks what the trait does not.
_SPOKEN_FOR = {
    "IPController.ip": "controller.ip",
    "IPController.client_ip": "controller.client_ip",
    "IPController.engine_ip": "controller.engine_ip",
    "IPController.monitor_ip": "controller.ip",
    "IPController.location": "controller.location",
    "IPController.enable_curve": "controller.encryption",
    "IPController.ports": "controller.ports",
    "IPController.client_ports": "controller.ports",
    "IPController.engine_ports": "controller.ports",
    "IPController.use_threads": "controller.scheduler",
    "IPController.db_class": "controller.database",
    "IPController.registration_timeout": "cluster.start_timeout",
    "IPController.log_level": "controller.log_level",
    "HeartMonitor.period": "controller.heartbeat.period",
    "HeartMonitor.max_heartmonitor_misses": "controller.heartbeat.limit",
    "IPEngine.max_heartbeat_misses": "controller.heartbeat.limit",
    "IPController.cluster_id": "cluster.cluster_id",
    "IPEngine.cluster_id": "cluster.cluster_id",
    "Cluster.cluster_id": "cluster.cluster_id",
    "ProfileDir.location": "cluster.profile",
    "IPEngine.startup_command": "engines[].startup",
    "IPEngine.startup_script": "engines[].startup",
    "IPEngine.work_dir": "engines[].work_dir",
    "TaskScheduler.scheme_name": "controller.scheduler",
    "Cluster.n": "engines[].count",
    "Cluster.engine_launcher_class": "engines[].launcher",
    "SSHEngineSetLauncher.engines": "engines[].hosts",
    "SlurmLauncher.options": "engines[].directives",
    "SlurmEngineSetLauncher.options": "engines[].directives",
    "InteractiveShellApp.extensions": "ipython.extensions",
    "InteractiveShellApp.exec_lines": "ipython.exec_lines",
    "IPKernelApp.ip": "kernel.ip",
    **{f"IPKernelApp.{name}_port": f"kernel.{name}_port" for name in ("shell", "iopub", "stdin", "control", "hb")},
}

# These have one too, but may also be set by their own names.
_ALSO = {
    "TaskScheduler.hwm": "controller.hwm",
    "IPEngine.timeout": "cluster.start_timeout",
    "IPEngine.wait_for_url_file": "cluster.start_timeout",
    "Cluster.engine_timeout": "cluster.start_timeout",
    "EngineLauncher.environment": "engines[].env",
    "EngineLauncher.engine_cmd": "engines[].python",
    "SSHEngineSetLauncher.remote_python": "engines[].python",
    "SSHEngineSetLauncher.ssh_args": "engines[].ssh_options",
    "SSHEngineSetLauncher.scp_args": "engines[].ssh_options",
    "SlurmEngineSetLauncher.queue": "engines[].partition",
    "SlurmEngineSetLauncher.account": "engines[].account",
    "SlurmEngineSetLauncher.qos": "engines[].qos",
    "SlurmEngineSetLauncher.timelimit": "engines[].time_limit",
    "SlurmEngineSetLauncher.batch_template": "engines[].directives",
    **{f"{system}EngineSetLauncher.queue": "engines[].queue" for system in ("PBS", "LSF", "SGE")},
    **{f"{system}EngineSetLauncher.batch_template": "engines[].directives" for system in ("PBS", "LSF", "SGE")},
    "MPIEngineSetLauncher.mpi_cmd": "engines[].mpi_cmd",
    "MPIEngineSetLauncher.mpi_args": "engines[].mpi_args",
}


def find_key(setting: str) -> str | None:
    """Give the key of the spec that says what a trait says, such as ``TaskScheduler.hwm``; None: it has none."""
    return (_SPOKEN_FOR | _ALSO).get(setting)


def list_traits(key: str) -> tuple[str, ...]:
    """Give the traits that a key of the spec speaks for."""
    return tuple(setting for setting, owner in (_SPOKEN_FOR | _ALSO).items() if owner == key)


def thaw_setting(value: object) -> object:
    """Give the value of a setting as traitlets wants it, which tells lists from tuples: TOML knows arrays only."""
    if isinstance(value, dict):
        return {name: thaw_setting(item) for name, item in value.items()}
    return [thaw_setting(item) for item in value] if isinstance(value, tuple) else value


def _check_setting_name(value: str) -> str:
    if not _TRAIT.fullmatch(value):
        raise ValueError('must name a class and a trait in quotes, such as "TaskScheduler.hwm"')
    if value in _SPOKEN_FOR:
        raise ValueError(f"has a key of its own, which checks it: {_SPOKEN_FOR[value]}")
    return value


def _freeze_setting(value: object) -> object:
    if isinstance(value, dict):
        return {name: _freeze_setting(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_freeze_setting(item) for item in value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be a finite number, got {value}")
    if not isinstance(value, str | int | float):
        raise ValueError(f"must be a text, a number, true, false, an array or a table, got {value}")
    return value


SettingName = Annotated[str, AfterValidator(_check_setting_name)]
"""A class and one of its traits, such as ``TaskScheduler.hwm``."""

Setting = Annotated[
    str | int | float | bool | tuple[Any, ...] | dict[str, Any],
    BeforeValidator(_freeze_setting),
]
"""What a trait can be set to from TOML."""
