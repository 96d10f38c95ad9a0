"""``python -m stoker.cluster.supervise``: the supervisor's process, begun by ``stoker up`` over its standard input.

Whoever begins it says the plan, then that the profile is written, and hears the stages of the start. Until the cluster
runs, the end of that connection is the end of the start: everything is ended again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stoker.cluster.first_start import watch_first_start
from stoker.cluster.record import Record, read_record, record_file, remove_traces, write_record
from stoker.cluster.run_plan import RunPlan
from stoker.cluster.service import Service
from stoker.cluster.supervisor import Supervisor
from stoker.errors import BusyError, StartError
from stoker.launch.cluster_file import cluster_file, render_cluster_file
from stoker.launch.marks import RUN_VARIABLE
from stoker.profile.directory import ProfileDirectory
from stoker.system.files import trim_log, write_file
from stoker.system.locks import hold_lock
from stoker.system.orphans import adopt_orphans, find_ended_child
from stoker.system.runtime import make_runtime_directory, remove_runtime_directory

__all__ = ["main"]

_GRACE = 5.0
_LOCK_WAIT = 5.0
_SAVE_AFTER = 0.05
_TICK = 1.0
_BEATS = 8
_REAP_AGAIN = 0.05


class _Starter:
    """The connection to whoever began this process."""

    def __init__(self) -> None:
        self._reader = asyncio.StreamReader(limit=1 << 28)
        self._writer = os.dup(1)
        # What is printed by mistake goes to the log.
        os.dup2(2, 1)
        self.gone = asyncio.Event()

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(os.dup(0), "rb", buffering=0)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self._reader), pipe)

    async def hear(self) -> dict[str, Any]:
        """Give the next thing that is said; an empty one when nobody is there any more."""
        line = await self._reader.readline()
        if not line:
            self.gone.set()
            return {}
        message: dict[str, Any] = json.loads(line)
        return message

    def say(self, **message: Any) -> None:
        with contextlib.suppress(OSError):
            os.write(self._writer, json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.close(null)
        with contextlib.suppress(OSError):
            os.close(self._writer)


class _Keeper:
    """Keeps a supervisor's record, lease and logs, from its beginning to its end."""

    def __init__(self, plan: RunPlan) -> None:
        self._directory = ProfileDirectory(Path(plan.profile))
        self._saving: asyncio.TimerHandle | None = None
        self.running = False
        self.supervisor = Supervisor(plan, on_change=self._save_soon, save=self.save)

    @property
    def plan(self) -> RunPlan:
        return self.supervisor.plan

    def save(self) -> None:
        """Write the record."""
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        write_record(self._directory, self.supervisor.render_record(running=self.running))
        if self.running:
            content = render_cluster_file(
                self._directory,
                self.plan.cluster_id,
                engines=len(self.supervisor.slots),
                pid=os.getpid(),
                control_socket=self.plan.control_socket,
            )
            write_file(cluster_file(self._directory, self.plan.cluster_id), content)

    async def tick(self) -> None:
        """Renew the controller's lease, and keep logs short."""
        lease = Path(self.plan.controller.lease_file)
        lease.touch(mode=0o600)
        while True:
            await asyncio.sleep(min(_TICK, self.plan.settings.lease / _BEATS))
            with contextlib.suppress(OSError):
                os.utime(lease)
            for log in (self.plan.controller.log, str(self.plan.supervisor_log)):
                trim_log(Path(log), self.plan.settings.log_limit)

    def clean(self) -> None:
        """Remove what only a running cluster leaves on disk."""
        if self._saving is not None:
            self._saving.cancel()
        remove_traces(self._directory, self.plan.cluster_id)
        remove_runtime_directory(Path(self.plan.runtime))

    def _save_soon(self) -> None:
        if self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(_SAVE_AFTER, self.save)


async def _supervise() -> int:
    starter = _Starter()
    await starter.open()
    first = await starter.hear()
    if not first:
        return 1
    plan = RunPlan.from_json(first["plan"])
    lock = Path(plan.profile) / "pid" / (f"supervisor-{plan.cluster_id}.lock" if plan.cluster_id else "supervisor.lock")
    try:
        # Never two for one cluster: the kernel ends the lock with its holder.
        with hold_lock(lock, wait=_LOCK_WAIT, purpose="the supervisor"):
            return await _serve(plan, starter, adopt=first["do"] == "adopt")
    except BusyError as error:
        starter.say(say="failed", stage="supervisor", problem=str(error), log=None, lines=[])
        return 1


