"""The spec: what a cluster should be, as frozen values. Knows nothing of files, processes or this machine."""

from __future__ import annotations

import ast
import ipaddress
import math
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from stoker.spec.ports import PortPools, parse_ports, share_ports
from stoker.spec.settings import Setting, SettingName

__all__ = [
    "ClusterSection",
    "ClusterSpec",
    "ControllerSection",
    "EngineGroup",
    "Heartbeat",
    "IPythonSection",
    "KernelSection",
]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOOPBACK = "127.0.0.1"
_CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


def _freeze(value: object) -> object:
    # TOML arrays come as lists; a frozen value holds tuples.
    return tuple(value) if isinstance(value, list) else value


def _check_variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise ValueError('must be the name of an environment variable: letters, digits and "_", no digit in front')
    if value.startswith(("IPP_", "STOKER_")):
        raise ValueError("steers ipyparallel or stoker itself and is set by stoker alone")
    return value


def _refuse_nul(value: object) -> object:
    # The system's calls take no such text: refused here, before anything is started.
    if isinstance(value, str) and "\0" in value:
        raise ValueError("must not hold a NUL character")
    return value


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f'must be made of letters, digits, "_", "." and "-", the last two not in front, got "{value}"')
    return value


def _check_ip(value: str) -> str:
    # 0.0.0.0 and * mean the same, but ipcontroller compares them as texts.
    if value in ("*", "0.0.0.0"):  # noqa: S104 - a wish of the user's, checked and warned of elsewhere
        return "*"
    if value == "localhost":
        raise ValueError(f'must be an IPv4 address or "*", got "localhost"; did you mean "{_LOOPBACK}"?')
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise ValueError(f'must be "*" or the IPv4 address of an interface, got "{value}"') from None


