"""The first start of a cluster, as whoever asked for it sees it: stage by stage, whole or not at all.

A cluster that once ran is healed; one that does not even come up is ended again, with the reason.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stoker.cluster import lives
from stoker.cluster.controller_process import read_connection_file
from stoker.cluster.logs import choose_lines, find_dropped_config
from stoker.cluster.supervisor import Supervisor
from stoker.errors import StartError
from stoker.system.files import read_last_lines

if TYPE_CHECKING:
    from stoker.launch.explanation import Stage

__all__ = ["watch_first_start"]

_POLL = 0.005
_LINES = 20


async def watch_first_start(supervisor: Supervisor, *, on_stage: Callable[[str], None]) -> tuple[str, ...]:
    """Wait until everything that is wanted is ready, but for hosts that failed where enough engines are there.

    Args:
        supervisor: It is at it already.
        on_stage: Told each stage as it begins.

    Returns:
        Why hosts are not there, each with what is to be done.

    Raises:
        StartError: Something ended, or was not there in time.
    """
    watch = _Watch(supervisor)
    on_stage("controller start")
    connection = await watch.wait("connection file", watch.has_connection, "none", supervisor.plan.controller.log)
    on_stage("connection file")
    watch.check_config("controller start", supervisor.plan.controller.log)
    watch.check_encryption()
    assert connection
    on_stage(f"engine start: {len(supervisor.slots) or 'as many as the hosts have cores'}")
    await watch.wait("engine start", watch.has_engines, "", None)
    watch.check_hosts("engine start")
    on_stage("registration")
    await watch.wait("registration", watch.is_whole, "", None)
    watch.check_hosts("registration")
    for number in watch.expected:
        watch.check_config(f"engine start: engine {number}", str(supervisor.plan.engine_log(number)))
    # One that came up with fewer children than it should have is no sound one.
    await watch.wait("registration", watch.has_children, "not all child processes of the controller", None)
    return watch.describe_failures()


class _Watch:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._plan = supervisor.plan
        self._deadline = time.monotonic() + self._plan.start_timeout
        self._lines: dict[str, tuple[str, ...]] = {}
        self.failures: dict[str, str] = {}
        """Why hosts failed, by the name of their agent; the first time counts, though they are tried again."""

    @property
    def expected(self) -> tuple[int, ...]:
        """The engines that are waited for: all but those of hosts that failed."""
        groups = self._supervisor.plan.groups
        return tuple(n for n, place in self._supervisor.slots.items() if groups[place].agent not in self.failures)

    def _are_counted(self) -> bool:
        return all(group.count is not None or group.agent in self.failures for group in self._supervisor.plan.groups)

    def is_whole(self) -> bool:
        """Say whether all that is waited for is ready."""
        seen = self._supervisor.seen
        engines = (seen.engines.get(number) for number in self.expected)
        whole = all(engine is not None and engine.phase == "ready" for engine in engines)
        return whole and self._are_counted() and seen.controller.phase == "ready"

    def check_hosts(self, stage: str) -> None:
        """Look whether hosts that failed have left enough engines."""
        groups = self._supervisor.plan.groups
        for place in {groups[n].group for n, group in enumerate(groups) if group.agent in self.failures}:
            mine = {n: group for n, group in enumerate(groups) if group.group == place}
            least = next(iter(mine.values())).least
            there = sum(self._supervisor.slots[number] in mine for number in self.expected)
            if least is None or there < least:
                self._refuse(stage, place, there, least)

    def describe_failures(self) -> tuple[str, ...]:
        """Say of each host that failed why, with the lines that tell it."""
        return tuple(
            "\n".join([cause, *(f"    {line}" for line in self._lines[name])]) for name, cause in self.failures.items()
        )

    def _refuse(self, stage: str, place: int, there: int, least: int | None) -> None:
        failed = len(self.failures)
        wanted = "all are wanted" if least is None else f"{least} must be (min_engines)"
        problem = f"{failed} host{'' if failed == 1 else 's'} failed, so that {there} engines of engines[{place}] are "
        lines = [line for failure in self.describe_failures() for line in failure.splitlines()]
        raise StartError(stage, f"{problem}there; {wanted}", lines=lines)

    def has_connection(self) -> bool:
        # Both of its files are there then.
        return self._supervisor.seen.controller.phase == "ready"

    def has_engines(self) -> bool:
        return self._are_counted() and set(self.expected) <= set(self._supervisor.engines)

    def has_children(self) -> bool:
        return self._supervisor.controller.count_children() >= self._plan.controller.children

    async def wait(self, stage: str, condition: Callable[[], bool], missing: str, log: str | None) -> bool:
        while not condition():
            self._check(stage)
            if time.monotonic() > self._deadline and not self._give_up_late_hosts():
                raise self._describe_delay(stage, missing, log)
            await asyncio.sleep(_POLL)
        return True

    def check_config(self, stage: str, log: str) -> None:
        # IPython drops a config file that raises and goes on with defaults; only the log tells.
        dropped = find_dropped_config(read_last_lines(Path(log), 1000))
        if dropped is not None:
            problem = f"{dropped} raises an exception and was dropped whole, so that the spec is not in force"
            raise _failure(stage, problem, log)

    def check_encryption(self) -> None:
        connection = read_connection_file(self._plan.controller.client_file) or {}
        encrypted = bool(connection.get("curve_serverkey"))
        if encrypted != self._plan.encrypted:
            found, wanted = ("encrypted", "not") if encrypted else ("not encrypted", "encrypted")
            raise _failure(
                "connection file",
                f"the controller came up {found}, but the spec says {wanted}; it was taken down. Something in "
                f"{self._plan.profile} or in the environment overrides IPController.enable_curve",
                self._plan.controller.log,
            )

    def _check(self, stage: str) -> None:
        seen = self._supervisor.seen
        if (death := seen.controller.last_death) is not None:
            before = stage in ("connection file",)
            problem = f"the controller ended {_describe_end(death)}"
            raise _failure("controller start" if before else stage, problem, self._plan.controller.log)
        hosts = self._plan.hosts
        for name, agent in seen.agents.items():
            if agent.last_death is not None and name in hosts:
                death = agent.last_death
                ended = f"{hosts[name].address}: agent: it ended {_describe_end(death)}; stoker logs tells more"
                self._note_failure(name, death.problem or ended, death.last_lines)
            elif agent.last_death is not None:
                log = self._plan.agent(name).log
                raise _failure("engine start", f"the agent {name} ended {_describe_end(agent.last_death)}", log)
        for number, engine in seen.engines.items():
            if engine.last_death is not None and engine.agent in hosts:
                if not engine.last_death.with_agent:
                    host = hosts[engine.agent].address
                    self._note_failure(
                        engine.agent, _explain(host, number, engine.last_death), engine.last_death.last_lines
                    )
            elif engine.last_death is not None:
                place = self._supervisor.plan.groups[self._supervisor.slots.get(number, 0)].group
                who = f"engine {number} (engines[{place}])"
                problem = f"{who} ended {_describe_end(engine.last_death)} before it was ready"
                # Where it died, however soon.
                raise _failure("registration", problem, str(self._plan.engine_log(number)))

    def _note_failure(self, name: str, cause: str, lines: tuple[str, ...]) -> None:
        if name not in self.failures:
            self.failures[name] = cause
            self._lines[name] = choose_lines(lines, _LINES)

    def _give_up_late_hosts(self) -> bool:
        """Take hosts that are late for failed; say whether there were such."""
        from stoker.launch.explanation import Evidence, explain

        seen, groups, late = self._supervisor.seen, self._supervisor.plan.groups, False
        for name, command in self._plan.hosts.items():
            agent = seen.agents.get(name)
            mine = [n for n in self.expected if groups[self._supervisor.slots[n]].agent == name]
            there = [n for n in mine if n in seen.engines and seen.engines[n].phase == "ready"]
            if name in self.failures or (agent is not None and agent.phase == "ready" and there == mine):
                continue
            ready = agent is not None and agent.phase == "ready"
            stage: Stage = "registered" if ready else "agent"
            missing = f"engine {', '.join(str(n) for n in mine if n not in there)}" if ready else "its agent"
            problem = f"{missing} not there after {self._plan.start_timeout:g} s (cluster.start_timeout)"
            log = self._plan.engine_log(mine[0]) if ready and mine else Path(self._plan.agent(name).log)
            explanation = explain(Evidence(host=command.address, stage=stage, errors=(problem,)))
            self._note_failure(name, str(explanation), read_last_lines(log, _LINES))
            late = True
        return late

    def _describe_delay(self, stage: str, missing: str, log: str | None) -> StartError:
        after = f"after {self._plan.start_timeout:g} s (cluster.start_timeout)"
        if log is not None:
            return _failure(stage, f"{missing} {after}", log)
        seen = self._supervisor.seen
        for agent in self._plan.agents:
            if agent.name in self.failures:
                continue
            if agent.name not in seen.agents or seen.agents[agent.name].phase != "ready":
                return _failure(stage, f"the agent {agent.name} not there {after}", agent.log)
        late = [n for n in self.expected if n not in seen.engines or seen.engines[n].phase != "ready"]
        if not late:
            return _failure(stage, f"{missing or 'the controller is not there'} {after}", self._plan.controller.log)
        listed = ", ".join(str(number) for number in late)
        return _failure(stage, f"engine {listed} not there {after}", str(self._plan.engine_log(late[0])))


def _explain(host: str, number: int, death: lives.Death) -> str:
    if death.problem:
        from stoker.launch.explanation import Evidence, explain

        return str(explain(Evidence(host=host, stage="engine start", errors=(f"engine {number}: {death.problem}",))))
    return f"{host}: engine start: engine {number} ended {_describe_end(death)}"


def _describe_end(death: lives.Death) -> str:
    if death.problem:
        return f"({death.problem})"
    if death.status is None:
        return "with an unknown status"
    return f"with status {death.status}" if death.status >= 0 else f"by signal {-death.status}"


def _failure(stage: str, problem: str, log: str) -> StartError:
    return StartError(stage, problem, log=Path(log), lines=choose_lines(read_last_lines(Path(log), 400), _LINES))
