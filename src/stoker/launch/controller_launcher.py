"""The launcher ``stoker`` of controllers, for ``ipyparallel.Cluster(controller="stoker")`` and ``ipcluster``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import uuid
from pathlib import Path
from typing import Any

from ipyparallel.cluster import launcher as _stock
from traitlets import Unicode

from stoker.launch.local_launcher import LocalLauncher
from stoker.launch.loop_thread import LoopThread
from stoker.system.runtime import make_runtime_directory, remove_runtime_directory, runtime_directory

__all__ = ["StokerControllerLauncher"]

_QUICKEST = 100
_SLOWEST = 3000
_EACH = 10
"""Milliseconds between two beats of a controller, for each engine: beats cost CPU."""
_BEYOND_LEASE = 30.0


class StokerControllerLauncher(LocalLauncher, _stock.ControllerLauncher):  # type: ignore[misc]
    """Starts a controller that ends with whatever ends a part of it, and that beats quickly.

    Whoever has the launcher, because it started the controller or found it by its cluster file, keeps its lease.
    """

    runtime = Unicode().tag(to_dict=True)
    """The directory of its lease and its key pair; empty in a supervised cluster."""

    def find_args(self) -> list[str]:
        """Give the command line; no key is in it."""
        runtime = Path(self.runtime)
        return [
            sys.executable,
            "-m",
            "stoker.launch.controller",
            f"--lease-file={runtime / 'lease'}",
            f"--lease={self.lease_in_force}",
            f"--end-note={runtime / 'ended'}",
            f"--keys={runtime / 'keys'}",
            "--tidy",
            f"--period={self._size_period()}",
            f"--silence={self.lease + _BEYOND_LEASE}",
            "--",
            *self.cluster_args,
            *self.controller_args,
        ]

    def start(self) -> Any:
        """Start it, and keep its lease for as long as this process lives."""
        self._fix_lease()
        runtime = runtime_directory(f"ipyparallel {Path(self.profile_dir).absolute()}:{self.cluster_id}:{uuid.uuid4()}")
        self.runtime = str(runtime)
        make_runtime_directory(runtime)
        (runtime / "lease").touch(mode=0o600)
        started = super().start()
        self._keep_lease()
        return started

    @classmethod
    def from_dict(cls, d: dict[str, Any], **kwargs: Any) -> Any:
        """Find the controller of a cluster file again, and keep its lease from now on.

        Raises:
            NotRunning: It is gone.
        """
        self = super().from_dict(d, **kwargs)
        if self.runtime:
            if not _belongs(self.process, self.runtime):
                # Another has got its number; it is not to be stopped in its place, nor waited for.
                self._stop_waiting.set()
                raise _stock.NotRunning(f"process {self.pid} is no controller of this cluster")
            self._keep_lease()
        return self

    async def _stop_own(self) -> None:
        await super()._stop_own()
        self._clean()

    def notify_stop(self, data: Any) -> Any:
        """Tell of the end."""
        self._clean()
        return super().notify_stop(data)

    def _clean(self) -> None:
        if self.runtime:
            remove_runtime_directory(Path(self.runtime))

    def _keep_lease(self) -> None:
        asyncio.run_coroutine_threadsafe(self._touch(Path(self.runtime) / "lease"), LoopThread.shared().loop)

    async def _touch(self, lease: Path) -> None:
        while self.state in ("before", "running"):
            with contextlib.suppress(OSError):
                os.utime(lease)
            await asyncio.sleep(min(1.0, self.lease / 8))

    def _size_period(self) -> int:
        engines = getattr(self.parent, "n", None) or os.cpu_count() or 1
        return max(_QUICKEST, min(_EACH * engines, _SLOWEST))


def _belongs(process: Any, runtime: str) -> bool:
    try:
        return any(runtime in word for word in process.cmdline())
    except _stock.psutil.Error:
        return False
