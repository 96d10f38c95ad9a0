"""The engines of an agent: born, watched, ended, reaped. Single-threaded; waits for nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from stoker.agent.birth import ENGINE_VARIABLE
from stoker.agent.notice import fork_notice
from stoker.agent.order import Death, EngineOrder, EngineReport
from stoker.agent.page import LEAVING, PHASES, READY, STARTING, EnginePage
from stoker.agent.preload import find_hindrance
from stoker.system.files import read_last_lines, trim_log
from stoker.system.orphans import find_ended_child
from stoker.system.processes import find_marked, identify, list_children
from stoker.system.usage import count_oom_kills, read_state, read_usage

__all__ = ["EngineSet"]

_LINES = 20
_STARVING = 10.0
"""Seconds after the kernel has killed something for want of memory in which a SIGKILL counts as its own."""
_ROUNDS = 10


@dataclass(slots=True, kw_only=True)
class _Engine:
    order: EngineOrder
    pid: int
    started: int
    page: EnginePage
    begun: float
    """On the monotonic clock."""

    was_ready: bool = False
    asked: bool = False
    """Its supervisor told it to end."""

    signalled: bool = False
    """It got a SIGKILL from its agent, or one that came through it."""

    frozen: bool = False
    kill_at: float | None = None
    """When patience ends, on the monotonic clock."""

    stopped_since: float | None = None
    """On the agent's running clock."""


