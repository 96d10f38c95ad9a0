"""Orders and reports: what an agent is told about an engine, and what it tells. Pure values that travel as JSON."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

__all__ = ["NUMBER_TAKEN", "Death", "EngineOrder", "EngineReport", "Sent"]

NUMBER_TAKEN = 75
"""Exit status of an engine whose number the hub gave to another (EX_TEMPFAIL of sysexits.h)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What travels as a JSON object. Unknown keys are ignored, so that a newer sender is understood."""

    def to_json(self) -> dict[str, Any]:
        """Give the object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the object.

        Raises:
            TypeError: A key that is needed is missing.
        """
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOrder(Sent):
    """Everything that an engine needs. It holds the cluster's key: never show it."""

    number: int
    """The number that it must get from the hub; below 0, the hub chooses one that no engine has had."""

    exact: bool = True
    """Whether it leaves where the hub gives it another number than it must get."""

    connection: Mapping[str, Any] = field(repr=False)
    """The content of the engines' connection file."""

    log: str
    """The file that gets what it prints."""

    arguments: tuple[str, ...] = ()
    """Arguments of ipengine, such as ``--profile-dir=...``."""

    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Trait values by class; they beat those of config files."""

    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables in addition to the agent's."""

    work_dir: str | None = None
    """None: the agent's."""

    setups: tuple[str, ...] = ()
    """What runs in it before it is announced, each a pickled ``Setup`` in base64."""

    fork: bool = True
    """False: an interpreter of its own."""

    silence: float | None = None
    """Seconds without a beat after which it gives its controller up, where its configuration does not say it in beats;
    None: as ipyparallel has it, 50 beats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport(Sent):
    """What an agent knows about an engine that runs. Memory is in bytes, None where the system does not tell."""

    number: int
    pid: int
    started: int
    """As of ``ProcessId``."""

    uuid: str
    """Its name for the hub; empty before it registers."""

    phase: str
    """``starting``, ``ready``, ``leaving``."""

    state: str
    """As proc_pid_stat(5) writes it."""

    seconds: float
    """Since its start."""

    busy: float
    """Seconds that the running task has taken; 0 where none runs."""

    tasks_done: int
    given: int | None = None
    """The number that the hub gave it; None before that."""

    cpu: float | None = None
    rss: int | None = None
    pss: int | None = None
    uss: int | None = None
    peak: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Death(Sent):
    """How a process ended: an engine, or, where only some of this is known, an agent or a controller."""

    number: int | None = None
    """An engine's; None for an agent and the controller."""

    pid: int | None = None
    status: int | None = None
    """Exit status, negative for a signal; None where nobody could see it."""

    ordered: bool = False
    """It was asked to leave: by its supervisor, or by a client's ``shutdown_request``."""

    frozen: bool = False
    """It was killed because it had been stopped for too long."""

    out_of_memory: bool = False
    """The kernel probably killed it for want of memory."""

    with_agent: bool = False
    """It died because its agent did."""

    with_controller: bool = False
    """It died before it was ready, and between its start and then the controller was away."""

    ready: bool = False
    """It had been ready."""

    working: bool = False
    """It died in the middle of a task."""

    tasks_done: int = 0
    seconds: float = 0.0
    """Since its start."""

    peak: int | None = None
    """The most memory it had, in bytes."""

    uuid: str = ""
    """Its name for the hub; empty where it had none."""

    given: int | None = None
    """The number that the hub gave it; None where it died before that."""

    problem: str = ""
    """Why it could not even be started."""

    last_lines: tuple[str, ...] = ()
    """The end of its log."""

    @property
    def cause(self) -> str:
        """In a few words, such as ``SIGKILL (out of memory: peak 23.8 GB)``."""
        if self.problem:
            return self.problem
        if self.with_agent:
            return "the death of its agent"
        if self.frozen:
            return "SIGKILL (it was frozen)"
        if self.out_of_memory:
            peak = "" if self.peak is None else f": peak {self.peak / 1e9:.1f} GB"
            return f"{_name_status(self.status)} (out of memory{peak})"
        return _name_status(self.status)


def _name_status(status: int | None) -> str:
    if status is None:
        return "an unknown cause"
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
