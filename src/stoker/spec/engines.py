"""The engines' part of a spec: groups of engines that are started alike, on this machine or through others."""

from __future__ import annotations

import ast
import collections
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from stoker.spec.hosts import expand_hosts
from stoker.spec.value import Frozen, Value, Variable, VariableText

__all__ = ["BATCH_SYSTEMS", "Count", "EngineGroup", "Host", "list_launchers"]

BATCH_SYSTEMS = ("slurm", "pbs", "lsf", "sge")
"""Launchers that submit one job for all engines of a group."""

_REFUSED = {
    "winhpc": "away from Windows, ipcluster hangs with it until it is killed",
    "htcondor": "ipyparallel's job for it passes no environment on, so its engines look for another controller",
    "sshproxy": 'it needs a profile that was prepared on the host; "ssh" needs none',
    "batch": "it is what the batch systems have in common; name yours",
}

# The keys that mean something to some launchers only.
_KEYS = {
    "fork": ("local", "ssh"),
    "hosts": ("ssh",),
    "ssh_options": ("ssh",),
    "ssh_config": ("ssh",),
    "tunnel": ("ssh",),
    "location": ("ssh",),
    "min_engines": ("ssh",),
    "partition": ("slurm",),
    "account": ("slurm",),
    "qos": ("slurm",),
    "time_limit": ("slurm",),
    "queue": ("pbs", "lsf", "sge"),
    "directives": BATCH_SYSTEMS,
    "mpi_cmd": ("mpi",),
    "mpi_args": ("mpi",),
}
_SAME = {("queue", "slurm"): "partition", **{("partition", name): "queue" for name in ("pbs", "lsf", "sge")}}

_PREFIXES = ("#SBATCH", "#PBS", "#BSUB", "#$")
# What a directive must not say, because a key or stoker says it.
_DIRECTIVES: Mapping[str, Mapping[str, str]] = {
    "slurm": {
        **dict.fromkeys(("--partition", "-p"), "partition"),
        **dict.fromkeys(("--account", "-A"), "account"),
        **dict.fromkeys(("--qos", "-q"), "qos"),
        **dict.fromkeys(("--time", "-t"), "time_limit"),
        **dict.fromkeys(("--ntasks", "-n"), "count"),
    },
    "pbs": {"-q": "queue", "-t": "count"},
    "lsf": {"-q": "queue", "-J": "count"},
    "sge": {"-q": "queue", "-t": "count"},
}


def list_launchers(key: str) -> tuple[str, ...]:
    """Give the launchers to which a key of a group belongs; empty: to all."""
    return _KEYS.get(key, ())


def _check_launcher(value: object) -> object:
    if isinstance(value, str) and (reason := _REFUSED.get(value.lower())) is not None:
        raise ValueError(f'"{value}" is refused: {reason}')
    return value


def _check_word(value: str) -> str:
    if not value or any(letter.isspace() or not letter.isprintable() for letter in value):
        raise ValueError(f'must be one word, got "{value}"')
    return value


