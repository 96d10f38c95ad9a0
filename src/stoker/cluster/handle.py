"""The cluster in a user's hands: its client, its view, its engines, its end."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stoker.cluster.start import start_cluster
from stoker.cluster.status import ClusterStatus, EngineStatus, read_status
from stoker.cluster.stop import Stopped, stop_cluster
from stoker.cluster.target import Address, Target, find_cluster, resolve_spec
from stoker.compute import ParallelFunction, parallel
from stoker.errors import NotRunningError

__all__ = ["Cluster", "connect", "up"]

_CONNECT = 10.0
"""Seconds that a running controller has to answer a new client."""


class Cluster:
    """A running cluster.

    As a context manager it is taken down at the end if this object started it; otherwise only the
    connection to it is closed.
    """

    def __init__(self, address: Address, *, started: bool, notices: tuple[str, ...] = ()) -> None:
        self._address = address
        self.started = started
        """Whether this object started it, rather than found it running."""
        self.notices = notices
        """What to know about it, such as that it is not encrypted."""

    @property
    def name(self) -> str:
        """The profile's name, with the cluster id where there is one."""
        return self._address.name

    @cached_property
    def client(self) -> Any:
        """An ``ipyparallel.Client``, connected at first use.

        Raises:
            ConnectError: The controller does not answer.
        """
        from stoker.cluster.client import connect_client

        return connect_client(self._address.directory, self._address.cluster_id, timeout=_CONNECT)

    @cached_property
    def view(self) -> Any:
        """An ``ipyparallel.LoadBalancedView`` on all engines."""
        return self.client.load_balanced_view()

    @property
    def engines(self) -> tuple[EngineStatus, ...]:
        """The engines, by number, as they are now."""
        return self.status().engines

    def status(self) -> ClusterStatus:
        """Ask how the cluster is."""
        return read_status(self._address)

    def parallel(self, **options: Any) -> Callable[[Callable[..., Any]], ParallelFunction[Any]]:
        """Decorate a function so that it runs on the engines, in the manner of ``@view.parallel``.

        ``f.map(seq)`` and ``f(seq)`` both give it elements (plain ipyparallel gives slices to the latter).

        Args:
            **options: ``block``, ``ordered`` and ``chunksize``, as of ``stoker.compute.parallel``.
        """
        return parallel(self.view, **options)

    def close(self) -> None:
        """Close the connection; the cluster goes on."""
        client = self.__dict__.pop("client", None)
        self.__dict__.pop("view", None)
        if client is not None:
            client.close()

    def down(self) -> Stopped:
        """End the cluster.

        Raises:
            NotRunningError: It has ended already.
        """
        self.close()
        return stop_cluster(self._address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.started:
            self.down()
        else:
            self.close()

    def __repr__(self) -> str:
        return f"<stoker.Cluster {self.name}>"


def up(
    target: Target = None,
    *,
    ipython_dir: Path | str | None = None,
    wait: float = 120.0,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Cluster:
    """Make a cluster run and connect to it; one that runs already is left as it is.

    What the user should know about the cluster, such as that it is not encrypted, is a ``UserWarning``.

    Args:
        target: The path of a spec, the name of a profile that one was applied to, a spec, or nothing for one
            engine per core of this machine.
        ipython_dir: Where profiles are; None: as the spec says, else IPython's.
        wait: Seconds to wait for another process that starts or stops the same cluster.
        on_stage: Told each stage of the start as it begins.

    Raises:
        SpecError: The spec is faulty; nothing was started.
        UnknownTargetError: There is no such spec or profile.
        StartError: A stage of the start failed; nothing is left running.
        BusyError: Another process is still starting or stopping it.
    """
    spec, source = resolve_spec(target, ipython_dir=_as_path(ipython_dir))
    started = start_cluster(spec, source=source, wait=wait, on_stage=on_stage)
    for notice in started.notices:
        warnings.warn(notice, stacklevel=2)
    return Cluster(started.address, started=started.new, notices=started.notices)


def connect(target: Target = None, *, ipython_dir: Path | str | None = None) -> Cluster:
    """Connect to a cluster that runs.

    Args:
        target: A profile's name, or a spec or its path; None: the only one that runs.
        ipython_dir: Where profiles are; None: IPython's.

    Raises:
        NotRunningError: It does not run, or without a name none or several do.
        ConnectError: It runs, but does not answer.
    """
    address = find_cluster(target, ipython_dir=_as_path(ipython_dir))
    cluster = Cluster(address, started=False)
    if read_status(address).state == "stopped":
        raise NotRunningError(f"{address.name}: no cluster runs under this profile; start it with: stoker up")
    _ = cluster.client
    return cluster


def _as_path(path: Path | str | None) -> Path | None:
    return None if path is None else Path(path)
