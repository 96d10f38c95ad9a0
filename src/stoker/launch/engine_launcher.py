"""The launcher ``stoker`` of engines, for ``ipyparallel.Cluster(engines="stoker")`` and ``ipcluster``."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from pathlib import Path
from typing import Any

from ipyparallel.cluster import launcher as _stock
from traitlets import Bool, Float, Unicode, default

from stoker.agent.order import EngineOrder
from stoker.errors import StokerError, SupervisorError
from stoker.launch.agent_link import AgentCommand, AgentLink, AgentSettings
from stoker.launch.local_launcher import ANSWER, LocalLauncher, read_launcher_connection
from stoker.launch.loop_thread import LoopThread
from stoker.launch.marks import AGENT_VARIABLE
from stoker.launch.supervisor_line import ask_supervisor
from stoker.system.files import read_last_lines
from stoker.system.runtime import make_runtime_directory, runtime_directory

__all__ = ["StokerEngineSetLauncher"]

_BEYOND_LEASE = 30.0
_START = 60.0
_OUTPUT_LINES = 100


class StokerEngineSetLauncher(LocalLauncher, _stock.EngineLauncher):  # type: ignore[misc]
    """Starts engines through an agent, which forks them; one process more, however many there are.

    The agent is supervised by whoever has the launcher, because it started the engines or found them by their cluster
    file. That only holds the lease: nothing is healed.
    """

    frozen_after = Float(
        5.0, config=True, help="Seconds that an engine may be stopped (SIGSTOP) until it is killed."
    ).tag(to_dict=True)
    fork = Bool(True, config=True, help="False: each engine is an interpreter of its own.")
    agent_socket = Unicode().tag(to_dict=True)
    """Where the agent answers; empty in a supervised cluster."""

    _link: AgentLink | None = None

    @default("output_file")
    def _default_output_file(self) -> str:
        # The agent's own; engines have theirs.
        return str(self._log("agent"))

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._ended: dict[int, int | None] = {}
        self._awaited: dict[int, asyncio.Future[None]] = {}
        self._living: set[int] = set()
        self._outputs: dict[str, str] = {}

    def find_args(self) -> list[str]:
        """Say what this is, for messages."""
        return ["engines of stoker"]

    async def start(self, n: int) -> list[int]:
        """Start engines; they register when this has returned.

        Args:
            n: How many.

        Raises:
            LauncherError: There is no controller, or the agent cannot be started.
        """
        self.n = n
        self._fix_lease()
        connection = await read_launcher_connection(self)
        directory = self._name_runtime()
        make_runtime_directory(directory)
        self.agent_socket = str(directory / f"agent-{uuid.uuid4().hex[:6]}.sock")
        command = AgentCommand(
            name=self.identifier,
            python=self.engine_cmd[0],
            env={**self.get_env(), AGENT_VARIABLE: uuid.uuid4().hex},
            cwd=str(Path(self.work_dir).absolute()),
            log=self.output_file,
            socket=self.agent_socket,
            tidy=True,
        )
        try:
            self.pid = await LoopThread.shared().run_async(self._start_agent(command))
        except (OSError, StokerError) as error:
            self._clean()
            lines = "".join(f"\n  {line}" for line in read_last_lines(Path(self.output_file), 10))
            raise _stock.LauncherError(f"no agent could be started with {command.python}: {error}{lines}") from error
        self.notify_start(self.pid)
        self._reconstruct_process({"pid": self.pid})
        await LoopThread.shared().run_async(
            self._start_engines([self._order(number, connection) for number in range(n)])
        )
        return [self.pid]

    @classmethod
    def from_dict(cls, d: dict[str, Any], **kwargs: Any) -> Any:
        """Find the engines of a cluster file again, and supervise them from now on.

        Raises:
            NotRunning: They are gone.
        """
        self = super().from_dict(d, **kwargs)
        if self.agent_socket:
            try:
                LoopThread.shared().run(self._attach(), timeout=_START)
            except (OSError, TimeoutError, StokerError) as error:
                self._stop_waiting.set()
                raise _stock.NotRunning(f"the agent of the engines is gone: {error}") from error
            self.n = len(self._living)
        return self

    def signal(self, sig: int) -> None:
        """Send every engine a signal."""
        signum = int(signal.Signals[f"SIG{sig}"]) if isinstance(sig, str) else int(sig)
        if self.control_socket:
            ask_supervisor(Path(self.control_socket), "signal", timeout=ANSWER, signum=signum)
        elif self.state == "running":
            LoopThread.shared().run(self._signal_all(signum), timeout=ANSWER)

    def get_output(self, remove: bool = False) -> str:
        """Give the ends of the engines' logs.

        Args:
            remove: Whether to remove them; those of a supervised cluster stay.
        """
        for name, path in self._list_logs().items():
            if lines := read_last_lines(path, self.output_limit or _OUTPUT_LINES):
                self._outputs[name] = "\n  ".join([f"Output for engine {name}", *lines])
            if remove and not self.control_socket:
                path.unlink(missing_ok=True)
        if remove and not self.control_socket:
            Path(self.output_file).unlink(missing_ok=True)
        return "\n".join(self._outputs.values())

    def notify_stop(self, data: dict[str, Any]) -> Any:
        """Tell of the end, with what each engine ended with."""
        failed = [status for status in self._ended.values() if status]
        engines = {str(number): {"exit_code": status} for number, status in self._ended.items()}
        data = {**data, "engines": engines, "exit_code": failed[0] if failed else 0}
        self._clean()
        return super().notify_stop(data)

    # What runs in the caller's loop, if there is one.

    async def _stop_own(self) -> None:
        if self.state != "running":
            return
        with contextlib.suppress(OSError, TimeoutError, StokerError):
            await LoopThread.shared().run_async(self._leave())
        try:
            await self.join(timeout=self.stop_seconds_until_kill + ANSWER)
        except TimeoutError:
            # Never by its number alone, which may be another's by now.
            with contextlib.suppress(_stock.psutil.Error):
                self.process.kill()
            await self.join(timeout=self.stop_timeout)
        self._clean()

    def _order(self, number: int, connection: dict[str, Any]) -> EngineOrder:
        return EngineOrder(
            number=number,
            exact=False,
            connection=connection,
            log=str(self._log(str(number))),
            arguments=(f"--profile-dir={self.profile_dir}", *self.cluster_args, *self.engine_args),
            fork=self.fork,
            silence=self.lease + _BEYOND_LEASE,
        )

    # What runs in the thread's loop.

    async def _start_agent(self, command: AgentCommand) -> int:
        self._link = AgentLink(self._hear)
        process = self._link.start(command)
        self._popen_process = self._link.process
        try:
            await self._link.attach(self._settings)
        except StokerError:
            assert self._popen_process is not None
            self._popen_process.kill()
            self._popen_process.wait()
            self._link.close()
            raise
        return process.pid

    async def _start_engines(self, orders: list[EngineOrder]) -> None:
        assert self._link is not None
        self._living = {order.number for order in orders}
        self._awaited = {number: asyncio.get_running_loop().create_future() for number in self._living}
        for order in orders:
            self._link.start_engine(order)
        # This process may leave right after: an order that the agent has not read yet would be lost.
        await asyncio.wait(self._awaited.values(), timeout=_START)

    async def _attach(self) -> None:
        self._link = AgentLink(self._hear)
        await self._link.connect(self.agent_socket)
        hello = await self._link.attach(self._settings)
        self._ended |= {int(death["number"]): death.get("status", 1) for death in hello["deaths"]}
        # Others may have heard of deaths meanwhile.
        living = {int(each["number"]) for each in hello["engines"]}
        self._ended |= dict.fromkeys(self._living - living - self._ended.keys())
        self._living = living

    async def _find_link(self) -> AgentLink:
        """Give the connection to the agent; another process may have attached meanwhile, which ends an earlier one."""
        if self._link is None or not self._link.is_open:
            await self._attach()
        assert self._link is not None
        return self._link

    async def _leave(self) -> None:
        (await self._find_link()).leave(grace=self.stop_seconds_until_kill, tells_hub=True)

    async def _signal_all(self, signum: int) -> None:
        link = await self._find_link()
        for number in self._living:
            link.signal_engine(number, signum)

    async def _attach_again(self) -> None:
        """Supervise the agent again once whoever has attached has gone, well before the lease ends."""
        await asyncio.sleep(self.lease / 4)
        if self.state == "running":
            with contextlib.suppress(OSError, TimeoutError, StokerError):
                await self._find_link()

    def _hear(self, message: dict[str, Any] | None) -> None:
        if message is None:
            for each in self._awaited.values():
                _settle(each)
            if self.state == "running":
                self._again = asyncio.get_running_loop().create_task(self._attach_again())
            return
        number = message.get("number")
        if message["say"] in ("started", "refused") and number in self._awaited:
            _settle(self._awaited[number])
        if message["say"] not in ("died", "refused"):
            return
        self._ended[int(message["number"])] = message.get("status", 1)
        self._living.discard(int(message["number"]))
        if not self._living and self._link is not None:
            # Nobody is left for whom it would be there.
            self._link.leave(grace=0.0)

    # Names and files.

    @property
    def _settings(self) -> AgentSettings:
        return AgentSettings(lease=self.lease_in_force, frozen_after=self.frozen_after)

    def _list_logs(self) -> dict[str, Path]:
        if self.control_socket:
            with contextlib.suppress(SupervisorError):
                status = ask_supervisor(Path(self.control_socket), "status", timeout=ANSWER)
                return {str(engine["number"]): Path(engine["log"]) for engine in status["engines"]}
            return {}
        numbers = sorted(self._living | self._ended.keys())
        return {str(number): self._log(str(number)) for number in numbers}

    def _log(self, name: str) -> Path:
        directory = Path(self.profile_dir) / "log"
        directory.mkdir(parents=True, exist_ok=True)
        return directory / f"ipengine-{self.cluster_id}-{self.engine_set_id}-{name}.log"

    def _name_runtime(self) -> Path:
        return runtime_directory(f"ipyparallel {Path(self.profile_dir).absolute()}:{self.cluster_id}:{uuid.uuid4()}")

    def _clean(self) -> None:
        if not self.agent_socket:
            return
        directory = Path(self.agent_socket).parent
        with contextlib.suppress(OSError):
            Path(self.agent_socket).unlink(missing_ok=True)
            # Those that are not empty are in use by others.
            directory.rmdir()
            directory.parent.rmdir()

    def _log_output(self, stop_data: dict[str, Any] | None = None) -> None:
        """Say nothing: each engine has a log of its own."""


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
