"""ipyparallel's controller with what it lacks to be supervised: parts of 9.2, replaced here and in heart_monitor.

Imported by the controller's own program alone: it puts its classes into ``ipyparallel.controller.app``.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

from ipyparallel import util as _util
from ipyparallel.controller import app as _app
from ipyparallel.controller import hub as _hub
from ipyparallel.controller import task_scheduler as _task_scheduler
from tornado.ioloop import IOLoop, PeriodicCallback
from traitlets import Instance

from stoker.launch.heart_monitor import start_heartmonitor
from stoker.launch.key_pair import read_or_draw_keys
from stoker.launch.lease import Lease, read_mark
from stoker.system.children import describe_status
from stoker.system.files import read_or_none, write_file
from stoker.system.logs import spare_records

__all__ = ["CHILD_DIED", "LEASE_OVER", "ControllerOrder", "parse_engine_state", "run_controller"]

LEASE_OVER = 69
"""Exit status after the lease ran out (EX_UNAVAILABLE of sysexits.h)."""

CHILD_DIED = 70
"""Exit status after a child died (EX_SOFTWARE)."""

_TELL_AGAIN = (0.2, 0.5, 1.0, 2.0)
"""Seconds after a restart at which clients are told of the engines; their subscriptions come back meanwhile."""

_SIGNAL_FIRST = 0.02
"""Seconds that a signal to the whole group may take to reach the hub after a child."""

_REAP = 1.0

_early: list[int] = []
"""Signals that came before the controller takes them itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerOrder:
    """What a controller is told beside the arguments of ``ipcontroller``."""

    lease_file: Path
    """Its supervisor touches this file."""

    lease: float
    """Seconds of its own running time that it goes on after the last touch."""

    end_note: Path
    """Is written when a client orders its end."""

    keys: Path
    """Keeps the key pair; used where encryption is on."""

    period: int | None = None
    """Milliseconds between two beats where no configuration says anything of beats; None: as ipyparallel has it."""

    silence: float | None = None
    """Then, seconds without a beat after which an engine is given up."""


def run_controller(order: ControllerOrder, arguments: Sequence[str]) -> int:
    """Be a controller until it ends, and give its exit status.

    Args:
        order: What is asked of it here.
        arguments: Those of ``ipcontroller``.

    Raises:
        StokerError: The key pair cannot be had.
    """
    _hold_signals()
    _app.Hub = Hub
    _app.TaskScheduler = TaskScheduler
    _app.start_heartmonitor = start_heartmonitor
    # IPController.init_hub sleeps 0.25 s, the one use of this name there: since 2011, for helper processes that were
    # started before it. Now they are started after it, and sockets connect whenever the other side is there.
    _app.time = SimpleNamespace(sleep=lambda seconds: None)
    # The hub reads a date of each task, after its form was checked: a sixth of its time, as dateutil does it.
    _util.dateutil_parse = datetime.fromisoformat
    IPController.launch_instance(list(arguments), order=order)
    status: int = IPController.instance().status
    return status


