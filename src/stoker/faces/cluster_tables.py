"""A cluster as tables: how it is, process by process, and what a start or a change has done."""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stoker.cluster import AgentStatus, ClusterStatus, EngineStatus, ProcessStatus, Started
from stoker.faces.grids import make_grid, make_table

__all__ = ["render_started", "render_status"]

_STATES = {
    "running": "green",
    "ready": "green",
    "starting": "yellow",
    "draining": "yellow",
    "stopping": "yellow",
    "away": "bold red",
    "degraded": "yellow",
    "unsupervised": "bold red",
    "broken": "bold red",
    "silent": "bold red",
    "absent": "bold red",
    "given up": "bold red",
}
_EVENTS = 5


def render_started(value: Started) -> RenderableType:
    """Render what ``up`` did."""
    address, plan = value.address, value.record.plan
    count = len(value.record.engines)
    if not value.new:
        engines = f"{count} engine{'' if count == 1 else 's'}"
        done = "; ".join(value.changes) if value.changes else "nothing was changed"
        return Text(f"{address.name} runs already, with {engines}; {done}")
    table = make_grid()
    table.add_row("cluster", f"{address.name}, up in {value.seconds:.1f} s")
    table.add_row("controller", f"{_where(plan.client_address, plan.engine_address)}, {plan.scheduler}")
    table.add_row("", _encryption(plan.encrypted))
    if value.open_ports:
        table.add_row("open ports", f"{', '.join(map(str, value.open_ports))}: other machines can reach them")
    table.add_row("engines", f"{_say_where(value)}, {_say_birth(value)}")
    for name, hindrance in value.hindrances.items():
        table.add_row("", f"agent {name} cannot fork: {hindrance}")
    supervisor = value.record.supervisor
    pid = "" if supervisor is None else f" (process {supervisor.pid})"
    table.add_row("kept by", f"its supervisor{pid}: what dies is started again")
    table.add_row("logs", str(address.directory.log))
    for line in _connect_lines(address.directory.name, address.cluster_id):
        table.add_row("connect", line)
    table.add_row("end it", f"stoker down {address.name}")
    return table


def _say_where(value: Started) -> str:
    counts = collections.Counter(engine.host for engine in value.record.engines)
    if set(counts) <= {""}:
        return f"{counts.total()} on this machine"
    places = ", ".join(f"{count} on {host or 'this machine'}" for host, count in counts.items())
    return f"{counts.total()}: {places}" if len(counts) > 1 else places


def _say_birth(value: Started) -> str:
    groups = value.record.plan.groups
    forked = [group.fork and group.agent not in value.hindrances for group in groups]
    if all(forked):
        return "forked by the agent" if len({group.agent for group in groups}) == 1 else "forked by the agents"
    return "some forked, some interpreters of their own" if any(forked) else "each an interpreter of its own"


def render_status(value: ClusterStatus) -> RenderableType:
    """Render how a cluster is."""
    head = make_grid()
    head.add_row("cluster", f"{value.name} in {value.directory}")
    head.add_row("state", Text(value.state, style=_STATES.get(value.state, "")))
    if value.detail:
        head.add_row("", value.detail)
    if value.state in ("stopped", "foreign"):
        return head
    head.add_row("controller", f"{_where(value.client_address, value.engine_address)}, {value.scheduler}")
    head.add_row("", _encryption(value.encrypted))
    parts: list[RenderableType] = [head, _render_processes(value)]
    logs = make_grid()
    for line in (*_list_hindrances(value.agents), *_list_ways(value.agents), *_list_joined(value.joined)):
        logs.add_row("note", line)
    for event in value.events[-_EVENTS:]:
        logs.add_row("event", event)
    if logs.row_count:
        parts.append(logs)
    return Group(*parts)


def _render_processes(value: ClusterStatus) -> Table:
    # A machine that has them all needs no column.
    away = any(agent.host for agent in value.agents)

    def place(process: str, host: str = "") -> tuple[str, ...]:
        return (process, host) if away else (process,)

    columns = ("pid", "state", "since", "memory", "CPU", "tasks", "restarts", "last death")
    table = make_table(*place("process", "host"), *columns)
    if value.supervisor is not None:
        _add(table, place("supervisor"), value.supervisor, "silent" if value.state == "broken" else "running")
    else:
        table.add_row(*place("supervisor"), "", Text("absent", style=_STATES["absent"]))
    if value.controller is not None:
        _add(table, place("controller"), value.controller, "running" if value.controller.pid else "absent")
    for agent in value.agents:
        _add(table, place(f"agent {agent.name}", agent.host), agent, agent.phase)
    for engine in value.engines:
        name = place(f"engine {engine.number}", engine.host)
        _add(table, name, engine, _say_state(engine), tasks=str(engine.tasks_done))
    return table


def _add(table: Table, name: tuple[str, ...], process: ProcessStatus, state: str, *, tasks: str = "") -> None:
    style = _STATES.get(state.partition(",")[0], "")
    death = process.given_up and f"stays down: {process.given_up}"
    if not death and process.last_death is not None:
        death = f"{process.last_death.cause}, {_age(time.time() - process.last_death.at)} ago"
    table.add_row(
        *name,
        "" if process.pid is None else str(process.pid),
        Text(state, style=style),
        _age(process.seconds),
        _size(process.memory),
        "" if process.cpu is None else f"{process.cpu:.1f} s",
        tasks,
        str(process.restarts) if process.restarts else "",
        death,
    )


def _say_state(engine: EngineStatus) -> str:
    return f"{engine.state}, busy {_age(engine.busy)}" if engine.busy >= 1 else engine.state


def _list_hindrances(agents: tuple[AgentStatus, ...]) -> Iterator[str]:
    for agent in agents:
        if agent.hindrance:
            yield f"the engines of agent {agent.name} are interpreters of their own: {agent.hindrance}"


def _list_ways(agents: tuple[AgentStatus, ...]) -> Iterator[str]:
    ways: dict[str, list[str]] = {}
    for agent in agents:
        if agent.way:
            ways.setdefault(agent.way, []).append(agent.host)
    for way, hosts in ways.items():
        there = "through their ssh connections" if way == "tunnel" else f"at {way}"
        yield f"engines on {', '.join(hosts)} reach the controller {there}"


def _list_joined(numbers: tuple[int, ...]) -> Iterator[str]:
    if numbers:
        which = f"engine {numbers[0]} has" if len(numbers) == 1 else f"engines {', '.join(map(str, numbers))} have"
        yield f"{which} joined from elsewhere"


def _encryption(encrypted: bool | None) -> str | Text:
    return "encrypted (CurveZMQ)" if encrypted else Text("not encrypted", style="bold red")


def _where(client: str, engine: str) -> str:
    named = [("all interfaces" if address == "*" else address) for address in (client, engine)]
    return named[0] if named[0] == named[1] else f"{named[0]} for clients, {named[1]} for engines"


def _connect_lines(profile: str, cluster_id: str) -> tuple[str, str]:
    more = f', cluster_id="{cluster_id}"' if cluster_id else ""
    name = f"{profile}:{cluster_id}" if cluster_id else profile
    return f'stoker.connect("{name}")', f'ipyparallel.Client(profile="{profile}"{more})'


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _size(number: int | None) -> str:
    if number is None:
        return ""
    return f"{number / 1e6:.0f} MB" if number < 1e9 else f"{number / 1e9:.1f} GB"