Frozen = BeforeValidator(_freeze)
Variable = Annotated[str, AfterValidator(_check_variable)]
Name = Annotated[str, Field(max_length=64)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Value(BaseModel):
    """The base of every part of a spec: frozen, strict, without unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: object) -> object:
        return _refuse_nul(value)


class ClusterSection(Value):
    """Which cluster this is, and where its profile is kept."""

    profile: Name = "stoker"
    """Name of the IPython profile. Default: the spec file's name. Never ``default``: that one is yours."""

    cluster_id: Name = ""
    """Tells clusters of one profile apart; empty for the one that plain ipyparallel calls connect to."""

    ipython_dir: Annotated[Path | None, Field(strict=False)] = None
    """IPython's directory, which holds the profiles. Default: ``$IPYTHONDIR``, else ``~/.ipython``."""

    start_timeout: float = Field(default=60.0, gt=0)
    """Seconds within which the controller and every engine must be there."""

    @field_validator("profile")
    @classmethod
    def _check_profile(cls, value: str) -> str:
        if value == "default":
            raise ValueError('"default" is the profile of your daily IPython; choose another name')
        return _check_name(value)

    @field_validator("cluster_id")
    @classmethod
    def _check_cluster_id(cls, value: str) -> str:
        return value if value == "" else _check_name(value)


class Heartbeat(Value):
    """How the controller finds out that an engine, or its host, is gone."""

    period: float = Field(default=0.2, ge=0.05, le=60)
    """Seconds between two beats. An engine counts as ready after up to two of them: this is most of
    ipyparallel's start-up time, whose default is 3 s."""

    limit: float = Field(default=60.0, gt=0)
    """Seconds without an answer after which an engine is given up, and after which an engine that hears
    nothing from its controller leaves."""

    @field_validator("limit")
    @classmethod
    def _check_limit(cls, value: float, info: ValidationInfo) -> float:
        period = info.data.get("period")
        # Three times 0.2 is a little more than 0.6.
        if period is not None and value < 3 * period and not math.isclose(value, 3 * period):
            raise ValueError(f"must be at least three periods ({3 * period:g} s), got {value:g}")
        return value


class ControllerSection(Value):
    """The controller: where it listens, how it hands out tasks, what it keeps."""

    ip: str = _LOOPBACK
    """Where it listens: loopback, the IPv4 address of an interface, or ``*`` for all interfaces."""

    client_ip: str | None = None
    """Where it listens for clients; None: as ``ip``."""

    engine_ip: str | None = None
    """Where it listens for engines; None: as ``ip``."""

    location: str | None = Field(default=None, min_length=1)
    """The host name or address that engines and clients are told to connect to. None: this machine's
    host name, which matters only when listening on all interfaces."""

    scheduler: Literal["leastload", "lru", "plainrandom", "twobin", "weighted", "pure"] = "leastload"
    """How the load-balanced view chooses an engine. ``pure`` is ZeroMQ's own round robin: no retries, and
    nothing is noticed when an engine dies."""

    hwm: int = Field(default=1, ge=0)
    """Tasks that wait at an engine at the most, the running one included; 0: no limit."""

    ports: str | None = None
    """Fixed ports, such as ``10101-10140``; 18 are needed. None: any free ones."""

    encryption: bool = True
    """CurveZMQ between controller, engines and clients."""

    database: Literal["NoDB", "DictDB", "SQLiteDB", "MongoDB"] = "NoDB"
    """Where the hub keeps tasks and results. ``NoDB``: nowhere; ipyparallel's own default, ``DictDB``,
    keeps up to 1 GiB in memory, forgets all but the last 1024 tasks, and copies each record at each look."""

    heartbeat: Heartbeat = Heartbeat()
    """How lost engines are noticed."""

    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    """How much the controller writes to its log."""

    @field_validator("ip", "client_ip", "engine_ip")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        return None if value is None else _check_ip(value)

    @field_validator("engine_ip")
    @classmethod
    def _check_wildcards(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "ip" not in info.data or "client_ip" not in info.data:
            return value
        ip = info.data["ip"]
        client, engine = info.data["client_ip"] or ip, value or ip
        if client != engine and "*" in (client, engine):
            raise ValueError(
                f'clients at "{client}" and engines at "{engine}": a wildcard for only one of them makes '
                'ipcontroller bind its registration port twice and die ("Address already in use"); '
                'write ip = "*" alone, or two addresses'
            )
        return value

    @field_validator("ports")
    @classmethod
    def _check_ports(cls, value: str | None) -> str | None:
        if value is not None:
            share_ports(parse_ports(value))
        return value

    @property
    def client_address(self) -> str:
        """Where it listens for clients."""
        return self.client_ip or self.ip

    @property
    def engine_address(self) -> str:
        """Where it listens for engines."""
        return self.engine_ip or self.ip

    @property
    def pools(self) -> PortPools | None:
        """Its fixed ports; None: any free ones."""
        return None if self.ports is None else share_ports(parse_ports(self.ports))


class EngineGroup(Value):
    """Engines that are started alike."""

    count: Annotated[int, Field(ge=1, le=10000)] | Literal["cores", "physical"] = "cores"
    """How many: a number, ``cores`` for one per hardware thread, ``physical`` for one per core."""

    launcher: Literal["local", "ssh", "slurm", "pbs", "lsf", "sge", "htcondor", "mpi"] = "local"
    """How they are started. This version starts ``local`` ones."""

    python: str | None = Field(default=None, min_length=1)
    """The interpreter that runs them; None: the one that runs stoker."""

    work_dir: Annotated[Path | None, Field(strict=False)] = None
    """Their working directory; None: the directory in which the cluster is started."""

    env: dict[Variable, Annotated[str, BeforeValidator(_refuse_nul)]] = {}
    """Environment variables they get in addition."""

    startup: str | None = None
    """Code, or the path of a ``.py`` file, that each runs before it counts as ready. One that raises ends
    its engine."""

    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of BLAS and OpenMP in each; None: 1 where several engines share a host, else as they like."""

    @field_validator("startup")
    @classmethod
    def _check_startup(cls, value: str | None) -> str | None:
        if value is not None and not _is_file_name(value):
            try:
                compile(value, "startup", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            except SyntaxError as error:
                # Magics are code for IPython, though not for Python.
                if not any(line.lstrip().startswith(("%", "!")) for line in value.splitlines()):
                    raise ValueError(
                        f"must be Python code or the path of a .py file (line {error.lineno}: {error.msg})"
                    ) from None
        return value

    @property
    def startup_file(self) -> Path | None:
        """The file to run at the start; None where ``startup`` is code or nothing."""
        return Path(self.startup) if self.startup is not None and _is_file_name(self.startup) else None


def _is_file_name(startup: str) -> bool:
    return startup.endswith(".py") and "\n" not in startup


class IPythonSection(Value):
    """What every IPython of this profile loads: shells, kernels and engines."""

    extensions: Annotated[tuple[str, ...], Frozen] = ()
    """IPython extensions, such as ``line_profiler``."""

    exec_lines: Annotated[tuple[str, ...], Frozen] = ()
    """Lines of code that are run at the start."""


class KernelSection(Value):
    """Where a kernel of this profile listens (``ipython kernel --profile=NAME``)."""

    ip: str = _LOOPBACK
    """The address of an interface, or ``*``."""

    shell_port: Port | None = None
    """None: any free port; so for the other four."""

    iopub_port: Port | None = None
    stdin_port: Port | None = None
    control_port: Port | None = None
    hb_port: Port | None = None

    @field_validator("ip")
    @classmethod
    def _check_address(cls, value: str) -> str:
        return _check_ip(value)

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
    controller: ControllerSection = ControllerSection()
    engines: Annotated[tuple[EngineGroup, ...], Frozen, Field(min_length=1)] = (EngineGroup(),)
    ipython: IPythonSection = IPythonSection()
    kernel: KernelSection = KernelSection()
    settings: dict[SettingName, Setting] = {}
    """Any other trait of ipyparallel, IPython or ipykernel, by its own name: ``"TaskScheduler.hwm" = 2``."""

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
        controller = self.controller
        found = []
        if not controller.encryption:
            where = "on all interfaces" if "*" in (controller.client_address, controller.engine_address) else ""
            found.append(
                "encryption = false: whoever can read the traffic reads your code and data, and the key that "
                f"lets anyone run code here travels with no protection of its own {where}".rstrip()
            )
        if controller.scheduler == "pure":
            found.append(
                'scheduler = "pure": ZeroMQ hands tasks out blindly, so such a cluster cannot be healed: '
                "the tasks of an engine that dies are lost, and load balancing ends there"
            )
        return tuple(found)