def _hold_signals() -> None:
    """Keep signals for later: ipyparallel takes them only when the connection files are there, and they would stay."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _note_early)
    os.register_at_fork(after_in_child=_release_signals)


def _note_early(signum: int, frame: FrameType | None) -> None:
    _early.append(signum)


def _release_signals() -> None:
    if signal.getsignal(signal.SIGTERM) is _note_early:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is _note_early:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def parse_engine_state(data: bytes) -> dict[str, Any] | None:
    """Parse an engine state file; None where it is not whole.

    Args:
        data: What ``Hub._save_engine_state`` of ipyparallel 9.2 writes: engines' uuids by number, and the next number.
    """
    try:
        state = json.loads(data)
        sound = isinstance(state["next_id"], int) and all(
            int(number) >= 0 and uuid.isascii() for number, uuid in state["engines"].items()
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return state if sound else None


class TaskScheduler(_task_scheduler.TaskScheduler):  # type: ignore[misc]
    """The scheduler of load-balanced tasks."""

    def _register_engine(self, uid: bytes) -> None:
        # Told of an engine twice, the stock one forgets its tasks and gives it twice the work.
        if uid not in self.targets:
            super()._register_engine(uid)


class Hub(_hub.Hub):  # type: ignore[misc]
    """The hub. Its name is that of the stock one, because that is the name of its section in configurations."""

    def __init__(self, **kwargs: Any) -> None:
        self._restored: Mapping[int, str] = {}
        self._saving = False
        self._died: float | None = None
        super().__init__(**kwargs)

    def shutdown_request(self, client_id: Any, msg: dict[str, Any]) -> None:
        """End because a client asked for it, and leave a note that says so."""
        try:
            write_file(self.parent.order.end_note, b"shutdown_request\n")
        except OSError as error:
            self.log.error("hub::no note of the ordered end can be left: %s", error)
        super().shutdown_request(client_id, msg)

    def _save_engine_state(self) -> None:
        # Once for all engines that come or go in one turn of the loop.
        if self.engine_state_file and not self._saving:
            self._saving = True
            self.loop.add_callback(self._write_engine_state)

    def _write_engine_state(self) -> None:
        self._saving = False
        engines = {number: engine.uuid for number, engine in self.engines.items()}
        state = {"engines": engines, "next_id": self._idcounter}
        try:
            write_file(Path(self.engine_state_file), json.dumps(state).encode())
        except OSError as error:
            self.log.error("hub::the engine state cannot be saved: %s", error)

    def _load_engine_state(self) -> None:
        file = Path(self.engine_state_file)
        data = read_or_none(file)
        if data is None or parse_engine_state(data) is None:
            fault = "missing" if data is None else "broken"
            self.log.error("hub::%s is %s: starting without engines; those of before must be started anew", file, fault)
            return
        self._died = json.loads(data).get("died")
        super()._load_engine_state()
        self._restored = {number: engine.uuid for number, engine in self.engines.items()}
        for delay in _TELL_AGAIN:
            self.loop.call_later(delay, self._tell_of_restored)

    def _tell_of_restored(self) -> None:
        """Tell clients of the engines that they know, under this hub's session: so they learn that it is a new one."""
        for number, uuid in self._restored.items():
            if number in self.engines and self.engines[number].uuid == uuid:
                content = {"id": number, "uuid": uuid}
                if self._died is not None:
                    # By this a client knows which of its tasks went with the controller before this one.
                    content["lost_before"] = time.time() - self._died
                self.session.send(self.notifier, "registration_notification", content=content)