async def _serve(plan: RunPlan, starter: _Starter, *, adopt: bool) -> int:
    make_runtime_directory(Path(plan.runtime))
    keeper = _Keeper(plan)
    supervisor = keeper.supervisor
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(signum, ending.set)
    # What a dead agent or controller leaves comes to this process, and is not left to whoever is process 1.
    adopt_orphans()
    loop.add_signal_handler(signal.SIGCHLD, _reap_orphans, supervisor)
    record = read_record(record_file(ProfileDirectory(Path(plan.profile)), plan.cluster_id)) if adopt else None
    keeper.running = record is not None
    supervisor.slots = plan.slots if record is None else dict(record.slots)
    if record is None:
        keeper.save()
    service = Service(supervisor, run_variable=RUN_VARIABLE)
    await service.open()
    work = [loop.create_task(keeper.tick()), loop.create_task(_run(supervisor, record))]
    try:
        code = await _live(keeper, service, starter, ending, work[1], adopt=adopt)
    except Exception:
        traceback.print_exc()
        if keeper.running:
            # A defect of ours: the cluster goes on for its lease, and another supervisor can take over.
            return 1
        code = 1
    answer = {"processes": service.count_processes() + 1}
    await supervisor.end(grace=_GRACE)
    keeper.clean()
    for task in work:
        task.cancel()
    unreached = list(supervisor.unreached)
    service.finished.set_result({**answer, "killed": supervisor.killed, "unreached": unreached})
    # Those who ordered the end hear of it.
    await asyncio.sleep(0.01)
    service.close()
    return code


def _reap_orphans(supervisor: Supervisor) -> None:
    while (pid := find_ended_child()) is not None:
        if pid in supervisor.children():
            # Whoever watches it is about to.
            asyncio.get_running_loop().call_later(_REAP_AGAIN, _reap_orphans, supervisor)
            return
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


async def _run(supervisor: Supervisor, record: Record | None) -> None:
    if record is not None:
        await supervisor.adopt(record)
    await supervisor.run()


async def _live(
    keeper: _Keeper,
    service: Service,
    starter: _Starter,
    ending: asyncio.Event,
    work: asyncio.Task[None],
    *,
    adopt: bool,
) -> int:
    ends = [ending.wait(), service.down.wait(), keeper.supervisor.ended.wait()]
    waiting = [asyncio.get_running_loop().create_task(end) for end in ends]
    try:
        notices: tuple[str, ...] = ()
        if not adopt:
            found = await _start(keeper, starter, [*waiting, work])
            if found is None:
                return 1
            notices = found
        keeper.running = True
        keeper.save()
        starter.say(say="running", notices=list(notices))
        starter.close()
        await asyncio.wait([*waiting, work], return_when=asyncio.FIRST_COMPLETED)
        if work.done() and not work.cancelled():
            # Only a defect of ours ends the loop by itself; its traceback belongs into the log.
            work.result()
    finally:
        for task in waiting:
            task.cancel()
    return 0


async def _start(keeper: _Keeper, starter: _Starter, ends: Sequence[asyncio.Future[Any]]) -> tuple[str, ...] | None:
    """Go through the first start; give what is to be known of it, None where all is to be ended again."""
    loop = asyncio.get_running_loop()
    word = loop.create_task(starter.hear())
    await asyncio.wait([word, *ends], return_when=asyncio.FIRST_COMPLETED)
    if not word.done() or word.result().get("do") != "go":
        word.cancel()
        return None
    keeper.supervisor.profile_ready.set()
    start = loop.create_task(
        watch_first_start(keeper.supervisor, on_stage=lambda stage: starter.say(say="stage", stage=stage))
    )
    # Nothing more is said: only the end of the connection comes.
    gone = loop.create_task(starter.hear())
    await asyncio.wait([start, gone, *ends], return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not start.done():
        start.cancel()
        starter.say(say="failed", stage="start", problem="somebody ordered its end", log=None, lines=[])
        return None
    try:
        return start.result()
    except StartError as error:
        # What runs is ended before it is told, so that nothing of it is left when the command ends.
        await keeper.supervisor.end(grace=_GRACE)
        keeper.clean()
        log = None if error.log is None else str(error.log)
        starter.say(say="failed", stage=error.stage, problem=error.problem, log=log, lines=list(error.lines))
        return None


def main() -> int:
    """Supervise a cluster until its end."""
    return asyncio.run(_supervise())


if __name__ == "__main__":
    sys.exit(main())
