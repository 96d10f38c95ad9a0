"""The kernel of an engine: ipyparallel's, with interrupts that lose no reply, signals, and a way to leave."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FrameType
from typing import Any, ClassVar

from ipykernel import ipkernel as _ipykernel
from ipykernel.zmqshell import ZMQInteractiveShell
from ipyparallel.engine import kernel as _stock
from traitlets import Any as AnyTrait
from traitlets import Bool, Type

from stoker.agent.interrupt import TaskFrames, run_task
from stoker.agent.page import LEAVING
from stoker.system.machine import read_boot

__all__ = ["EngineKernel", "EngineShell"]

_REPLY_FIRST = 0.05
"""Seconds between the reply to a request for a signal that ends this process, and the signal."""
_QUIET = 0.1
"""Seconds without a message after which a leaving engine tells the hub."""
_LAST_WORDS = 0.3
"""Seconds without a message, after the hub was told, until it leaves."""


class _NoModules:
    """``sys`` without a module in it."""

    modules: ClassVar[dict[str, Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


@contextlib.contextmanager
def _without_module_list() -> Iterator[None]:
    # For debuggers that there are not, ipykernel asks every module for its file: 2 MB of pages that each engine would
    # then have for itself.
    before, _ipykernel.sys = _ipykernel.sys, _NoModules()
    try:
        yield
    finally:
        _ipykernel.sys = before


def _unpack_as_task(buffers: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
    function, arguments, keywords = _unpack(buffers, *args, **kwargs)
    return partial(_run_from, function), arguments, keywords


def _run_from(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return run_task(function, args, kwargs)


# do_apply unpacks, runs and answers in one function; this is the one place between the first two.
_unpack = _stock.unpack_apply_message
_stock.unpack_apply_message = _unpack_as_task


class EngineShell(ZMQInteractiveShell):  # type: ignore[misc]
    """The shell of an engine."""

    async def run_code(self, code_obj: CodeType, *args: Any, **kwargs: Any) -> bool:
        """Run a piece of a cell; an interrupt may hit it."""
        with self.kernel.frames.add(code_obj):
            return bool(await super().run_code(code_obj, *args, **kwargs))

    runcode = run_code

    def _showtraceback(self, etype: Any, evalue: BaseException, stb: list[str]) -> None:
        super()._showtraceback(etype, evalue, stb)
        if self.kernel.page is None:
            # Of start-up code: no client hears it, so the log must tell.
            traceback.print_exception(evalue, file=sys.__stderr__)


class _NoShellThread:
    """Stands for the thread that ipykernel 7 receives with, which engines have none of; a cell that awaits asks it."""

    parent_thread = threading.main_thread()

    def __bool__(self) -> bool:
        return False


class EngineKernel(_stock.IPythonParallelKernel):  # type: ignore[misc]
    """The kernel of an engine."""

    shell_class = Type(EngineShell)
    page = AnyTrait()
    """The memory that it shares with its agent."""
    reroutes = Bool(True, config=True)
    """Whether the task scheduler gives a task to another engine when this one declines it."""

    control_msg_types: ClassVar[list[str]] = [
        *_stock.IPythonParallelKernel.control_msg_types,
        "signal_request",
        "drain_request",
    ]

    def __init__(self, **kwargs: Any) -> None:
        self.frames = TaskFrames()
        self._draining = False
        self._heard = 0.0
        # Without one, its shell makes itself a profile "default" in the user's IPython directory.
        kwargs.setdefault("profile_dir", kwargs["parent"].profile_dir)
        with _without_module_list():
            super().__init__(**kwargs)
        self.shell_channel_thread = _NoShellThread()
        # ipykernel gives each handler of its own the default one for as long as it runs.
        signal.signal(signal.SIGINT, self._on_interrupt)

    @property
    def _supports_kernel_subshells(self) -> bool:
        return False

    def pre_handler_hook(self) -> None:
        """Leave the interrupt's handler as it is."""

    def post_handler_hook(self) -> None:
        """Leave the interrupt's handler as it is."""

    def _publish_status(self, status: str, channel: str, parent: dict[str, Any] | None = None) -> None:
        # A client of this host says so where it reads from memory what is run, and waits for no such message.
        quiet = channel == "shell" and (parent or self.get_parent(channel)).get("metadata", {}).get("quiet")
        if not (quiet and quiet == read_boot()):
            super()._publish_status(status, channel, parent)

    def should_handle(self, stream: Any, msg: dict[str, Any], idents: Any) -> bool:
        """Say whether a message is to be handled; a leaving engine hands tasks back to the scheduler."""
        self._heard = time.monotonic()
        if not super().should_handle(stream, msg, idents):
            return False
        # Only the load-balanced view writes this.
        if self._draining and self.reroutes and "retries" in msg.get("metadata", {}):
            self._decline(stream, msg, idents)
            return False
        return True

    def apply_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Run a task and answer."""
        self.page.begin_task()
        try:
            super().apply_request(stream, ident, parent)
        finally:
            self.page.end_task()
            self._heard = time.monotonic()

    async def execute_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Run a cell and answer."""
        self.page.begin_task()
        try:
            await super().execute_request(stream, ident, parent)
        finally:
            self.page.end_task()
            self._heard = time.monotonic()

    async def do_shutdown(self, restart: bool) -> dict[str, Any]:
        """Leave because a client asked for it, which is no death."""
        self.page.phase = LEAVING
        return {"status": "ok", "restart": restart}

    def signal_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Send this process a signal, as ``Client.send_signal`` asks; the reply comes first where it may end it."""
        wanted = parent["content"]["sig"]
        signum = getattr(signal, wanted, None) if isinstance(wanted, str) else wanted
        if signum not in signal.valid_signals():
            self._refuse(stream, ident, parent, f"no such signal: {wanted}")
            return
        self._answer(stream, ident, parent, "signal_reply")
        if signum == signal.SIGINT:
            os.kill(os.getpid(), signum)
        else:
            self.control_stream.io_loop.call_later(_REPLY_FIRST, os.kill, os.getpid(), signum)

    async def interrupt_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Interrupt the running task, if one runs."""
        os.kill(os.getpid(), signal.SIGINT)
        self._answer(stream, ident, parent, "interrupt_reply")

    def drain_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Leave when the running task is done."""
        self.page.phase = LEAVING
        self._answer(stream, ident, parent, "drain_reply")
        # On the loop that runs the tasks: it comes there when none runs.
        self.io_loop.add_callback(self._drain)

    def _answer(self, stream: Any, ident: Any, parent: dict[str, Any], kind: str) -> None:
        self.session.send(stream, kind, content={"status": "ok"}, parent=parent, ident=ident)

    def _refuse(self, stream: Any, ident: Any, parent: dict[str, Any], problem: str) -> None:
        content = {"status": "error", "ename": "ValueError", "evalue": problem, "traceback": []}
        self.session.send(stream, "signal_reply", content=content, parent=parent, ident=ident)

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self.frames.holds(frame):
            raise KeyboardInterrupt

    async def _drain(self) -> None:
        self._draining = True
        self._heard = time.monotonic()
        self._when_quiet(_QUIET, self._part)

    def _part(self) -> None:
        self.parent.unregister()
        self._heard = time.monotonic()
        self._when_quiet(_LAST_WORDS, self.io_loop.stop)

    def _when_quiet(self, seconds: float, act: Callable[[], None]) -> None:
        left = self._heard + seconds - time.monotonic()
        if left <= 0:
            act()
        else:
            self.io_loop.call_later(left, self._when_quiet, seconds, act)

    def _decline(self, stream: Any, msg: dict[str, Any], ident: Any) -> None:
        content = {
            "status": "error",
            "ename": "UnmetDependency",
            "evalue": "this engine is leaving",
            "traceback": [],
            "engine_info": self.get_engine_info(method="apply"),
        }
        metadata = self.finish_metadata(msg, self.init_metadata(msg), content)
        self.session.send(stream, "apply_reply", content, parent=msg, ident=ident, metadata=metadata)
        sys.stdout.flush()
