"""How a cluster is: every process of it, what it has done, who died of what, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stoker.cluster.history import History
from stoker.cluster.record import EngineRecord, Record, read_record, record_file
from stoker.cluster.target import Address, find_running
from stoker.errors import SupervisorError
from stoker.launch import ConnectionFiles, is_listening, read_connection
from stoker.launch.agent_link import AgentCommand
from stoker.launch.ssh import HostCommand
from stoker.launch.supervisor_line import ask_supervisor
from stoker.system.processes import ProcessId, is_running, list_children, read_age
from stoker.system.usage import Usage, read_usage

__all__ = [
    "AgentStatus",
    "ClusterStatus",
    "DeathStatus",
    "EngineStatus",
    "ProcessStatus",
    "State",
    "read_status",
    "read_statuses",
]

_ANSWER = 10.0
"""Seconds that a supervisor has to answer; a sound one needs tenths."""

State = Literal["running", "starting", "degraded", "unsupervised", "broken", "stopped", "foreign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeathStatus:
    """The last death of something."""

    at: float
    """Seconds since the epoch."""

    cause: str
    """In words, such as ``died of SIGKILL``."""

    last_lines: tuple[str, ...]
    """The end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One process, or the controller with its children."""

    pid: int | None
    """None: it does not run."""

    seconds: float | None
    """Since it started."""

    memory: int | None
    """Bytes, what is shared divided among the sharers (PSS)."""

    cpu: float | None
    """Seconds of CPU so far."""

    restarts: int
    """How often it died and was started again."""

    last_death: DeathStatus | None
    given_up: str
    """Why it stays down; empty where it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus(ProcessStatus):
    """One agent."""

    name: str
    phase: str
    """``absent``, ``starting``, ``ready``, ``away``, ``stopping`` or ``given up``; ``unknown`` without supervisor."""

    host: str = ""
    """Where it runs, as the spec says; empty for this machine."""

    way: str = ""
    """How engines of another host reach the controller: its address, or ``tunnel``; empty while nobody knows."""

    hindrance: str
    """Why its engines are interpreters of their own; empty where it forks them."""

    log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus(ProcessStatus):
    """One engine."""

    number: int
    """The number under which clients know it."""

    group: int | None
    """Its group's place in the spec; None where it is leaving."""

    host: str = ""
    """Where it runs; empty for this machine."""

    state: str
    """``absent``, ``starting``, ``ready``, ``draining``, ``stopping``, ``given up``; ``away``: it is ready, but its
    host is out of reach; ``unknown`` without supervisor."""

    busy: float
    """Seconds that the running task has taken; 0 where none runs."""

    tasks_done: int
    uss: int | None
    """Bytes that would be free without it."""

    peak: int | None
    """The most bytes that it had resident."""

    log: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """One cluster."""

    name: str
    """The profile's name, with the cluster id where there is one."""

    directory: str
    state: State
    """``degraded``: something that is wanted is not there. ``unsupervised``: the supervisor is dead, the rest goes on
    for its lease. ``broken``: neither. ``foreign``: a controller that stoker did not start."""

    detail: str
    """What to know about the state, and what to do; empty where nothing."""

    encrypted: bool | None
    """None where nothing runs."""

    client_address: str
    engine_address: str
    scheduler: str
    supervisor: ProcessStatus | None
    controller: ProcessStatus | None
    agents: tuple[AgentStatus, ...]
    engines: tuple[EngineStatus, ...]
    events: tuple[str, ...]
    """What happened last, oldest first."""

    connection_file: str
    """What a client on another machine needs; holds keys."""

    controller_log: str
    source: str
    """Where the spec came from."""

    joined: tuple[int, ...] = ()
    """The numbers of engines that the hub knows and that are none of the cluster's own: started elsewhere, as with
    ``stoker engines --join`` or ``ipengine``. None are known without the supervisor."""


