"""What stoker's launchers share: processes of ``ipyparallel.Cluster`` on this machine, and a line to a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from ipyparallel.cluster import launcher as _stock
from traitlets import Float, Unicode, default

from stoker.errors import SupervisorError
from stoker.launch.supervisor_line import ask_supervisor, is_supervised

__all__ = ["ANSWER", "LocalLauncher", "read_launcher_connection"]

ANSWER = 10.0
"""Seconds that a supervisor or an agent may take to answer."""

_CONNECTION_VARIABLE = "IPP_CONNECTION_INFO"
_DOWN = 20.0
_POLL = 0.02
_FOR_EVER = 1e9


class LocalLauncher(_stock.LocalProcessLauncher):  # type: ignore[misc]
    """One process, or, in a cluster that ``stoker up`` started, what stands for its supervisor."""

    entrypoint_name = "stoker"

    control_socket = Unicode().tag(to_dict=True)
    """Where the supervisor answers; empty for a cluster without one."""

    lease = Float(
        120.0,
        config=True,
        help="Seconds that it goes on without the process that started it; for ever with --daemonize.",
    ).tag(to_dict=True)

    lease_in_force = Float().tag(to_dict=True)
    """The lease, or, where the cluster is to outlive the process that starts it, for ever."""

    _end: dict[str, Any] | None = None
    _is_stopping = False

    @default("lease_in_force")
    def _default_lease_in_force(self) -> float:
        return float(self.lease)

    @classmethod
    def from_dict(cls, d: dict[str, Any], **kwargs: Any) -> Any:
        """Find what a cluster file tells of again.

        Raises:
            NotRunning: It is gone.
        """
        if d.get("control_socket"):
            if not is_supervised(Path(d["control_socket"])):
                raise _stock.NotRunning(f"no supervisor listens at {d['control_socket']}")
            # Its logs stay when it is stopped.
            d = {**d, "output_file": ""}
        return super().from_dict(d, **kwargs)

    async def stop(self) -> None:
        """End it; in a supervised cluster, everything.

        Raises:
            TimeoutError: It goes on.
        """
        self._is_stopping = True
        if self.control_socket:
            await self._stop_all()
        else:
            await self._stop_own()
        if self._end is not None:
            # A second time where a loop has told it: then nothing happens.
            self.notify_stop(self._end)

    async def _stop_all(self) -> None:
        with contextlib.suppress(SupervisorError):
            # The other launcher of the cluster may have been faster.
            await _run_aside(ask_supervisor, Path(self.control_socket), "down", timeout=_DOWN)
        await self.join(timeout=self.stop_timeout)
        # All of it has ended: nobody is to write the cluster file again because another part looks alive.
        for each in (self.parent.controller, *self.parent.engines.values()):
            if getattr(each, "control_socket", "") == self.control_socket:
                each.state = "after"

    async def join(self, timeout: float | None = None) -> None:
        """Wait for its end, without holding up the loop that tells of it.

        Raises:
            TimeoutError: It goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        thread = self._wait_thread
        # Not in a thread of its own: none can be started while the interpreter ends, which is when Cluster cleans up.
        while thread is not None and thread.is_alive():
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} did not end within {timeout} s")
            await asyncio.sleep(_POLL)

    async def _stop_own(self) -> None:
        await super().stop()

    def _wait(self) -> None:
        """Wait, in a thread, for its end, and tell of it: in the loop that it was started in, while there is that.

        ipyparallel's own tells nobody where the loop was that of one synchronous call.
        """
        while not self._stop_waiting.is_set() and self.state == "running":
            with contextlib.suppress(_stock.psutil.TimeoutExpired):
                status = self.process.wait(timeout=self.poll_seconds)
                break
        else:
            return
        if self._popen_process is not None:
            # Reaped it is already; this object does not know.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen_process.wait(0)
        self._end = {"exit_code": status, "pid": self.pid, "identifier": self.identifier}
        if not self.loop.asyncio_loop.is_closed():
            self.loop.add_callback(self.notify_stop, self._end)
        elif not self._is_stopping:
            self.notify_stop(self._end)

    def _fix_lease(self) -> None:
        # Whoever says that the cluster is to outlive the process that starts it (ipcluster --daemonize) means it.
        self.lease_in_force = self.lease if getattr(self.parent, "shutdown_atexit", True) else _FOR_EVER


async def read_launcher_connection(launcher: Any) -> dict[str, Any]:
    """Give the engines' connection file of a launcher's controller.

    Raises:
        LauncherError: There is none.
    """
    # Never in the environment, where it would reach whatever engines start.
    given = launcher.environment.pop(_CONNECTION_VARIABLE, None)
    if given:
        connection: dict[str, Any] = json.loads(given)
        return connection
    path = Path(launcher.connection_files["engine"])
    deadline = time.monotonic() + ANSWER
    while True:
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(path.read_text())
            return found
        if time.monotonic() > deadline:
            raise _stock.LauncherError(f"no controller: there is no connection file {path}")
        await asyncio.sleep(_POLL)


async def _run_aside(function: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    except RuntimeError:
        # The interpreter ends: no thread can be had, and nobody is left who could be held up.
        return function(*args, **kwargs)