class IPController(_app.IPController):  # type: ignore[misc]
    """The controller. Its name is that of the stock one, because that is the name of its section in configurations."""

    order = Instance(ControllerOrder)
    curve_publickey: bytes
    curve_secretkey: bytes
    write_connection_files: bool

    def __init__(self, **kwargs: Any) -> None:
        self.status = 0
        self._stopping = False
        super().__init__(**kwargs)

    # --- before anything binds

    def _ensure_curve_keypair(self) -> None:
        """Draw no pair as soon as encryption is switched on: it comes from the order's file when all is read."""

    def load_secondary_config(self) -> None:
        """Read the connection files of a controller before this one, where it is asked to, and its key pair."""
        super().load_secondary_config()
        self._fill_in_beats()
        if self.enable_curve and not (self.curve_publickey and self.curve_secretkey):
            pair = read_or_draw_keys(self.order.keys)
            self.curve_publickey, self.curve_secretkey = pair.public, pair.secret
        if not self.write_connection_files:
            self._check_connection_files()
        weighted = self.config.get("TaskScheduler", {}).get("scheme_name") == "weighted"
        if weighted and _task_scheduler.numpy is None:
            # Without it that scheduler leaves every task waiting.
            _task_scheduler.numpy = importlib.import_module("numpy")

    def _fill_in_beats(self) -> None:
        period, silence = self.order.period, self.order.silence
        if period and silence and not any("HeartMonitor" in place for place in (self.config, self.config.IPController)):
            self.config.HeartMonitor.period = period
            self.config.HeartMonitor.max_heartmonitor_misses = math.ceil(silence * 1000 / period)

    def _check_connection_files(self) -> None:
        key = self.curve_publickey.decode("ascii") if self.enable_curve else None
        if any(info.get("curve_serverkey") != key for info in (self.client_info, self.engine_info)):
            self.log.warning("the connection files name another server key: they are written anew")
            self.write_connection_files = True
        for info in (self.client_info, self.engine_info):
            # The stock log shows what is left, at level DEBUG.
            info.pop("key", None)

    def save_connection_dict(self, fname: str, cdict: dict[str, Any]) -> None:
        """Write a connection file whole, for its owner alone."""
        file = Path(self.profile_dir.security_dir) / fname
        self.log.info("writing connection info to %s", file)
        with suppress(FileNotFoundError):
            file.chmod(0o600)
        write_file(file, json.dumps(cdict, indent=2).encode())

    # --- from the start of the children on

    def init_signal(self) -> None:
        """Take the signals, and look after the children, which have just been started, and the lease."""
        super().init_signal()
        if _early:
            self.handle_signal(_early[0], None)
        for name, process in self._list_processes():
            # A copy, because the loop closes what it watches when it ends.
            ended = os.dup(process.sentinel)
            self.loop.add_handler(ended, partial(self._on_child_ended, name, process), IOLoop.READ)
        now = time.monotonic()
        self._lease = Lease(self.order.lease, mark=read_mark(self.order.lease_file), now=now)
        PeriodicCallback(self._look_at_lease, self._lease.period * 1000).start()

    def start(self) -> None:
        """Run until it is told to stop."""
        spare_records(self.log)
        try:
            super().start()
        finally:
            # Also one that is stopped (SIGSTOP), for which the interpreter would wait at its end.
            self._kill_children()

    def handle_signal(self, sig: int, frame: FrameType | None) -> None:
        """Stop because a signal says so."""
        self._stopping = True
        super().handle_signal(sig, frame)

    def terminate_children(self) -> None:
        """End the children: they hold nothing that they could save, and a stopped one would not hear SIGTERM."""
        self.log.critical("terminating children...")
        self._kill_children()

    def _kill_children(self) -> None:
        for _, process in self._list_processes():
            process.kill()

    def _list_processes(self) -> list[tuple[str, BaseProcess]]:
        # Relays wrap their process; with use_threads there is none but the heart monitor.
        found = [(str(child.name), getattr(child, "launcher", child)) for child in self.children]
        found.append(("HeartMonitor", self.heartmonitor_process))
        return [(name, each) for name, each in found if isinstance(each, BaseProcess) and each.pid is not None]

    def _on_child_ended(self, name: str, process: BaseProcess, handle: int, events: int) -> None:
        self.loop.remove_handler(handle)
        os.close(handle)
        self.loop.call_later(_SIGNAL_FIRST, self._lose, name, process)

    def _lose(self, name: str, process: BaseProcess) -> None:
        if self._stopping:
            return
        process.join(_REAP)
        status = process.exitcode
        how = "has closed its files" if status is None else describe_status(status)
        self.log.critical("%s (process %s) %s: a controller is none without it, leaving", name, process.pid, how)
        self._kill_children()
        # Their ports are free when this process is gone.
        for _, each in self._list_processes():
            each.join(_REAP)
        # At once, and as after a kill: the connection files stay, for a controller that is started again.
        sys.stderr.flush()
        os._exit(CHILD_DIED)

    def _look_at_lease(self) -> None:
        if self._lease.is_over(mark=read_mark(self.order.lease_file), now=time.monotonic()):
            self.log.critical("no supervisor for %g s: the lease is over, leaving", self.order.lease)
            self._stopping = True
            self.status = LEASE_OVER
            # Nobody is there who would use them again, or remove them.
            self.reuse_files = False
            self.terminate_children()
            self.loop.stop()
