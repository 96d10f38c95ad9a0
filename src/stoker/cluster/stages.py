"""The stages of a start: controller, connection file, engines, registration. All of it, or none of it is left."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from stoker.cluster.logs import choose_lines, find_dropped_config
from stoker.cluster.record import EngineRecord, Record, remove_traces, write_record
from stoker.cluster.stop import STOP_GRACE
from stoker.cluster.target import Address
from stoker.errors import ConnectError, StartError
from stoker.launch import (
    Command,
    ConnectionFiles,
    cluster_file,
    count_controller_children,
    find_taken_ports,
    plan_controller,
    plan_engines,
    read_connection,
    render_cluster_file,
)
from stoker.spec import ClusterSpec
from stoker.system.files import read_last_lines, remove_file, write_file
from stoker.system.machine import read_cores
from stoker.system.processes import ProcessId, count_children, exit_status, is_running, spawn, stop

__all__ = ["Start"]

_POLL = 0.01
_LINES = 20
_COUNT_EVERY = 0.25


class Start:
    """One start under way: holds what has been started so far, so that all of it can be ended again."""

    def __init__(
        self, spec: ClusterSpec, address: Address, *, source: str, deadline: float, on_stage: Callable[[str], None]
    ) -> None:
        """Prepare a start.

        Args:
            spec: What the cluster should be; it was applied to its profile.
            address: Its cluster's.
            source: Where it came from, for the record.
            deadline: On the monotonic clock.
            on_stage: Told each stage as it begins.
        """
        self._spec = spec
        self._address = address
        self._deadline = deadline
        self._on_stage = on_stage
        self._children = 0
        self._next_count = 0.0
        self._files = ConnectionFiles.of(address.directory, address.cluster_id)
        self._record = Record(
            cluster_id=address.cluster_id,
            run=secrets.token_hex(8),
            state="starting",
            source=source,
            encrypted=spec.controller.encryption,
            client_address=spec.controller.client_address,
            engine_address=spec.controller.engine_address,
            scheduler=spec.controller.scheduler,
        )

    def run(self) -> Record:
        """Go through all stages.

        Raises:
            StartError: One failed; what had been started was ended again.
        """
        try:
            # Before the first process: whoever comes after a kill -9 of this one finds them by the mark.
            self._note()
            self._start_controller()
            # Beside the controller: they import for longer than it does, and wait for what it writes.
            self._start_engines()
            self._wait_for_connection_files()
            self._wait_for_engines()
            remove_file(self._files.handover)
            self._note(state="running")
        except BaseException:
            stop(self._record.processes, grace=STOP_GRACE)
            remove_traces(self._address.directory, self._address.cluster_id)
            raise
        return self._record

    def _note(self, **changes: object) -> None:
        self._record = self._record.having(**changes)
        write_record(self._address.directory, self._record)

    def _start_controller(self) -> None:
        self._on_stage("controller start")
        command = plan_controller(
            self._spec, self._address.directory, run=self._record.run, environment=os.environ, cwd=Path.cwd()
        )
        process = self._spawn("controller start", command)
        self._note(controller=process, controller_log=str(command.log))

    def _wait_for_connection_files(self) -> None:
        self._on_stage("connection file")
        # Imported here, while controller and engines come up: it takes a quarter of a second.
        import stoker.cluster.client  # noqa: F401

        while (connection := read_connection(self._files)) is None:
            self._check_controller("controller start")
            if time.monotonic() > self._deadline:
                raise self._failure("connection file", f"none after {self._timeout}", self._controller_log)
            time.sleep(_POLL)
        self._check_config("controller start", self._controller_log)
        if connection.encrypted != self._spec.controller.encryption:
            found, wanted = ("encrypted", "not") if connection.encrypted else ("not encrypted", "encrypted")
            raise self._failure(
                "connection file",
                f"the controller came up {found}, but the spec says {wanted}; it was taken down. Something in "
                f"{self._address.directory.path} or in the environment overrides IPController.enable_curve",
                self._controller_log,
            )
        self._files.hand_over()

    def _start_engines(self) -> None:
        commands = plan_engines(
            self._spec,
            self._address.directory,
            run=self._record.run,
            environment=os.environ,
            cwd=Path.cwd(),
            cores=read_cores(),
        )
        self._on_stage(f"engine start: {len(commands)}")
        engines = []
        try:
            for engine in commands:
                process = self._spawn(f"engine start: engine {engine.number}", engine.command)
                engines.append(
                    EngineRecord(number=engine.number, group=engine.group, process=process, log=str(engine.command.log))
                )
        finally:
            self._note(engines=tuple(engines))
        assert self._record.controller is not None
        pids = {engine.number: engine.process.pid for engine in engines}
        content = render_cluster_file(
            self._address.directory,
            self._address.cluster_id,
            controller=(self._record.controller.pid, self._controller_log),
            engines={engine.number: (pids[engine.number], engine) for engine in commands},
        )
        write_file(cluster_file(self._address.directory, self._address.cluster_id), content, mode=0o600)

    def _wait_for_engines(self) -> None:
        from stoker.cluster.client import connect_client, probe_engines, wait_until_registered

        stage = "registration"
        self._on_stage(stage)
        try:
            client = connect_client(self._address.directory, self._address.cluster_id, timeout=max(1.0, self._left))
        except ConnectError as error:
            self._check_controller(stage)
            raise self._failure(stage, str(error), self._controller_log) from error
        # A hub that answers has started them all.
        self._children = count_controller_children(self._spec)
        try:
            numbers = [engine.number for engine in self._record.engines]
            missing = wait_until_registered(client, numbers, deadline=self._deadline, check=self._check_all)
            if missing:
                listed = ", ".join(str(number) for number in missing)
                log = Path(self._record.engines[numbers.index(missing[0])].log)
                raise self._failure(stage, f"engine {listed} not there after {self._timeout}", log)
            for engine in self._record.engines:
                self._check_config(f"engine start: engine {engine.number}", Path(engine.log))
            self._next_count = 0.0
            silent = probe_engines(client, deadline=self._deadline, check=self._check_all)
            if silent is not None:
                raise self._failure(stage, f"no answer from {silent} after {self._timeout}", self._controller_log)
        finally:
            client.close()

    def _check_all(self) -> None:
        self._check_controller("registration")
        for engine in self._record.engines:
            if not is_running(engine.process):
                ended = _describe_end(exit_status(engine.process, wait=1.0))
                name = f"engine {engine.number} (engines[{engine.group}])"
                raise self._failure("registration", f"{name} ended {ended} before it was ready", Path(engine.log))

    def _check_controller(self, stage: str) -> None:
        controller = self._record.controller
        assert controller is not None
        if not is_running(controller):
            ended = _describe_end(exit_status(controller, wait=1.0))
            raise self._failure(stage, f"the controller ended {ended}", self._controller_log)
        # Counting takes milliseconds, which controller and engines can use better.
        if self._children and time.monotonic() > self._next_count:
            self._count_children(controller, stage)
            self._next_count = time.monotonic() + _COUNT_EVERY

    def _count_children(self, controller: ProcessId, stage: str) -> None:
        # ipcontroller goes on without a scheduler that could not bind its port.
        children = count_children(controller)
        if children is not None and children < self._children:
            problem = f"{self._children - children} of the controller's {self._children} child processes ended"
            raise self._failure(stage, problem, self._controller_log)

    def _check_config(self, stage: str, log: Path) -> None:
        # IPython drops a config file that raises and goes on with defaults; only the log tells.
        dropped = find_dropped_config(read_last_lines(log, 1000))
        if dropped is not None:
            problem = f"{dropped} raises an exception and was dropped whole, so that the spec is not in force"
            raise self._failure(stage, problem, log)

    def _spawn(self, stage: str, command: Command) -> ProcessId:
        try:
            return spawn(command.argv, env=command.env, cwd=command.cwd, log=command.log)
        except OSError as error:
            raise StartError(stage, f"{error.filename or command.argv[0]}: {error.strerror}") from error

    def _failure(self, stage: str, problem: str, log: Path) -> StartError:
        lines = choose_lines(read_last_lines(log, 400), _LINES)
        stop(self._record.processes, grace=STOP_GRACE)
        taken = find_taken_ports(self._spec)
        if taken:
            numbers = ", ".join(str(port) for port in taken)
            problem += f"; of its ports (controller.ports) another program uses: {numbers}"
        return StartError(stage, problem, log=log, lines=lines)

    @property
    def _controller_log(self) -> Path:
        return Path(self._record.controller_log)

    @property
    def _left(self) -> float:
        return self._deadline - time.monotonic()

    @property
    def _timeout(self) -> str:
        return f"{self._spec.cluster.start_timeout:g} s (cluster.start_timeout)"


def _describe_end(status: int | None) -> str:
    if status is None:
        return "with an unknown status"
    return f"with status {status}" if status >= 0 else f"by signal {-status}"
