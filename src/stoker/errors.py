"""The errors of stoker.

Each says where, what, and the next step, and carries its parts as attributes::

    StokerError
    ├── SpecError           a spec, or a setting in it, is faulty: all its faults at once
    ├── ProfileError        a profile directory or a file in it cannot be read or written
    ├── UnknownTargetError  neither a spec nor a profile that a spec was applied to
    ├── NotRunningError     no cluster, or no single one, runs where one was asked for
    ├── RunningError        a cluster runs where none may
    ├── ConflictError       what a user wrote would be lost
    ├── BusyError           another process is starting or stopping the same cluster
    ├── StartError          a start failed: at which stage, with the last lines of the log concerned
    ├── StopError           processes that could not be ended
    ├── ConnectError        a running cluster does not answer
    ├── BundleError         a file that engines join a cluster with is none, or cannot be read or written
    ├── HostError           a host did not come up: at which stage, the likely cause, what to do
    ├── HostGoneError       the agent that was to be found again on a host has ended
    ├── SupervisorError     a cluster's supervisor does not answer, or refuses what was asked of it
    ├── QueueError          a job queue cannot be served or reached, or refuses what was asked
    ├── JobError            a job of a queue gave no value
    ├── ItemError           an item of a map failed with an exception that cannot be built again here
    ├── ItemTimeoutError    an item of a map took longer than it may (a TimeoutError, too)
    ├── EngineDiedError     an item of a map was given up: engines died of it, or while they ran it
    ├── NoEnginesError      a map waited too long for an engine
    ├── JournalError        a journal of a map is of another call, is in use, or cannot be read or written
    ├── DeadlockError       what would be waited for can only come after whoever waits (a RuntimeError, too)
    └── UnfinishedError     a workload did not finish within its time
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "BundleError",
    "BusyError",
    "ConflictError",
    "ConnectError",
    "DeadlockError",
    "EngineDiedError",
    "Fault",
    "HostError",
    "HostFault",
    "HostGoneError",
    "ItemError",
    "ItemTimeoutError",
    "JobError",
    "JournalError",
    "NoEnginesError",
    "NotRunningError",
    "ProfileError",
    "QueueError",
    "RunningError",
    "SpecError",
    "StartError",
    "StokerError",
    "StopError",
    "SupervisorError",
    "UnfinishedError",
    "UnknownTargetError",
]


class StokerError(Exception):
    """The base of every error that stoker raises on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong in a spec."""

    source: str
    """The file, or the words that name where the values came from."""

    key: str
    """The dotted key, such as ``engines[1].count``; empty where the whole file is meant."""

    problem: str
    """What is wrong, and what would be right."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.source, self.key, self.problem) if part)


class SpecError(StokerError):
    """A spec is faulty. Nothing was started or written."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class ProfileError(StokerError):
    """A file or directory of a profile cannot be read or written."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


class UnknownTargetError(StokerError):
    """What was named is neither a spec file nor a profile that a spec was applied to."""

    def __init__(self, target: str, problem: str) -> None:
        self.target = target
        super().__init__(f"{target}: {problem}")


class NotRunningError(StokerError):
    """No cluster, or more than one, runs where exactly one was asked for."""

    def __init__(self, message: str, *, running: Sequence[str] = ()) -> None:
        self.running = tuple(running)
        super().__init__(message)


