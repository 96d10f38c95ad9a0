"""The spec: what a cluster should be, as frozen values. Knows nothing of files, processes or this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from stoker.spec.controller import ControllerSection
from stoker.spec.engines import EngineGroup
from stoker.spec.notices import find_notices
from stoker.spec.queue import QueueSection
from stoker.spec.settings import Setting, SettingName
from stoker.spec.value import LOOPBACK, Frozen, InnerFaultError, Name, Port, Value, check_ip, check_name

__all__ = ["ClusterSection", "ClusterSpec", "IPythonSection", "KernelSection"]

_ENGINE_CLASSES = ("IPEngine.", "IPythonKernel.", "InteractiveShell")
_CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


class ClusterSection(Value):
    """Which cluster this is, and where its profile is kept."""

    profile: Name = "stoker"
    """Name of the IPython profile. Default: the spec file's name. Never ``default``: that one is yours."""

    cluster_id: Name = ""
    """Tells clusters of one profile apart; empty for the one that plain ipyparallel calls connect to."""

    ipython_dir: Annotated[Path | None, Field(strict=False, examples=["~/.ipython"])] = None
    """IPython's directory, which holds the profiles. Default: ``$IPYTHONDIR``, else ``~/.ipython``."""

    start_timeout: float = Field(default=60.0, gt=0)
    """Seconds within which the controller and every engine must be there."""

    lease: float = Field(default=120.0, gt=0)
    """Seconds of their own running time for which agents and the controller go on without their supervisor.
    Then they stop what they own and leave."""

    frozen_after: float = Field(default=5.0, gt=0)
    """Seconds for which an engine, or a process of the controller, may be stopped (state T) before it is
    killed and replaced."""

    log_limit: float = Field(default=10.0, gt=0)
    """Megabytes that a log file may hold. Of a longer one the older half goes."""

    @field_validator("profile")
    @classmethod
    def _check_profile(cls, value: str) -> str:
        if value == "default":
            raise ValueError('"default" is the profile of your daily IPython; choose another name')
        return check_name(value)

    @field_validator("cluster_id")
    @classmethod
    def _check_cluster_id(cls, value: str) -> str:
        return value if value == "" else check_name(value)


class IPythonSection(Value):
    """What every IPython of this profile loads: shells, kernels and engines."""

    extensions: Annotated[tuple[str, ...], Frozen] = Field(default=(), examples=[["line_profiler"]])
    """IPython extensions, such as ``line_profiler``."""

    exec_lines: Annotated[tuple[str, ...], Frozen] = Field(default=(), examples=[["import math"]])
    """Lines of code that are run at the start."""


class KernelSection(Value):
    """Where a kernel of this profile listens (``ipython kernel --profile=NAME``)."""

    ip: str = LOOPBACK
    """The address of an interface, or ``*``."""

    shell_port: Port | None = Field(default=None, examples=[50001])
    """Where it takes requests. Default: any free port; so for the other four."""

    iopub_port: Port | None = Field(default=None, examples=[50002])
    """Where it publishes what it prints."""

    stdin_port: Port | None = Field(default=None, examples=[50003])
    """Where it asks for input."""

    control_port: Port | None = Field(default=None, examples=[50004])
    """Where it is told to stop."""

    hb_port: Port | None = Field(default=None, examples=[50005])
    """Where it answers heartbeats."""

    @field_validator("ip")
    @classmethod
    def _check_address(cls, value: str) -> str:
        return check_ip(value)

    @field_validator(*(f"{channel}_port" for channel in _CHANNELS))
    @classmethod
    def _check_distinct(cls, value: int | None, info: ValidationInfo) -> int | None:
        taken = {port: name for name, port in info.data.items() if name.endswith("_port") and port}
        if value is not None and value in taken:
            raise ValueError(f"must differ from {taken[value]}, got {value} for both")
        return value


class ClusterSpec(Value):
    """What a cluster should be. The empty spec is a cluster on this machine with one engine per core."""

    cluster: ClusterSection = ClusterSection()
    """Which cluster this is, and where its profile is kept."""

    controller: ControllerSection = ControllerSection()
    """Where the controller listens, how it hands out tasks, what it keeps."""

    engines: Annotated[tuple[EngineGroup, ...], Frozen, Field(min_length=1)] = (EngineGroup(),)
    """Groups of engines, each started alike."""

    ipython: IPythonSection = IPythonSection()
    """What shells, kernels and engines of the profile load."""

    kernel: KernelSection = KernelSection()
    """Where a kernel of the profile listens (``ipython kernel --profile=NAME``)."""

    queue: QueueSection = QueueSection()
    """Where the job queue of multiprocessing.managers is served (``stoker queue``), and how long its leases are."""

    settings: dict[SettingName, Setting] = Field(default={}, examples=[{"DictDB.record_limit": 4096}])
    """Any other trait of ipyparallel, IPython or ipykernel, by its own name."""

    @field_validator("controller")
    @classmethod
    def _check_heartbeat(cls, value: ControllerSection, info: ValidationInfo) -> ControllerSection:
        cluster = info.data.get("cluster")
        if cluster is not None and (problem := value.heartbeat.find_clash(cluster.lease)) is not None:
            raise InnerFaultError(problem, below=("heartbeat", "period"))
        return value

    @field_validator("settings")
    @classmethod
    def _check_hwm(cls, value: dict[str, Setting], info: ValidationInfo) -> dict[str, Setting]:
        controller = info.data.get("controller")
        hwm = value.get("TaskScheduler.hwm")
        if hwm is not None and controller is not None and "hwm" in controller.model_fields_set:
            raise ValueError(
                f'"TaskScheduler.hwm" ({hwm}) is also given as controller.hwm ({controller.hwm}); keep one'
            )
        return value

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know about this spec although it is no fault."""
        ipython = [f"ipython.{name}" for name in IPythonSection.model_fields if getattr(self.ipython, name)]
        traits = [f'settings."{name}"' for name in self.settings if name.startswith(_ENGINE_CLASSES)]
        return tuple(find_notices(self.controller, self.engines, configured=[*ipython, *traits]))
