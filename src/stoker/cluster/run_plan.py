"""The plan of a run: what a supervisor needs to know of a spec. Pure values that travel as JSON, and hold no key.

The supervisor reads no spec: that would cost it a tenth of a second and half of its memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from stoker.agent.order import EngineOrder, Sent
from stoker.launch.agent_link import AgentCommand, AgentSettings
from stoker.launch.ssh import HostCommand

__all__ = ["ControllerPlan", "GroupPlan", "RunPlan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerPlan(Sent):
    """How to start the controller."""

    argv: tuple[str, ...]
    """The program and its arguments for a first start."""

    again: tuple[str, ...]
    """What is added to start it again in the place of one that died."""

    cwd: str
    log: str
    children: int
    """Child processes that a sound one has."""

    client_file: str
    engine_file: str
    """The connection files that it writes."""

    engine_state: str
    """The file in which its hub keeps which engines it knows."""

    end_note: str
    """The file that it leaves when a client orders its end."""

    lease_file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan(Sent):
    """How to start the engines of a group, those of one host."""

    agent: str
    """The name of the agent that starts them."""

    count: int | None
    """None: one for each core of its host, which is not known before."""

    arguments: tuple[str, ...]
    config: Mapping[str, Mapping[str, Any]]
    env: Mapping[str, str]
    work_dir: str | None
    fork: bool
    group: int = 0
    """The group's place in the spec: with several hosts it has several plans."""

    host: str = ""
    """The host that runs its engines; empty: this machine."""

    per: str = "cores"
    """Where ``count`` is None: for each of what, ``cores`` or ``physical``."""

    least: int | None = None
    """How many engines of the whole group must come up at a start; None: all."""

    def order(self, number: int, *, connection: Mapping[str, Any], log: str, setups: tuple[str, ...]) -> EngineOrder:
        """Give the order for one engine of the group.

        Args:
            number: The engine's.
            connection: The content of the engines' connection file, which holds keys.
            log: The file that gets what it prints.
            setups: What runs in it before it takes tasks.
        """
        return EngineOrder(
            number=number,
            connection=connection,
            log=log,
            arguments=self.arguments,
            config=self.config,
            env=self.env,
            work_dir=self.work_dir,
            setups=setups,
            fork=self.fork,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What one run of a cluster is started from."""

    run: str
    """The mark that all its processes carry in their environment."""

    name: str
    profile: str
    """The profile's directory."""

    cluster_id: str
    runtime: str
    """The runtime directory."""

    source: str
    """Where the spec came from."""

    encrypted: bool
    client_address: str
    engine_address: str
    scheduler: str
    start_timeout: float
    settings: AgentSettings
    controller: ControllerPlan
    agents: tuple[AgentCommand | HostCommand, ...]
    groups: tuple[GroupPlan, ...]

    @property
    def slots(self) -> dict[int, int]:
        """The engines of a first start: the place of its group by number."""
        places = [place for place, group in enumerate(self.groups) for _ in range(group.count or 0)]
        return dict(enumerate(places))

    @property
    def hosts(self) -> dict[str, HostCommand]:
        """The agents on other hosts, by name."""
        return {agent.name: agent for agent in self.agents if isinstance(agent, HostCommand)}

    def agent(self, name: str) -> AgentCommand | HostCommand:
        """Give an agent by its name."""
        return next(agent for agent in self.agents if agent.name == name)

    def having_counts(self, counts: Mapping[int, int]) -> RunPlan:
        """Give the plan with groups of so many engines, by place."""
        groups = [replace(group, count=counts.get(place, group.count)) for place, group in enumerate(self.groups)]
        return replace(self, groups=tuple(groups))

    @property
    def control_socket(self) -> Path:
        """Where the supervisor answers."""
        return Path(self.runtime) / "control.sock"

    @property
    def supervisor_log(self) -> Path:
        """Name the file that gets what the supervisor prints."""
        stem = f"supervisor-{self.cluster_id}" if self.cluster_id else "supervisor"
        return Path(self.profile) / "log" / f"{stem}.log"

    def engine_log(self, number: int) -> Path:
        """Name the file that gets what an engine prints."""
        stem = f"ipengine-{self.cluster_id}" if self.cluster_id else "ipengine"
        return Path(self.profile) / "log" / f"{stem}-{number}.log"

    def with_patience_of(self, other: RunPlan) -> RunPlan:
        """Give the plan with engines that wait for their controller as long as those of another plan."""
        patience = other.groups[0].config.get("IPEngine", {}).get("max_heartbeat_misses")
        groups = tuple(
            replace(
                group,
                config={**group.config, "IPEngine": {**group.config["IPEngine"], "max_heartbeat_misses": patience}},
            )
            for group in self.groups
        )
        return self if patience is None else replace(self, groups=groups)

    def to_json(self) -> dict[str, Any]:
        """Give the plan as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read a plan that ``to_json`` has given."""
        parts = {
            "settings": AgentSettings(**data["settings"]),
            "controller": _tuples(ControllerPlan, data["controller"]),
            "agents": tuple(
                HostCommand(**agent) if "address" in agent else AgentCommand(**agent) for agent in data["agents"]
            ),
            "groups": tuple(_tuples(GroupPlan, group) for group in data["groups"]),
        }
        return cls(**{**data, **parts})


def _tuples(kind: type[Any], data: Mapping[str, Any]) -> Any:
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in data.items()})
