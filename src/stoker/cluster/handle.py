"""The cluster in a user's hands: its client, its view, its engines, its end."""

from __future__ import annotations

import contextlib
import signal
import time
import uuid
import warnings
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from stoker.agent.setup import Setup, pack_setup
from stoker.cluster.attach import ask_cluster
from stoker.cluster.log_view import LogLine, choose_logs, read_logs
from stoker.cluster.start import start_cluster
from stoker.cluster.status import ClusterStatus, EngineStatus, read_status
from stoker.cluster.stop import Stopped, stop_cluster
from stoker.cluster.target import Address, Target, find_cluster, resolve_spec
from stoker.errors import ConnectError, NotRunningError, StokerError
from stoker.spec import ClusterSpec

if TYPE_CHECKING:
    from stoker.compute.executor import Executor
    from stoker.compute.futures import CallFuture
    from stoker.compute.mapping import MappedFunction
    from stoker.compute.summary import Summary

__all__ = ["Cluster", "connect", "up"]

_CONNECT = 10.0
"""Seconds that a running controller has to answer a new client."""
_SHORT = 10.0
_TOLD = 1.0
"""Seconds that the news of a death may take."""
_LONG = 700.0
"""Seconds that a supervisor has at the most for what needs new engines; it keeps to ``cluster.start_timeout``."""


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
        self.summary: Summary | None = None
        """What became of the map that ended last; None before the first. Executors have summaries of their own."""

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

    def scale(self, count: int, *, group: int | None = None) -> dict[str, Any]:
        """Change the number of engines; new ones are ready when this returns, those that leave finish what they run.

        Args:
            count: How many there are to be.
            group: Of which group, by its place in the spec; needed only where there are several.

        Returns:
            ``added`` and ``leaving``, each a list of engine numbers, and ``wanted``, how many there are to be in all.

        Raises:
            SupervisorError: There is no such group, or the new engines do not come up.
        """
        answer = ask_cluster(self._address, "scale", timeout=_LONG, count=count, group=group)
        self._catch_up()
        return answer

    def restart(self, *, engine: int | None = None, controller: bool = False) -> list[str]:
        """Start something again: one engine, under its number, or all, or the controller; it is back on return.

        Engines lose their namespaces; with the controller they keep them, and what was under way is lost.

        Args:
            engine: The engine's number; None: all.
            controller: The controller instead.

        Returns:
            What was started again, such as ``engine 3``.

        Raises:
            SupervisorError: There is no such engine, or it does not come back.
        """
        answer = ask_cluster(self._address, "restart", timeout=_LONG, engine=engine, controller=controller)
        self._catch_up()
        return list(answer["restarted"])

    def interrupt(self, engine: int | None = None) -> list[int]:
        """Interrupt what an engine runs (KeyboardInterrupt in the task), or what all run.

        It goes through the engine's agent, so that it also reaches one that is in C code, when that returns.

        Args:
            engine: The engine's number; None: all.

        Returns:
            The numbers of the engines that were told.
        """
        return self.signal(signal.SIGINT, engine)

    def signal(self, signum: int, engine: int | None = None) -> list[int]:
        """Send a signal to an engine, or to all; one that dies of it is started again.

        Args:
            signum: Such as ``signal.SIGUSR1``.
            engine: The engine's number; None: all.

        Returns:
            The numbers of the engines that were told.
        """
        answer = ask_cluster(self._address, "signal", timeout=_SHORT, signum=int(signum), engine=engine)
        return list(answer["engines"])

    def logs(self, engine: int | None = None, *, lines: int = 20) -> tuple[LogLine, ...]:
        """Read the ends of the cluster's logs.

        Args:
            engine: Of this engine only; None: of all processes.
            lines: How many lines of each at the most.

        Raises:
            NotRunningError: The cluster has ended, or has no such engine.
        """
        return read_logs(choose_logs(self._address, engine=engine), lines=lines)

    def on_every_engine(
        self,
        function: Callable[[], Any] | None = None,
        *,
        imports: Sequence[str] = (),
        names: Mapping[str, Any] | None = None,
        cloudpickle: bool = False,
        label: str = "",
    ) -> None:
        """Give all engines something now, and every engine that starts later before it takes tasks.

        Args:
            function: Is called there, without arguments, last.
            imports: Modules, such as ``numpy`` or ``numpy as np``.
            names: Names to set in the engines' namespace.
            cloudpickle: Whether ipyparallel in the engines takes cloudpickle for what it sends.
            label: Replaces what was given under the same label before.

        Raises:
            SupervisorError: The supervisor does not answer.
            RemoteError: It failed on an engine; engines that start later would not come up with it, so it is not kept.
        """
        setup = Setup(imports=tuple(imports), names=dict(names or {}), function=function, cloudpickle=cloudpickle)
        packed = pack_setup(setup)
        from stoker.cluster.client import run_on_all

        run_on_all(self.client, packed)
        ask_cluster(self._address, "setup", timeout=_SHORT, name=label or uuid.uuid4().hex, packed=packed)

    def map(self, function: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> list[Any]:
        """Call a function for each item, on the engines, and wait for all results.

        Whatever engines or the controller die meanwhile: nothing is lost, and no result comes twice.

        Args:
            function: Travels by value where it has to.
            *iterables: Its arguments; the shortest ends the map, as with the builtin.
            **options: ``timeout``, ``retries``, ``retry_on``, ``on_error``, ``batch``, ``progress``, ``patience``,
                ``label``, ``journal``, ``stragglers`` and ``on_summary``, as of ``stoker.compute.MapOptions``.

        Returns:
            The results, in the order of the items.

        Raises:
            Exception: What an item raised first; see ``stoker.compute.mapping.map``.
        """
        from stoker.compute.mapping import map as map_on

        return map_on(self.view, function, *iterables, explain=self.explain, **self._keep_summary(options))

    def starmap(self, function: Callable[..., Any], items: Iterable[Iterable[Any]], **options: Any) -> list[Any]:
        """Do as ``map``, with each item holding the arguments of one call."""
        from stoker.compute.mapping import starmap as starmap_on

        return starmap_on(self.view, function, items, explain=self.explain, **self._keep_summary(options))

    def imap(
        self, function: Callable[..., Any], *iterables: Iterable[Any], ordered: bool = True, **options: Any
    ) -> Generator[Any, None, None]:
        """Do as ``map``, but give each result as soon as it is there; items may come from a generator without end.

        Args:
            function: As of ``map``.
            *iterables: As of ``map``; read as engines need them.
            ordered: Whether results come in the order of the items, or as they are done.
            **options: As of ``map``.
        """
        from stoker.compute.mapping import imap as imap_on

        return imap_on(
            self.view, function, *iterables, ordered=ordered, explain=self.explain, **self._keep_summary(options)
        )

    async def amap(self, function: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> list[Any]:
        """Do as ``map``, while asyncio's event loop does other things; cancelling it cancels the map."""
        from stoker.compute.awaiting import amap as amap_on

        return await amap_on(self.view, function, *iterables, explain=self.explain, **self._keep_summary(options))

    def aimap(
        self, function: Callable[..., Any], *iterables: Iterable[Any], ordered: bool = True, **options: Any
    ) -> AsyncGenerator[Any, None]:
        """Do as ``imap``, for ``async for``; its ``aclose`` cancels the rest."""
        from stoker.compute.awaiting import aimap as aimap_on

        return aimap_on(
            self.view, function, *iterables, ordered=ordered, explain=self.explain, **self._keep_summary(options)
        )

    def parallel(self, **options: Any) -> Callable[[Callable[..., Any]], MappedFunction]:
        """Decorate a function so that it runs on the engines, in the manner of ``@view.parallel``.

        ``f.map(seq)`` and ``f(seq)`` both give it elements (plain ipyparallel gives slices to the latter), and return
        a list.

        Args:
            **options: As of ``map``.

        Raises:
            StokerError: An option is out of its range.
        """
        from stoker.compute import MapOptions
        from stoker.compute.mapping import MappedFunction

        # At once, not at the first call.
        MapOptions(**options)
        return lambda function: MappedFunction(self.view, function, explain=self.explain, **self._keep_summary(options))

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CallFuture:
        """Have a call run on an engine, and give its future, one of ``concurrent.futures``.

        Calls that come while engines are busy are gathered into batches; a lone one leaves at once.

        Args:
            function: Travels by value where it has to.
            *args: Futures among them, and among the keyword arguments, are waited for: the call gets their results.
            **kwargs: Keyword arguments. For options, such as ``timeout``, take ``executor``.

        Returns:
            Its future; for what it may raise see ``stoker.compute.Executor.submit``.
        """
        return self._executor.submit(function, *args, **kwargs)

    def executor(self, **options: Any) -> Executor:
        """Give an executor of ``concurrent.futures`` whose calls run on the engines.

        Args:
            **options: As of ``stoker.compute.Executor``.

        Raises:
            StokerError: An option is out of its range.
        """
        from stoker.compute.executor import Executor

        return Executor(self.view, explain=self.explain, **options)

    @cached_property
    def _executor(self) -> Executor:
        return self.executor()

    def _keep_summary(self, options: Mapping[str, Any]) -> dict[str, Any]:
        told = options.get("on_summary")

        def keep(summary: Summary) -> None:
            self.summary = summary
            if told is not None:
                told(summary)

        # What cannot be called is refused with the other options.
        return {**options, "on_summary": keep if told is None or callable(told) else told}

    def explain(self, pid: int) -> str:
        """Give the cause of the death of an engine's process; its agent hears of it at about the time of the client."""
        deadline = time.monotonic() + _TOLD
        while True:
            try:
                events = ask_cluster(self._address, "status", timeout=_SHORT)["events"]
            except StokerError:
                return ""
            for event in reversed(events):
                if event["death"] and event["pid"] == pid:
                    return str(event["what"]).removeprefix("died of ")
            if time.monotonic() > deadline:
                return ""
            time.sleep(0.05)

    def _catch_up(self) -> None:
        if (client := self.__dict__.get("client")) is not None:
            from stoker.cluster.client import catch_up

            catch_up(client)

    def close(self) -> None:
        """Close the connection; the cluster goes on. Calls that were submitted and have not ended are given up."""
        executor = self.__dict__.pop("_executor", None)
        if executor is not None:
            executor.abandon()
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
    """Make a cluster run and connect to it; one that runs already is changed where that can be done live.

    What the user should know about the cluster, such as that it is not encrypted, or what of a changed spec needs
    ``down`` first, is a ``UserWarning``.

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
    early = _EarlyClient(spec, on_stage)
    try:
        started = start_cluster(spec, source=source, wait=wait, on_stage=early.note)
    except BaseException:
        early.close()
        raise
    for notice in started.notices:
        warnings.warn(notice, stacklevel=2)
    cluster = Cluster(started.address, started=started.new, notices=started.notices)
    early.hand_over(cluster, [engine.number for engine in started.record.engines])
    return cluster


class _EarlyClient:
    """Connects the client while the engines of a start still come up."""

    def __init__(self, spec: ClusterSpec, on_stage: Callable[[str], None]) -> None:
        self._address = Address.of(spec)
        # With this scheduler, a client that sees engine 1 come before engine 0 takes the latter for lost, and hands out
        # no more tasks.
        self._waits = spec.controller.scheduler == "pure"
        self._on_stage = on_stage
        self._client: Any = None

    def note(self, stage: str) -> None:
        self._on_stage(stage)
        if stage == "controller start":
            # Takes a fifth of a second, in which there is nothing else to do here.
            import stoker.cluster.client  # noqa: F401
        elif stage == "registration" and not self._waits:
            from stoker.cluster.client import connect_client

            with contextlib.suppress(ConnectError):
                self._client = connect_client(self._address.directory, self._address.cluster_id, timeout=_CONNECT)

    def hand_over(self, cluster: Cluster, numbers: Sequence[int]) -> None:
        """Give it to a cluster that runs, once it knows all engines."""
        if self._client is not None:
            from stoker.cluster.client import wait_until_registered

            deadline = time.monotonic() + _CONNECT
            missing = wait_until_registered(self._client, numbers, deadline=deadline, check=lambda: None)
            if missing:
                # Died since, perhaps; a client that is connected later knows.
                self._client.close()
            else:
                cluster.__dict__["client"] = self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


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