class RunningError(StokerError):
    """A cluster runs where what was asked for needs it down."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{name}: this cluster runs; end it first: stoker down {name}")


class ConflictError(StokerError):
    """What was asked for would lose lines that a user wrote."""

    def __init__(self, conflicts: Sequence[str], *, remedy: str) -> None:
        self.conflicts = tuple(conflicts)
        super().__init__("\n".join([*self.conflicts, remedy]))


class BusyError(StokerError):
    """Another process is starting or stopping the same cluster."""

    def __init__(self, path: Path, *, holder: str, waited: float) -> None:
        self.path = path
        self.holder = holder
        self.waited = waited
        super().__init__(
            f"{path.parent.parent.name}: {holder} is starting or stopping this cluster "
            f"(waited {waited:.0f} s); try again when it has finished"
        )


class StartError(StokerError):
    """A start failed. What had been started was ended again."""

    def __init__(self, stage: str, problem: str, *, log: Path | None = None, lines: Sequence[str] = ()) -> None:
        self.stage = stage
        self.problem = problem
        self.log = log
        self.lines = tuple(lines)
        text = f"{stage}: {problem}"
        if log is not None:
            text += f"\n  from {log}:" if lines else f"\n  its log {log} is empty"
        super().__init__("\n".join([text, *(f"    {line}" for line in self.lines)]))


class StopError(StokerError):
    """Processes of a cluster could not be ended."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.pids = tuple(pids)
        numbers = ", ".join(str(pid) for pid in self.pids)
        super().__init__(f"these processes outlived SIGKILL (stuck in the kernel, or not ours): {numbers}")


class ConnectError(StokerError):
    """A cluster that should be there does not answer."""


class BundleError(StokerError):
    """A file that engines join a cluster with is none, or cannot be read or written."""

    def __init__(self, source: str, problem: str) -> None:
        self.source = source
        self.problem = problem
        super().__init__(f"{source}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFault:
    """Why a host did not come up, as a user can act on it."""

    host: str
    """As the spec names it."""

    stage: str
    """The one that it did not get through."""

    cause: str
    """What is likely wrong."""

    step: str
    """What to do next."""

    lines: tuple[str, ...]
    """What was heard from there."""

    def __str__(self) -> str:
        return f"{self.host}: {self.stage}: {self.cause}; {self.step}"


class HostError(StokerError):
    """A host did not come up."""

    def __init__(self, explanation: HostFault) -> None:
        self.explanation = explanation
        super().__init__("\n".join([str(explanation), *(f"    {line}" for line in explanation.lines)]))


class HostGoneError(StokerError):
    """The agent that was to be found again on a host has ended."""


class SupervisorError(StokerError):
    """A cluster's supervisor does not answer, or refuses what was asked of it."""


class QueueError(StokerError):
    """A job queue cannot be served or reached, or refuses what was asked of it."""


class JobError(StokerError):
    """A job of a queue was given up, or raised what cannot be had here."""

    def __init__(self, number: int, function: str, problem: str) -> None:
        self.number = number
        self.function = function
        self.problem = problem
        super().__init__(f"job {number} ({function}): {problem}")


class UnfinishedError(StokerError):
    """A workload did not finish within its time. What had not started was asked to stay undone."""

    def __init__(self, workload: str, via: str, *, done: int, items: int, timeout: float) -> None:
        self.workload = workload
        self.via = via
        self.done = done
        self.items = items
        self.timeout = timeout
        where = "were done" if via == "serial" else "had come home"
        super().__init__(
            f"{workload} via {via}: {done} of {items} items {where} when the {timeout:g} s were over; "
            "allow more time, or do less"
        )


class ItemError(StokerError):
    """An item of a map failed with an exception that cannot be built again here: its class is missing, for instance."""

    def __init__(self, ename: str, text: str) -> None:
        self.ename = ename
        """The name of its class."""
        self.text = text
        super().__init__(text)

    def __reduce__(self) -> tuple[type[ItemError], tuple[str, str], dict[str, object]]:
        return type(self), (self.ename, self.text), self.__dict__


class ItemTimeoutError(StokerError, TimeoutError):
    """An item of a map took longer than it may."""


class EngineDiedError(StokerError):
    """An item of a map was given up, because each engine that ran it died."""

    def __init__(self, problem: str, *, cause: str = "") -> None:
        self.cause = cause
        """What the last of them died of; empty where nobody knows."""
        super().__init__(problem)


class NoEnginesError(StokerError):
    """A map waited too long for an engine; what had come home is lost unless an iterator or a journal has it."""


class JournalError(StokerError):
    """A journal of a map is of another call, is in use, or cannot be read or written. What is in it is safe."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


class DeadlockError(StokerError, RuntimeError):
    """What would be waited for can only come after whoever waits for it."""
