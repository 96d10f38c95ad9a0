"""A supervisor's process: begun for a new run, begun again for one that lost its own, or found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stoker.cluster.planning import render_environment
from stoker.cluster.record import Record, read_record, record_file
from stoker.cluster.run_plan import RunPlan
from stoker.cluster.target import Address
from stoker.errors import NotRunningError, StartError, SupervisorError
from stoker.launch.supervisor_line import ask_supervisor
from stoker.system.files import read_last_lines
from stoker.system.locks import hold_lock
from stoker.system.processes import is_running
from stoker.system.usage import read_state

__all__ = ["Beginning", "ask_cluster", "is_supervised", "revive_supervisor"]

_PROGRAM = "stoker.cluster.supervise"
_LINES = 20
_TAKE_OVER = 60.0
_HELLO = 5.0
_DYING = 1.0
_POLL = 0.02


class Beginning:
    """A supervisor that waits for words. An error within its ``with`` block ends it, and all that it owns."""

    def __init__(self, plan: RunPlan, environment: Mapping[str, str], *, do: str) -> None:
        """Begin it.

        Args:
            plan: The plan of the run.
            environment: The environment of the run's processes.
            do: ``start`` or ``adopt``.
        """
        self._plan = plan
        log = os.open(plan.supervisor_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(environment),
                start_new_session=True,
            )
        finally:
            os.close(log)
        self.say(do=do, plan=plan.to_json())

    def say(self, **message: Any) -> None:
        """Tell it something."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # That it has ended is seen where it is heard.
            return

    def finish(self, *, on_stage: Callable[[str], None]) -> tuple[str, ...]:
        """Hear it out until the cluster runs.

        Args:
            on_stage: Told each stage as it begins.

        Returns:
            What the user should know: hosts that are not there.

        Raises:
            StartError: The start failed; nothing of it is left.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            match message["say"]:
                case "stage":
                    on_stage(message["stage"])
                case "running":
                    return tuple(message["notices"])
                case "failed":
                    self._process.wait()
                    log = None if message["log"] is None else Path(message["log"])
                    raise StartError(message["stage"], message["problem"], log=log, lines=message["lines"])
        status = self._process.wait()
        log = self._plan.supervisor_log
        problem = f"the supervisor ended with status {status}"
        raise StartError("supervisor", problem, log=log, lines=read_last_lines(log, _LINES))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue
        if error is not None:
            # It sees the end of the connection, and ends what it has started.
            self._process.wait()
        else:
            # It may end while this process goes on; one that is not reaped would look alive to others.
            threading.Thread(target=self._process.wait, name="reaper of a supervisor", daemon=True).start()


def is_supervised(record: Record) -> bool:
    """Say whether a cluster's supervisor lives.

    Raises:
        SupervisorError: It lives, and does not answer.
    """
    deadline = time.monotonic() + _DYING
    while record.supervisor is not None and is_running(record.supervisor):
        pid = record.supervisor.pid
        if read_state(pid) == "T":
            raise SupervisorError(
                f"the supervisor (process {pid}) is stopped: kill -CONT {pid} lets it go on; "
                f"kill -9 {pid} makes way for another, which takes over what runs"
            )
        try:
            ask_supervisor(record.plan.control_socket, "hello", timeout=_HELLO)
        except SupervisorError:
            # One that was just killed may still be on its way out.
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL)
        else:
            return True
    return False


def ask_cluster(address: Address, do: str, *, timeout: float, **words: Any) -> dict[str, Any]:
    """Ask a cluster's supervisor, and begin a new one where it died.

    Raises:
        NotRunningError: There is no such cluster.
        SupervisorError: It does not answer, or refuses.
    """
    record = read_record(record_file(address.directory, address.cluster_id))
    if record is None or not record.processes():
        raise NotRunningError(f"{address.name}: no cluster that stoker started runs under this profile")
    if not is_supervised(record):
        record = revive_supervisor(address)
    return ask_supervisor(record.plan.control_socket, do, timeout=timeout, **words)


def revive_supervisor(address: Address, *, wait: float = 30.0, within: float = _TAKE_OVER) -> Record:
    """Begin a new supervisor for what an earlier one has left running, and wait until all that is wanted is there.

    Args:
        address: The cluster's.
        wait: Seconds to wait for another process that is at the same.
        within: Seconds until all must be there.

    Raises:
        StartError: It could not take over.
        SupervisorError: What is wanted did not come back.
    """
    file = record_file(address.directory, address.cluster_id)
    with hold_lock(file.with_suffix(".attach.lock"), wait=wait, purpose="a command"):
        record = read_record(file)
        assert record is not None
        if not is_supervised(record):
            environment = render_environment(os.environ, address.directory, record.run)
            with Beginning(record.plan, environment, do="adopt") as beginning:
                beginning.finish(on_stage=lambda stage: None)
            record = read_record(file) or record
    ask_supervisor(record.plan.control_socket, "wait", timeout=within + 5, within=within)
    return record