def _check_line(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError(f'must be one line of text, got "{value}"')
    return value


def _check_option(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", value):
        raise ValueError('must be a keyword of ssh_config(5), such as "ProxyJump"')
    if value.lower() in ("port", "user", "hostname"):
        raise ValueError('is said in hosts, as in "me@gpu:2222"')
    return value


def _check_options(value: dict[str, str]) -> dict[str, str]:
    for name, setting in value.items():
        if name.lower() == "stricthostkeychecking" and setting.lower() in ("no", "off"):
            raise ValueError(
                f'"{name}" is never "{setting}": somebody in between would get all that you send; '
                '"accept-new" takes the key of a host that was never seen'
            )
    return value


Count = Annotated[int, Field(ge=1, le=10000)] | Literal["cores", "physical"]
_Word = Annotated[str, AfterValidator(_check_word)]
_Line = Annotated[str, AfterValidator(_check_line)]
_Options = Annotated[
    dict[Annotated[str, AfterValidator(_check_option)], Annotated[_Line, VariableText]], AfterValidator(_check_options)
]


class Host(Value):
    """One host, or a set of hosts, on which a group runs engines."""

    name: str
    """A host, as ``me@gpu:2222``, or a set of them, as ``node[1-20]``."""

    count: Count | None = None
    """How many engines on each. Default: as the group says."""

    python: str | None = Field(default=None, min_length=1)
    """The interpreter that runs them there. Default: as the group says."""

    work_dir: Annotated[Path | None, Field(strict=False)] = None
    """Their working directory there. Default: as the group says."""

    env: dict[Variable, VariableText] = Field(default={})
    """Environment variables they get beyond the group's."""

    startup: str | None = None
    """Code, or the path of a ``.py`` file, that each runs first. Default: as the group says."""

    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of BLAS and OpenMP in each. Default: as the group says."""

    ssh_options: _Options = Field(default={})
    """Options of ssh_config(5), beyond the group's."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        expand_hosts(value)
        return value

    @model_validator(mode="before")
    @classmethod
    def _read_text(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _write_text(self, handler: SerializerFunctionWrapHandler) -> Any:
        return self.name if self.model_fields_set <= {"name"} else handler(self)

    @property
    def names(self) -> tuple[str, ...]:
        """Every single host."""
        return expand_hosts(self.name)

    @property
    def startup_file(self) -> Path | None:
        """The file to run at the start; None where ``startup`` is code, or as the group says."""
        return _find_file(self.startup)


class EngineGroup(Value):
    """Engines that are started alike."""

    launcher: Annotated[
        Literal["local", "ssh", "slurm", "pbs", "lsf", "sge", "mpi"], BeforeValidator(_check_launcher)
    ] = "local"
    """How they are started: on this machine, on ``hosts`` over SSH, as a job of a batch system, or by
    ``mpiexec``. ``stoker up`` of this version starts ``local`` and ``ssh`` ones, plain ``ipcluster start`` all."""

    count: Count = "cores"
    """How many, and with ``ssh`` how many on each host: a number, ``cores`` for one per hardware thread,
    ``physical`` for one per core. Batch systems need a number."""

    python: str | None = Field(default=None, min_length=1, examples=["python3"])
    """The interpreter that runs them. Default: the one that runs stoker; with ``ssh``, the hosts' ``python3``."""

    work_dir: Annotated[Path | None, Field(strict=False, examples=["/tmp"])] = None  # noqa: S108 - an example
    """Their working directory; with ``ssh``, one on the hosts. Default: where the cluster is started; with
    ``ssh``, the home directory there."""

    env: dict[Variable, VariableText] = Field(default={}, examples=[{"DATA": "/data"}])
    """Environment variables they get in addition."""

    startup: str | None = Field(default=None, examples=["import math"])
    """Code, or the path of a ``.py`` file, that each runs before it counts as ready. One that raises ends
    its engine."""

    threads: Annotated[int, Field(ge=1)] | None = Field(default=None, examples=[1])
    """Threads of BLAS and OpenMP in each. Default: 1 where several engines share a host, else as they like."""

    fork: bool = True
    """Whether those of a host are forked from one interpreter. ``false``: each is an interpreter of its own,
    slower and with more memory, for code that does not stand forking."""

    hosts: Annotated[tuple[Host, ...], Frozen] = Field(
        default=(), examples=[["node[1-2]", {"name": "me@gpu:2222", "count": 4, "python": "env/bin/python"}]]
    )
    """Where they run. A table says what differs on its host: ``count``, ``python``, ``work_dir``, ``env``,
    ``startup``, ``threads``, ``ssh_options``; ``node[1-20]`` is a set."""

    ssh_options: _Options = Field(default={}, examples=[{"ProxyJump": "gate"}])
    """Options of ssh_config(5), beyond what ~/.ssh/config says."""

    ssh_config: Annotated[Path | None, Field(strict=False, examples=["lab/ssh_config"])] = None
    """A file in place of ~/.ssh/config and the system's."""

    tunnel: bool | None = Field(default=None, examples=[True])
    """Whether engines reach the controller through the ssh connection, so that no port of this machine need be
    open. Default: where they cannot reach it directly."""

    location: str | None = Field(default=None, min_length=1, examples=["10.0.0.1"])
    """The address at which engines there reach the controller. Default: it is found out."""

    min_engines: Annotated[int, Field(ge=0)] | None = Field(default=None, examples=[1])
    """How many engines of the group must come up at a start; with fewer, the whole cluster is taken down again.
    Hosts that fail are tried again later. Default: all."""

    partition: _Word | None = Field(default=None, examples=["compute"])
    """Slurm's partition."""

    account: _Word | None = Field(default=None, examples=["lab"])
    """Slurm's account."""

    qos: _Word | None = Field(default=None, examples=["normal"])
    """Slurm's quality of service."""

    time_limit: str | None = Field(default=None, examples=["01:30:00"])
    """Slurm's limit of the job's run time: minutes, ``[HOURS:]MINUTES:SECONDS``, or with ``DAYS-`` in front."""

    queue: _Word | None = Field(default=None, examples=["batch"])
    """The queue of PBS, LSF or SGE."""

    directives: Annotated[tuple[_Line, ...], Frozen] = Field(default=(), examples=[["--mem=4G"]])
    """More lines for the head of the job's script, without ``#SBATCH`` or its like."""

    mpi_cmd: Annotated[tuple[_Line, ...], Frozen, Field(min_length=1)] = ("mpiexec",)
    """The command that starts MPI programs; ``-n`` and the number are added."""

    mpi_args: Annotated[tuple[_Line, ...], Frozen] = Field(default=(), examples=[["--oversubscribe"]])
    """More arguments for it."""

    @field_validator("count")
    @classmethod
    def _check_count(cls, value: int | str, info: ValidationInfo) -> int | str:
        launcher = info.data.get("launcher")
        if launcher in BATCH_SYSTEMS and isinstance(value, str):
            raise ValueError(
                f'must be given as a number with launcher "{launcher}", whose machines are not known before; '
                f'got "{value}"'
            )
        return value

    @field_validator(*_KEYS)
    @classmethod
    def _check_owner(cls, value: object, info: ValidationInfo) -> object:
        launcher, key = info.data.get("launcher"), info.field_name
        assert key is not None
        owners = _KEYS[key]
        if launcher is None or launcher in owners or value == cls.model_fields[key].default:
            return value
        same = _SAME.get((key, launcher))
        hint = "" if same is None else f"; did you mean '{same}'?"
        raise ValueError(f'belongs to launcher {_join(owners)}, this group has "{launcher}"{hint}')

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[Host, ...], info: ValidationInfo) -> tuple[Host, ...]:
        if info.data.get("launcher") == "ssh" and not value:
            raise ValueError('must be given with launcher "ssh": hosts = ["node1", "me@gpu:2222"]')
        for name, times in collections.Counter(name for host in value for name in host.names).items():
            if times > 1:
                raise ValueError(f'names "{name}" twice')
        return value

    @field_validator("time_limit")
    @classmethod
    def _check_time(cls, value: str | None) -> str | None:
        # sbatch(1), --time.
        if value is not None and not re.fullmatch(r"([0-9]+-[0-9]+(:[0-9]+){0,2}|[0-9]+(:[0-9]+){0,2})", value):
            raise ValueError(f'must be minutes, or such as "01:30:00" or "2-12:00:00", got "{value}"')
        return value

    @field_validator("directives")
    @classmethod
    def _check_directives(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        known = _DIRECTIVES.get(info.data.get("launcher", ""), {})
        for line in value:
            if line.startswith(_PREFIXES):
                raise ValueError(f'must be written without "{line.split()[0]}", got "{line}"')
            option = re.split(r"[\s=]", line.strip(), maxsplit=1)[0]
            if option in known:
                raise ValueError(f'"{option}" has a key of its own: {known[option]}')
        return value

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

    def on_host(self, host: Host) -> EngineGroup:
        """Give the group as it is on one of its hosts."""
        given = {name: getattr(host, name) for name in ("count", "python", "work_dir", "startup", "threads")}
        changes = {name: value for name, value in given.items() if value is not None}
        merged = {"env": {**self.env, **host.env}, "ssh_options": {**self.ssh_options, **host.ssh_options}}
        return self.model_copy(update={**changes, **merged})

    @property
    def startup_file(self) -> Path | None:
        """The file to run at the start; None where ``startup`` is code or nothing."""
        return _find_file(self.startup)


def _find_file(startup: str | None) -> Path | None:
    return Path(startup) if startup is not None and _is_file_name(startup) else None


def _is_file_name(startup: str) -> bool:
    return startup.endswith(".py") and "\n" not in startup


def _join(names: tuple[str, ...]) -> str:
    quoted = [f'"{name}"' for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
