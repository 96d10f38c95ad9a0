"""The record on disk of what runs: enough to find every process of a cluster again, and to keep it, after any death."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from stoker.cluster.run_plan import RunPlan
from stoker.launch.cluster_file import cluster_file
from stoker.launch.connection import ConnectionFiles
from stoker.launch.marks import RUN_VARIABLE
from stoker.profile.directory import ProfileDirectory
from stoker.system.files import find_staged, read_or_none, remove_file, write_file
from stoker.system.processes import ProcessId, find_marked
from stoker.system.runtime import remove_runtime_directory, runtime_directory

__all__ = [
    "EngineRecord",
    "Record",
    "name_runtime_directory",
    "read_record",
    "record_file",
    "record_files",
    "remove_traces",
    "write_record",
]

_FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecord:
    """One engine that was started."""

    number: int
    """The number under which the hub knows it."""

    group: int
    """Its group's place in the spec."""

    process: ProcessId
    log: str
    host: str = ""
    """Where its process runs; empty: on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run of a cluster."""

    state: Literal["starting", "running"]
    plan: RunPlan
    supervisor: ProcessId | None = None
    controller: ProcessId | None = None
    """None: not started yet, or dead."""

    agents: Mapping[str, ProcessId] = field(default_factory=dict)
    """By name."""

    engines: tuple[EngineRecord, ...] = ()
    """Those that ran when this was written."""

    slots: Mapping[int, int] = field(default_factory=dict)
    """What is wanted: the place of its group by engine number."""

    setups: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What runs in every new engine, by name."""

    history: Mapping[str, Any] = field(default_factory=lambda: {"events": [], "deaths": {}, "given_up": {}})

    @property
    def run(self) -> str:
        """The mark that all its processes carry in their environment."""
        return self.plan.run

    @property
    def cluster_id(self) -> str:
        """The cluster's id."""
        return self.plan.cluster_id

    def processes(self) -> tuple[ProcessId, ...]:
        """Look for the processes of this run that are still there."""
        leaders = [engine.process for engine in self.engines if not engine.host]
        leaders += [each for each in (self.supervisor, self.controller, *self.agents.values()) if each is not None]
        return find_marked(RUN_VARIABLE, self.run, groups=leaders)

    def having(self, **changes: Any) -> Self:
        """Give a copy with some fields changed."""
        return replace(self, **changes)


def record_file(directory: ProfileDirectory, cluster_id: str) -> Path:
    """Name the record of a cluster."""
    return directory.pid / (f"stoker-{cluster_id}.json" if cluster_id else "stoker.json")


def record_files(directory: ProfileDirectory) -> Iterator[Path]:
    """Name the records in a profile."""
    return iter(sorted(directory.pid.glob("stoker*.json")))


def name_runtime_directory(directory: ProfileDirectory, cluster_id: str) -> Path:
    """Name the runtime directory of a cluster."""
    return runtime_directory(f"{directory.path.absolute()}:{cluster_id}")


def read_record(path: Path) -> Record | None:
    """Read a record; None where there is none, or one that another version of stoker wrote."""
    try:
        data = json.loads(read_or_none(path) or b"null")
    except ValueError:
        return None
    # Other rooms keep files of theirs beside it.
    if not isinstance(data, dict) or data.pop("format", None) != _FORMAT or "plan" not in data:
        return None
    return Record(
        state=data["state"],
        plan=RunPlan.from_json(data["plan"]),
        supervisor=_parse_process(data["supervisor"]),
        controller=_parse_process(data["controller"]),
        agents={name: ProcessId(**process) for name, process in data["agents"].items()},
        engines=tuple(EngineRecord(**{**each, "process": ProcessId(**each["process"])}) for each in data["engines"]),
        slots={int(number): place for number, place in data["slots"].items()},
        setups=data["setups"],
        history=data["history"],
    )


def write_record(directory: ProfileDirectory, record: Record) -> None:
    """Write a record, readable by its owner alone."""
    data = {"format": _FORMAT, **asdict(record)}
    write_file(record_file(directory, record.cluster_id), json.dumps(data, indent=1).encode())


def remove_traces(directory: ProfileDirectory, cluster_id: str) -> None:
    """Remove what only a running cluster leaves on disk: connection files, cluster file, sockets, record."""
    files = ConnectionFiles.of(directory, cluster_id)
    record = read_record(record_file(directory, cluster_id))
    files.remove()
    remove_runtime_directory(name_runtime_directory(directory, cluster_id))
    others = [cluster_file(directory, cluster_id), record_file(directory, cluster_id)]
    if record is not None:
        # Of a user who had another environment then.
        remove_runtime_directory(Path(record.plan.runtime))
        others.append(Path(record.plan.controller.engine_state))
    for file in (files.client, files.engine, files.keys, *others):
        remove_file(file)
        # Half-written ones of a process that was killed; those of connections and keys hold keys.
        for staged in find_staged(file.parent):
            if staged.name.startswith(f".{file.name}."):
                remove_file(staged)


def _parse_process(data: Mapping[str, Any] | None) -> ProcessId | None:
    return None if data is None else ProcessId(**data)
