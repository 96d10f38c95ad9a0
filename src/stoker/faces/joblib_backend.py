"""The joblib backend: ``with joblib.parallel_config("stoker", profile=...)``, after ``stoker.register_joblib()``.

joblib asks its backend how many tasks to put into one call; the answer comes from the time that engines took for them.
Parallel calls within tasks run in threads of their engine, and one by one below that, as with joblib's own backends.
"""

from __future__ import annotations

import threading
import weakref
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from joblib import register_parallel_backend
from joblib.parallel import ParallelBackendBase

from stoker.cluster import Cluster, connect
from stoker.compute.executor import Executor

__all__ = ["StokerBackend", "register_joblib"]

_CALL = 0.1
"""Seconds of work in a call of several tasks, at most; stoker puts several of these into a message."""
_GROWTH = 8


def register_joblib() -> None:
    """Make stoker known to joblib, under the name ``stoker``; doing it again does no harm."""
    register_parallel_backend("stoker", StokerBackend)


class StokerBackend(ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's tasks on the engines of a cluster."""

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self,
        *,
        profile: str | Path | None = None,
        ipython_dir: str | Path | None = None,
        cluster: Cluster | None = None,
        nesting_level: int | None = None,
        **options: Any,
    ) -> None:
        """Connect.

        Args:
            profile: As of ``stoker.connect``; None: the only cluster that runs.
            ipython_dir: As of ``stoker.connect``.
            cluster: A connection to take instead; it stays open.
            nesting_level: Given by joblib.
            **options: As of ``stoker.compute.Executor``.

        Raises:
            NotRunningError: No such cluster runs.
            ConnectError: It does not answer.
        """
        super().__init__(nesting_level=nesting_level)
        if cluster is None:
            cluster = connect(profile, ipython_dir=ipython_dir)
            # joblib tells nobody when parallel_config ends.
            weakref.finalize(self, cluster.close)
        self._cluster = cluster
        self._options = options
        self._executor: Executor | None = None
        self._lock = threading.Lock()
        self._n_jobs: int | None = None
        self._done = self._largest = 0
        self._before = 0.0
        """Seconds in functions that the executor had before this parallel call."""

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Count the workers that a parallel call has: engines, at most ``n_jobs`` of them.

        A single engine counts as two, because joblib runs what has one worker in the calling process.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs == 1:
            return 1
        engines = len(self._cluster.client.ids)
        wanted = engines if n_jobs is None else n_jobs if n_jobs > 0 else engines + 1 + n_jobs
        return max(2, min(wanted, engines))

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """Take a new parallel call."""
        self.parallel = parallel
        self._n_jobs = self.effective_n_jobs(n_jobs)
        return self._n_jobs

    def start_call(self) -> None:
        """Begin a parallel call."""
        self._done = self._largest = 0
        self._before = 0.0 if self._executor is None else self._executor.summary.busy

    def submit(self, func: Any, callback: Any = None) -> Future[Any]:
        """Have a call of some tasks run."""
        with self._lock:
            if self._executor is None:
                self._executor = self._make_executor()
                self._before = 0.0
            executor = self._executor
        future = executor.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Give a call's result, or raise what it raised."""
        return out.result()

    def compute_batch_size(self) -> int:
        """Say how many tasks go into the next call."""
        executor = self._executor
        if executor is None or not self._done:
            return 1
        each = (executor.summary.busy - self._before) / self._done
        return max(1, min(int(_CALL / each) if each else _GROWTH * self._largest, _GROWTH * self._largest))

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """Note that a call has ended."""
        self._done += batch_size
        self._largest = max(self._largest, batch_size)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel what waits and interrupt what runs."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.abandon()

    def terminate(self) -> None:
        """End; the connection stays for the next parallel call."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    def __reduce__(self) -> Any:
        raise TypeError("a connection to a cluster cannot be sent to its engines")

    def _make_executor(self) -> Executor:
        ids = self._cluster.client.ids
        if self._n_jobs is None or self._n_jobs >= len(ids):
            return self._cluster.executor(**self._options)
        view = self._cluster.client.load_balanced_view(ids[: self._n_jobs])
        return Executor(view, explain=self._cluster.explain, **self._options)