def read_statuses(*, ipython_dir: Path | None = None) -> tuple[ClusterStatus, ...]:
    """Read the status of every cluster that stoker started and that was not taken down."""
    return tuple(read_status(address) for address in find_running(ipython_dir=ipython_dir))


def read_status(address: Address) -> ClusterStatus:
    """Read the status of one cluster; takes about 10 s at the most, where the supervisor is silent."""
    record = read_record(record_file(address.directory, address.cluster_id))
    if record is None or not record.processes():
        connection = read_connection(ConnectionFiles.of(address.directory, address.cluster_id))
        if connection is not None and is_listening(connection, timeout=1.0):
            return _describe(address, None, "foreign", "not started by stoker: ipcluster stop ends it")
        return _describe(address, None, "stopped", "")
    if record.supervisor is None or not is_running(record.supervisor):
        return _describe_without_supervisor(address, record)
    try:
        answer = ask_supervisor(record.plan.control_socket, "status", timeout=_ANSWER)
    except SupervisorError as error:
        return _describe(address, record, "broken", f"{error}; stoker down ends it")
    if record.state == "starting":
        return _describe(address, record, "starting", "", answer)
    detail = _find_detail(answer)
    return _describe(address, record, "degraded" if detail else "running", detail, answer)


def _describe_without_supervisor(address: Address, record: Record) -> ClusterStatus:
    if record.state == "starting":
        return _describe(address, record, "broken", "its start was killed; stoker up starts anew, stoker down ends it")
    left = f"what is left ends after {record.plan.settings.lease:g} s without one"
    detail = f"the supervisor died; stoker up {address.name} starts a new one, {left}"
    return _describe(address, record, "unsupervised", detail)


def _find_detail(answer: Mapping[str, Any]) -> str:
    controller = answer["controller"]
    if controller["given_up"]:
        return f"the controller stays down: {controller['given_up']}; stoker restart --controller tries again"
    if controller["phase"] != "ready" or not controller["answers"]:
        return "the controller does not answer; it is being started again"
    given_up = [engine for engine in answer["engines"] if engine["given_up"]]
    if given_up:
        causes = "; ".join(f"engine {engine['number']}: {engine['given_up']}" for engine in given_up)
        return f"stays down: {causes}; stoker restart --engine NUMBER tries again"
    away = [agent["host"] for agent in answer["agents"] if agent["phase"] == "away"]
    if away:
        return f"out of reach: {', '.join(away)}; the connection is being made again while the lease there runs"
    failed = [agent for agent in answer["agents"] if agent["host"] and agent["phase"] == "absent"]
    if failed:
        told = [agent["last_death"]["what"] if agent["last_death"] else agent["host"] for agent in failed]
        return f"not there, and tried again now and then: {'; '.join(told)}"
    missing = [str(each["number"]) for each in answer["engines"] if each["phase"] in ("absent", "starting")]
    return f"being started: engine {', '.join(missing)}" if missing else ""


def _describe(
    address: Address, record: Record | None, state: State, detail: str, answer: Mapping[str, Any] | None = None
) -> ClusterStatus:
    plan = None if record is None else record.plan
    return ClusterStatus(
        name=address.name,
        directory=str(address.directory.path),
        state=state,
        detail=detail,
        encrypted=None if plan is None else plan.encrypted,
        client_address="" if plan is None else plan.client_address,
        engine_address="" if plan is None else plan.engine_address,
        scheduler="" if plan is None else plan.scheduler,
        **_describe_parts(record, answer),
        connection_file=str(ConnectionFiles.of(address.directory, address.cluster_id).client),
        controller_log="" if plan is None else plan.controller.log,
        source="" if plan is None else plan.source,
        joined=() if answer is None else tuple(answer["joined"]),
    )


