"""The record on disk of what runs: enough to find every process of a cluster again after any death."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from stoker.launch import RUN_VARIABLE, ConnectionFiles, cluster_file
from stoker.profile import ProfileDirectory
from stoker.system.files import find_staged, read_or_none, remove_file, write_file
from stoker.system.processes import ProcessId, find_marked

__all__ = [
    "EngineRecord",
    "Record",
    "read_record",
    "record_file",
    "record_files",
    "remove_traces",
    "write_record",
]

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecord:
    """One engine that was started."""

    number: int
    """The number under which the hub knows it."""

    group: int
    """Its group's place in the spec."""

    process: ProcessId
    log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run of a cluster."""

    cluster_id: str
    run: str
    """The mark that all its processes carry in their environment."""

    state: Literal["starting", "running"]
    source: str
    """Where its spec came from."""

    encrypted: bool
    client_address: str
    engine_address: str
    scheduler: str
    controller: ProcessId | None = None
    """None: not started yet."""

    controller_log: str = ""
    engines: tuple[EngineRecord, ...] = field(default=())

    def processes(self) -> tuple[ProcessId, ...]:
        """Look for the processes of this run that are still there."""
        leaders = [engine.process for engine in self.engines]
        if self.controller is not None:
            leaders.append(self.controller)
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


def read_record(path: Path) -> Record | None:
    """Read a record; None where there is none, or one that another version of stoker wrote."""
    try:
        data = json.loads(read_or_none(path) or b"null")
    except ValueError:
        return None
    # Other rooms keep files of theirs beside it.
    if not isinstance(data, dict) or data.pop("format", None) != _FORMAT or "run" not in data:
        return None
    controller = data.pop("controller")
    engines = data.pop("engines")
    return Record(
        **data,
        controller=None if controller is None else ProcessId(**controller),
        engines=tuple(_parse_engine(engine) for engine in engines),
    )


def write_record(directory: ProfileDirectory, record: Record) -> None:
    """Write a record, readable by its owner alone."""
    data = {"format": _FORMAT, **asdict(record)}
    write_file(record_file(directory, record.cluster_id), json.dumps(data, indent=1).encode())


def remove_traces(directory: ProfileDirectory, cluster_id: str) -> None:
    """Remove what only a running cluster leaves on disk: connection files, cluster file, record."""
    files = ConnectionFiles.of(directory, cluster_id)
    files.remove()
    for file in (files.handover, cluster_file(directory, cluster_id), record_file(directory, cluster_id)):
        remove_file(file)
        # Half-written ones of a process that was killed; that of the connection file holds a key.
        for staged in find_staged(file.parent):
            if staged.name.startswith(f".{file.name}."):
                remove_file(staged)


def _parse_engine(data: Mapping[str, Any]) -> EngineRecord:
    return EngineRecord(**{**data, "process": ProcessId(**data["process"])})
