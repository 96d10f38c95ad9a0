"""The engine: ipyparallel's, started from an order, without a nanny, known to its agent through a page."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import threading
import traceback
from copy import deepcopy
from types import FrameType
from typing import Any

from ipykernel.iostream import OutStream
from ipyparallel.engine import app as _stock
from traitlets import Type
from traitlets.config import Config

from stoker.agent.interrupt import EngineStopped, end_tasks
from stoker.agent.kernel import EngineKernel
from stoker.agent.notice import write_will
from stoker.agent.order import NUMBER_TAKEN, EngineOrder
from stoker.agent.output import EngineStream
from stoker.agent.page import READY, EnginePage
from stoker.agent.setup import run_setups
from stoker.system.logs import spare_records

__all__ = ["read_arguments", "run_engine"]

_read: dict[tuple[str, ...], tuple[Config, list[str]]] = {}
"""What arguments say, by the arguments."""


def read_arguments(arguments: tuple[str, ...]) -> None:
    """Read the arguments of an engine that is about to be forked.

    Not after the fork: the parser knows every trait of every class, and each engine would have pages of its own of it.
    """
    if arguments not in _read:
        # Wrong ones are read again, and complained of, where the complaint goes to the engine's log.
        with contextlib.suppress(Exception, SystemExit), contextlib.redirect_stderr(None):
            parser = _stock.IPEngine()
            parser.parse_command_line(list(arguments))
            _read[arguments] = parser.cli_config, parser.extra_args


def run_engine(order: EngineOrder, page: EnginePage) -> None:
    """Be an engine until it ends; the caller then leaves by the interpreter's normal exit."""
    os.register_at_fork(before=_hold_signals, after_in_parent=_release_signals, after_in_child=_forget_handlers)
    # Until the kernel takes it, there is nothing to interrupt. What this process starts is not to ignore it too.
    signal.signal(signal.SIGINT, lambda signum, frame: None)
    sys.argv = ["ipengine", *order.arguments]
    # The kernel that an engine makes is named in this module only.
    _stock.Kernel = EngineKernel
    engine = Engine.instance(
        connection_info_env=json.dumps(dict(order.connection)), order=order, page=page, config=_render_config(order)
    )
    engine.initialize(list(order.arguments))
    engine.start()


class Engine(_stock.IPEngine):  # type: ignore[misc]
    """An engine of an agent."""

    order: EngineOrder
    page: EnginePage
    out_stream_factory = Type(EngineStream, klass=OutStream, config=True, help=_stock.IPEngine.out_stream_factory.help)

    def __init__(self, *, order: EngineOrder, page: EnginePage, **kwargs: Any) -> None:
        self.order = order
        self.page = page
        super().__init__(**kwargs)

    def parse_command_line(self, argv: list[str] | None = None) -> None:
        """Take what the arguments say."""
        if tuple(argv or ()) not in _read:
            super().parse_command_line(argv)
            return
        self.argv = list(argv or ())
        config, self.extra_args = _read[tuple(self.argv)]
        self.cli_config = deepcopy(config)
        self.update_config(self.cli_config)

    async def complete_registration(self, *args: Any) -> None:
        """Connect to the schedulers and start the kernel, then be ready."""
        self.page.uuid = self.ident
        # Until it is known what the hub gave it.
        self._write_will(self.order.number)
        await super().complete_registration(*args)
        self.page.number = self.id
        self._write_will(self.id)
        if self.order.exact and self.id != self.order.number >= 0:
            # Another engine of this number still is registered; views that were made for it would miss this one.
            self.log.critical(f"the hub gave number {self.id} instead of {self.order.number}: leaving")
            # Its agent tells the hub that it is gone: what this process would send now might never leave it.
            os._exit(NUMBER_TAKEN)
        spare_records(self.log)
        self.page.phase = READY

    def start_heartbeat(self, hb_ping: str, hb_pong: str, hb_period: int, identity: bytes) -> None:
        """Take part in the heartbeat, with a patience that is a time however often the controller beats."""
        if self.order.silence is not None and "max_heartbeat_misses" not in self.config.IPEngine:
            # It looks this much more seldom than the controller beats.
            self.max_heartbeat_misses = math.ceil(self.order.silence * 1000 / (hb_period + 500))
        super().start_heartbeat(hb_ping, hb_pong, hb_period, identity)

    def start(self) -> None:
        """Serve until the loop is stopped."""
        try:
            super().start()
        except RuntimeError as error:
            # What tornado says of a loop that is stopped, which is how an engine ends.
            if "stopped before" not in str(error):
                raise

    def redirect_output(self, iopub_socket: Any) -> None:
        """Run the set-ups, after the start-up code and before the first task, then send output to clients."""
        kernel = self.kernel
        kernel.page = self.page
        try:
            run_setups(self.order.setups, kernel.shell.user_ns)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        super().redirect_output(iopub_socket)

    def init_signal(self) -> None:
        """Take signals; the kernel has taken SIGINT."""
        signal.signal(signal.SIGTERM, self._signal_stop)

    def unregister(self) -> None:
        """Tell the hub that this engine leaves."""
        self.session.send(self.registrar, "unregistration_request", content={"id": self.id})

    def _write_will(self, number: int) -> None:
        message = self.session.msg("unregistration_request", content={"id": number})
        self.page.will = write_will(self.registration_url, self.curve_serverkey, self.session.serialize(message))

    def _signal_stop(self, sig: int, frame: FrameType | None) -> None:
        super()._signal_stop(sig, frame)
        # The loop, which ends the engine, comes only after the task; and one may be about to begin.
        reason = f"engine {self.id} was told to end"
        end_tasks(reason)
        if self.kernel.frames.holds(frame):
            raise EngineStopped(reason)


def _render_config(order: EngineOrder) -> Config:
    config = Config({name: dict(traits) for name, traits in order.config.items()})
    config.IPEngine.enable_nanny = False
    if order.number >= 0:
        config.IPEngine.id = order.number
    if order.work_dir is not None:
        config.IPEngine.work_dir = order.work_dir
    # Stock engines keep a database of their cells in memory, which ends with them; what %history shows is beside it.
    config.HistoryManager.setdefault("enabled", False)
    return config


# What a task forks (multiprocessing) must be stoppable: a Pool ends its workers with SIGTERM, each once. A signal that
# came to a child before it had forgotten the engine's handlers would be lost.
_HELD = (signal.SIGTERM, signal.SIGINT)
_held = threading.local()


def _hold_signals() -> None:
    _held.before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _held.before)


def _forget_handlers() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _release_signals()