class EngineSet:
    """All engines of one agent."""

    def __init__(self) -> None:
        self.log_limit = 10_000_000
        self.frozen_after = 5.0
        self.tells_hub = True
        """Whether deaths are told to the hub; not where it ends too."""
        self._engines: dict[int, _Engine] = {}
        self._notices: dict[int, int] = {}
        """The numbers of engines whose end is being told to the hub, by the process that tells it."""
        self._oom_kills = count_oom_kills()
        self._starved_at: float | None = None

    def __len__(self) -> int:
        return len(self._engines)

    @property
    def are_starting(self) -> bool:
        """Whether one of them is not ready yet."""
        return any(engine.page.phase == STARTING for engine in self._engines.values())

    @property
    def is_idle(self) -> bool:
        """Whether no child is left."""
        return not self._engines and not self._notices

    def find_problem(self, order: EngineOrder) -> str:
        """Say why an engine cannot be started; empty where it can."""
        if order.number in self._engines:
            return f"engine {order.number} runs here already, as process {self._engines[order.number].pid}"
        if order.work_dir is not None and not Path(order.work_dir).is_dir():
            return f"no such directory: {order.work_dir}"
        try:
            os.close(os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        except OSError as error:
            return f"its log cannot be written: {order.log}: {error.strerror}"
        return ""

    def must_wait(self, order: EngineOrder) -> bool:
        """Say whether the hub is still being told of the last engine's end: until then the number is taken."""
        return order.number in self._notices.values()

    def add(self, order: EngineOrder, pid: int, page: EnginePage) -> EngineReport:
        """Take an engine that has just been started, a child of this process.

        Args:
            order: What it is to be.
            pid: Its process number.
            page: What it shares with this process; closed when it has ended.
        """
        process = identify(pid)
        started = 0 if process is None else process.started
        engine = _Engine(order=order, pid=pid, started=started, page=page, begun=time.monotonic())
        self._engines[order.number] = engine
        return self._report(engine)

    def reap(self) -> Iterator[Death]:
        """Give the engines that have ended; what they started ends with them, and the hub is told."""
        while (pid := find_ended_child()) is not None:
            engine = next((each for each in self._engines.values() if each.pid == pid), None)
            if engine is not None:
                # Before it is reaped: afterwards its number may belong to another group.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            self._notices.pop(pid, None)
            if engine is not None:
                del self._engines[engine.order.number]
                yield self._bury(engine, os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)

    def watch(self, clock: float, *, was_away: bool = False) -> None:
        """Look after the engines: kill those that have been stopped for too long, or were told to end and do not.

        Args:
            clock: Seconds of this process's running time.
            was_away: Whether this process could not run for a while. What stopped it may have stopped the engines too,
                and let them go on a moment later.
        """
        self._look_for_starvation()
        for engine in self._engines.values():
            engine.was_ready = engine.was_ready or engine.page.phase == READY
            if read_state(engine.pid) != "T":
                engine.stopped_since = None
            elif engine.stopped_since is None or was_away:
                engine.stopped_since = clock
            elif clock - engine.stopped_since >= self.frozen_after and not engine.frozen:
                engine.frozen = True
                self._kill(engine)
            if engine.kill_at is not None and time.monotonic() >= engine.kill_at:
                engine.kill_at = None
                self._kill(engine)

    def trim_logs(self) -> None:
        """Keep the logs below their limit."""
        for engine in self._engines.values():
            trim_log(Path(engine.order.log), self.log_limit)

    def stop(self, numbers: Collection[int] | None, *, grace: float, ordered: bool = True) -> None:
        """Tell engines to end; those that do not within a time are killed.

        Args:
            numbers: None: all.
            grace: Seconds.
            ordered: Whether their supervisor wants it.
        """
        for number, engine in self._engines.items():
            if numbers is None or number in numbers:
                engine.asked = engine.asked or ordered
                deadline = time.monotonic() + grace
                engine.kill_at = deadline if engine.kill_at is None else min(deadline, engine.kill_at)
                self.signal(number, signal.SIGTERM)
                # One that is stopped would never hear it.
                self.signal(number, signal.SIGCONT)

    def signal(self, number: int, signum: int) -> bool:
        """Send an engine a signal; say whether there is such an engine.

        Raises:
            OSError: There is no such signal.
        """
        engine = self._engines.get(number)
        if engine is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(engine.pid, signum)
        engine.signalled = engine.signalled or signum == signal.SIGKILL
        return True

    def report(self, *, memory: bool) -> list[EngineReport]:
        """Report on all engines.

        Args:
            memory: Whether memory and CPU are read too, which takes milliseconds for each.
        """
        return [self._report(engine, memory=memory) for engine in self._engines.values()]

    def next_deadline(self) -> float | None:
        """Give the time on the monotonic clock at which patience with an engine ends."""
        return min((each.kill_at for each in self._engines.values() if each.kill_at is not None), default=None)

    def end_orphans(self) -> None:
        """Kill what engines that are gone have left to this process."""
        for pid in list_children(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _kill(self, engine: _Engine) -> None:
        engine.signalled = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(engine.pid, signal.SIGKILL)

    def _bury(self, engine: _Engine, status: int, peak: int) -> Death:
        self._end_offspring(engine)
        page = engine.page
        phase = page.phase
        self._look_for_starvation()
        starved = self._is_starving() and status == -signal.SIGKILL and not engine.signalled
        death = Death(
            number=engine.order.number,
            pid=engine.pid,
            status=status,
            ordered=engine.asked or phase == LEAVING,
            frozen=engine.frozen,
            out_of_memory=starved,
            ready=engine.was_ready or phase != STARTING,
            working=page.busy > 0,
            tasks_done=page.tasks_done,
            seconds=time.monotonic() - engine.begun,
            peak=peak,
            uuid=page.uuid,
            given=page.number,
            last_lines=read_last_lines(Path(engine.order.log), _LINES),
        )
        if (will := page.will) and self.tells_hub and not find_hindrance():
            # Without one more process, the hub learns it from the heartbeat.
            with contextlib.suppress(OSError):
                self._notices[fork_notice(will)] = engine.order.number if page.number is None else page.number
        page.close()
        return death

    def _look_for_starvation(self) -> None:
        before, self._oom_kills = self._oom_kills, count_oom_kills()
        if before is not None and self._oom_kills is not None and self._oom_kills > before:
            self._starved_at = time.monotonic()

    def _is_starving(self) -> bool:
        # The kernel counts before the victim has ended, which takes time where memory is large, and may kill several.
        return self._starved_at is not None and time.monotonic() - self._starved_at < _STARVING

    def _end_offspring(self, engine: _Engine) -> None:
        told: set[int] = set()
        # Again until there is nothing new: what one has left behind comes to this process when that one has ended.
        for _ in range(_ROUNDS):
            left = self._find_offspring(engine) - told
            if not left:
                return
            told |= left
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    def _find_offspring(self, engine: _Engine) -> set[int]:
        known = {each.pid for each in self._engines.values()} | self._notices.keys()
        # Daemons in sessions of their own: what was executed carries the engine's mark, what was only forked its name.
        found = {process.pid for process in find_marked(ENGINE_VARIABLE, str(engine.pid))}
        waiting = [pid for pid in list_children(os.getpid()) if pid not in known and _came_from(engine, pid)]
        while waiting:
            pid = waiting.pop()
            if pid not in found:
                found.add(pid)
                waiting.extend(list_children(pid))
        return found

    def _report(self, engine: _Engine, *, memory: bool = False) -> EngineReport:
        page = engine.page
        report = EngineReport(
            number=engine.order.number,
            pid=engine.pid,
            started=engine.started,
            uuid=page.uuid,
            phase=PHASES[page.phase],
            state=read_state(engine.pid) or "X",
            seconds=time.monotonic() - engine.begun,
            busy=page.busy,
            tasks_done=page.tasks_done,
            given=page.number,
        )
        if not memory:
            return report
        usage = read_usage(engine.pid)
        return replace(report, cpu=usage.cpu, rss=usage.rss, pss=usage.pss, uss=usage.uss, peak=usage.peak)


def _came_from(engine: _Engine, pid: int) -> bool:
    try:
        return os.getsid(pid) == engine.pid or _read_name(pid) == f"engine {engine.order.number}"
    except ProcessLookupError:
        return False


def _read_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return ""