def _describe_parts(record: Record | None, answer: Mapping[str, Any] | None) -> dict[str, Any]:
    if answer is not None:
        return {
            "supervisor": ProcessStatus(**_parse(answer["supervisor"])),
            "controller": ProcessStatus(**_parse(answer["controller"], but=("phase", "answers"))),
            "agents": tuple(AgentStatus(**_parse(agent)) for agent in answer["agents"]),
            "engines": tuple(
                EngineStatus(state=engine["phase"], **_parse(engine, but=("phase", "process_state")))
                for engine in answer["engines"]
            ),
            "events": tuple(f"{event['who']} {event['what']}" for event in answer["events"]),
        }
    if record is None:
        return {"supervisor": None, "controller": None, "agents": (), "engines": (), "events": ()}
    history = History.from_json(record.history)
    agents, engines = record.agents, {engine.number: engine for engine in record.engines}
    return {
        "supervisor": _look_at(record.supervisor, "supervisor", history),
        "controller": _look_at(record.controller, "controller", history),
        "agents": tuple(_look_at_agent(agent, agents.get(agent.name), history) for agent in record.plan.agents),
        "engines": tuple(
            _look_at_engine(number, record, engines.get(number), history)
            for number in sorted({*record.slots, *engines})
        ),
        "events": tuple(f"{event.who} {event.what}" for event in history.events),
    }


# What is found without a supervisor: from the record, and from the processes themselves.


def _look_at(process: ProcessId | None, who: str, history: History) -> ProcessStatus | None:
    return None if process is None or not is_running(process) else ProcessStatus(**_look(process, who, history))


def _look_at_agent(agent: AgentCommand | HostCommand, process: ProcessId | None, history: History) -> AgentStatus:
    host = "" if isinstance(agent, AgentCommand) else agent.address
    # The process here is only the connection to another host.
    found = _look(None if host else process, f"agent {agent.name}", history)
    phase = "absent" if found["pid"] is None and not host else "unknown"
    return AgentStatus(**found, name=agent.name, phase=phase, host=host, way="", hindrance="", log=agent.log)


def _look_at_engine(number: int, record: Record, engine: EngineRecord | None, history: History) -> EngineStatus:
    place = record.slots.get(number)
    group = None if place is None else record.plan.groups[place]
    host = "" if group is None else group.host
    found = _look(None if engine is None or host else engine.process, f"engine {number}", history)
    usage = Usage() if found["pid"] is None else read_usage(found["pid"])
    state = "given up" if found["given_up"] else "absent"
    return EngineStatus(
        **found,
        number=number,
        group=None if group is None else group.group,
        host=host,
        state=state if found["pid"] is None and not host else "unknown",
        busy=0.0,
        tasks_done=0,
        uss=usage.uss,
        peak=usage.peak,
        log=str(record.plan.engine_log(number)),
    )


def _look(process: ProcessId | None, who: str, history: History) -> dict[str, Any]:
    here = process if process is not None and is_running(process) else None
    # Of a controller, its children too.
    pids = [] if here is None else [here.pid, *(list_children(here.pid) if who == "controller" else ())]
    usages = [read_usage(pid) for pid in pids]
    death = history.last_death(who)
    return {
        "pid": None if here is None else here.pid,
        "seconds": None if here is None else read_age(here),
        "memory": sum(usage.pss or 0 for usage in usages) or None,
        "cpu": None if here is None else sum(usage.cpu or 0.0 for usage in usages),
        "restarts": history.deaths[who],
        "last_death": death and DeathStatus(at=death.at, cause=death.what, last_lines=death.last_lines),
        "given_up": history.given_up.get(who, ""),
    }


def _parse(data: Mapping[str, Any], *, but: Sequence[str] = ()) -> dict[str, Any]:
    death = data["last_death"]
    parsed = None
    if death is not None:
        parsed = DeathStatus(at=death["at"], cause=death["what"], last_lines=tuple(death["last_lines"]))
    return {name: value for name, value in data.items() if name not in but} | {"last_death": parsed}
