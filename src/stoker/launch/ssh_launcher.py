"""The launcher ``stoker-ssh`` of engines, for ``ipyparallel.Cluster(engines="stoker-ssh")`` and ``ipcluster``."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ipyparallel.cluster import launcher as _stock
from traitlets import Dict, Float, List, Unicode, default

from stoker.agent.order import Death, EngineOrder
from stoker.errors import HostError, StokerError
from stoker.launch.agent_link import AgentSettings
from stoker.launch.host_line import HostLine
from stoker.launch.landing import Landed
from stoker.launch.local_launcher import ANSWER, read_launcher_connection
from stoker.launch.loop_thread import LoopThread
from stoker.launch.ssh import HostCommand
from stoker.launch.tunnels import NearEnd
from stoker.spec.hosts import parse_address
from stoker.system.files import append_log, read_last_lines, trim_log
from stoker.system.runtime import make_runtime_directory, remove_runtime_directory, runtime_directory

__all__ = ["StokerSSHEngineSetLauncher"]

_BEYOND_LEASE = 30.0
_AT_ONCE = 32
_START = 120.0
_LEAVE = 10.0
_POLL = 0.02


class StokerSSHEngineSetLauncher(_stock.EngineLauncher):  # type: ignore[misc]
    """Starts engines on other hosts, all at once, through one ssh connection and one agent on each.

    It is supervised by whoever has the launcher. That keeps the connections and the lease; nothing is healed.
    """

    entrypoint_name = "stoker-ssh"

    engines = Dict(
        config=True,
        help="""Engines by host, as SSHEngineSetLauncher.engines, which is the default: a number, or a dict with n and
        what differs there: remote_python, environment, ssh_args (-o, -F), tunnel.""",
    ).tag(to_dict=True)
    remote_python = Unicode("python3", config=True, help="The interpreter, or the virtual environment, on hosts.")
    ssh_args: Any = List(config=True, help="Arguments of ssh: -o NAME=VALUE and -F FILE.")
    lease = Float(120.0, config=True, help="Seconds that engines go on without whoever started them.").tag(to_dict=True)
    hosts: Any = List().tag(to_dict=True)
    """How its hosts are reached, by what ``HostCommand`` has."""

    runtime = Unicode().tag(to_dict=True)

    @default("engines")
    def _default_engines(self) -> dict[str, Any]:
        return dict(self.config.SSHEngineSetLauncher.get("engines", {}))

    @default("remote_python")
    def _default_remote_python(self) -> str:
        return str(self.config.SSHEngineSetLauncher.get("remote_python", "python3"))

    @default("ssh_args")
    def _default_ssh_args(self) -> list[str]:
        return list(self.config.SSHEngineSetLauncher.get("ssh_args", []))

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._lines: dict[str, HostLine] = {}
        self._near: NearEnd | None = None
        self._up: dict[str, Landed] = {}
        self._failed: dict[str, Death] = {}
        self._engines: dict[int, str] = {}
        self._ended: dict[int, int | None] = {}
        self._outputs: dict[str, str] = {}
        self._is_stopping = False

    @property
    def engine_count(self) -> int:
        """How many engines all hosts are to have."""
        return sum(count for _, count in self._list_counts())

    def find_args(self) -> list[str]:
        """Say what this is, for messages."""
        return ["engines of stoker over ssh"]

    async def start(self, n: int) -> list[str]:
        """Start engines on all hosts; they register when this has returned.

        Args:
            n: How many at the most.

        Raises:
            LauncherError: There is no controller, or not one engine could be started.
        """
        connection = await read_launcher_connection(self)
        self.runtime = str(runtime_directory(f"ipyparallel ssh {self.profile_dir}:{self.cluster_id}:{uuid.uuid4()}"))
        make_runtime_directory(Path(self.runtime))
        address = str(connection["interface"]).removeprefix("tcp://")
        target = "127.0.0.1" if address in ("*", "0.0.0.0") else address  # noqa: S104
        commands = [self._render_command(host, place, target) for place, (host, _) in enumerate(self._list_counts())]
        counts = dict(self._list_counts())
        await LoopThread.shared().run_async(self._reach(commands, "start"))
        started = await LoopThread.shared().run_async(self._start_engines(connection, counts, n))
        self.hosts = [asdict(command) for command in commands if command.name in self._up]
        for host, death in self._failed.items():
            self.log.error("%s", "\n    ".join([death.problem or f"{host}: {death.cause}", *death.last_lines]))
        if not started:
            await LoopThread.shared().run_async(self._leave())
            self._clean()
            causes = "; ".join(death.problem or death.cause for death in self._failed.values())
            raise _stock.LauncherError(f"not one engine could be started: {causes or 'engines names no host'}")
        self.n = started
        self.notify_start(sorted(self._up))
        return sorted(self._up)

    @classmethod
    def from_dict(cls, d: dict[str, Any], **kwargs: Any) -> Any:
        """Find the engines of a cluster file again, and supervise them from now on.

        Raises:
            NotRunning: They are gone, or their hosts cannot be reached.
        """
        self = super().from_dict(d, **kwargs)
        make_runtime_directory(Path(self.runtime))
        # Sockets of its own: whoever started them may be there still.
        commands = [
            replace(HostCommand(**data), control=f"{self.runtime}/d{uuid.uuid4().hex[:3]}") for data in self.hosts
        ]
        LoopThread.shared().run(self._reach(commands, "adopt"), timeout=_START)
        for name, landed in self._up.items():
            self._engines |= {int(each["number"]): name for each in landed.hello["engines"]}
        if not self._engines:
            LoopThread.shared().run(self._leave(), timeout=_START)
            raise _stock.NotRunning("no engine could be found again on its host")
        self.n = len(self._engines)
        self.state = "running"
        return self

    def signal(self, sig: int | str) -> None:
        """Send every engine a signal."""
        signum = int(signal.Signals[f"SIG{sig}"]) if isinstance(sig, str) else int(sig)
        LoopThread.shared().run(self._signal_all(signum), timeout=ANSWER)

    async def stop(self) -> None:
        """End the engines and the agents."""
        if self.state != "running":
            return
        self._is_stopping = True
        await LoopThread.shared().run_async(self._leave())
        self.notify_stop(self._describe_end())

    async def join(self, timeout: float | None = None) -> None:
        """Wait for their end.

        Raises:
            TimeoutError: They go on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.state == "running":
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"engines did not end within {timeout} s")
            await asyncio.sleep(_POLL)

    def notify_stop(self, data: dict[str, Any]) -> Any:
        """Tell of the end."""
        self._clean()
        return super().notify_stop(data)

    def get_output(self, remove: bool = False) -> str:
        """Give the ends of the engines' logs, as far as they came here.

        Args:
            remove: Whether to remove them.
        """
        for number in sorted({*self._engines, *self._ended}):
            path = self._log(str(number))
            if lines := read_last_lines(path, self.output_limit or 100):
                self._outputs[str(number)] = "\n  ".join([f"Output for engine {number}", *lines])
            if remove:
                path.unlink(missing_ok=True)
        return "\n".join(self._outputs.values())

    # What runs in the thread's loop.

    async def _reach(self, commands: list[HostCommand], do: Literal["start", "adopt"]) -> None:
        """Reach all hosts; what failed is known afterwards."""
        gate = asyncio.Semaphore(_AT_ONCE)
        near = self._near = NearEnd(Path(commands[0].near), commands[0].target, lease=self.lease)
        for command in commands:
            self._lines[command.name] = HostLine(
                command,
                self._settings,
                gate=gate,
                near=near,
                on_up=partial(self._note_up, command.name),
                on_away=lambda: None,
                on_end=partial(self._note_end, command.name),
                hear=partial(self._hear, command.name),
            )
        for line in self._lines.values():
            line.begin(do)
        # A host that was reached before and is not now is not waited for as long as its lease.
        deadline = time.monotonic() + (_START if do == "start" else 2 * ANSWER)
        while not set(self._lines) <= {*self._up, *self._failed} and time.monotonic() < deadline:
            await asyncio.sleep(_POLL)

    async def _start_engines(self, connection: Mapping[str, Any], counts: Mapping[str, int], most: int) -> int:
        places = [name for name, count in counts.items() if name in self._up for _ in range(count)][:most]
        orders = dict(enumerate(places))
        for name in dict.fromkeys(places):
            line = self._lines[name]
            try:
                routed = await line.route(connection)
            except HostError as error:
                self._note_end(name, Death(problem=str(error.explanation), last_lines=error.explanation.lines))
                line.leave(grace=0.0)
                continue
            for number in (number for number, place in orders.items() if place == name):
                self._engines[number] = name
                if line.link is not None:
                    line.link.start_engine(self._order(number, routed, self._up[name]))
        return len(self._engines)

    async def _leave(self) -> None:
        for line in self._lines.values():
            line.leave(grace=2.0)
        deadline = time.monotonic() + _LEAVE
        while any(line.pids for line in self._lines.values()) and time.monotonic() < deadline:
            await asyncio.sleep(_POLL)
        for line in self._lines.values():
            line.close()
        if self._near is not None:
            await self._near.end()

    async def _signal_all(self, signum: int) -> None:
        for number, name in self._engines.items():
            link = self._lines[name].link
            if link is not None:
                link.signal_engine(number, signum)

    def _note_up(self, name: str, landed: Landed) -> None:
        self._up[name] = landed

    def _note_end(self, name: str, death: Death) -> None:
        self._failed[name] = death
        self._up.pop(name, None)
        for number in [number for number, host in self._engines.items() if host == name]:
            self._note_engine_end(number, None)

    def _hear(self, name: str, message: dict[str, Any]) -> None:
        if message["say"] == "log" and message["number"] is not None:
            # Its directory may be gone.
            with contextlib.suppress(OSError):
                log = self._log(str(message["number"]))
                append_log(log, message["text"])
                trim_log(log, self._settings.log_limit)
        elif message["say"] in ("died", "refused"):
            self._note_engine_end(int(message["number"]), message.get("status", 1))

    def _note_engine_end(self, number: int, status: int | None) -> None:
        self._engines.pop(number, None)
        self._ended[number] = status
        if not self._engines and self.state == "running" and not self._is_stopping:
            for line in self._lines.values():
                line.leave(grace=0.0)
            with contextlib.suppress(RuntimeError):
                self.loop.add_callback(self.notify_stop, self._describe_end())

    # Values.

    @property
    def _settings(self) -> AgentSettings:
        return AgentSettings(lease=self.lease)

    def _list_counts(self) -> list[tuple[str, int]]:
        sizes = {host: each.get("n", 1) if isinstance(each, dict) else each for host, each in self.engines.items()}
        return [(host, int(size)) for host, size in sizes.items()]

    def _render_command(self, host: str, place: int, target: str) -> HostCommand:
        given = self.engines[host] if isinstance(self.engines[host], dict) else {}
        address = parse_address(host)
        options, config = _parse_ssh_args(given.get("ssh_args") or self.ssh_args)
        return HostCommand(
            name=host,
            address=host,
            destination=address.host if address.user is None else f"{address.user}@{address.host}",
            port=address.port,
            options=options,
            config=config,
            python=given.get("remote_python") or given.get("python") or self.remote_python,
            early={},
            place=f"ipyparallel {self.runtime} {host}",
            logs=f"{Path(self.profile_dir).name.removeprefix('profile_')}-{self.cluster_id or 'ipcluster'}",
            log=str(self._log(f"agent-{host}")),
            control=f"{self.runtime}/c{place}",
            near=f"{self.runtime}/tunnels.sock",
            tunnel=given.get("tunnel"),
            target=target,
            location=None,
            lease=self.lease,
        )

    def _order(self, number: int, connection: Mapping[str, Any], landed: Landed) -> EngineOrder:
        given = self.engines.get(self._engines[number])
        environment = given.get("environment", {}) if isinstance(given, dict) else {}
        return EngineOrder(
            number=number,
            exact=False,
            connection=connection,
            log=str(Path(landed.logs) / self._log(str(number)).name),
            arguments=(f"--profile-dir={landed.runtime}/profile", f"--cluster-id={self.cluster_id}", *self.engine_args),
            env={**self.environment, **environment},
            silence=self.lease + _BEYOND_LEASE,
        )

    def _describe_end(self) -> dict[str, Any]:
        failed = [status for status in self._ended.values() if status]
        engines = {str(number): {"exit_code": status} for number, status in self._ended.items()}
        return {"engines": engines, "exit_code": failed[0] if failed and not self._is_stopping else 0}

    def _log(self, name: str) -> Path:
        directory = Path(self.profile_dir) / "log"
        directory.mkdir(parents=True, exist_ok=True)
        return directory / f"ipengine-{self.cluster_id}-{self.engine_set_id}-{name}.log"

    def _clean(self) -> None:
        if self.runtime:
            remove_runtime_directory(Path(self.runtime))

    def _log_output(self, stop_data: dict[str, Any] | None = None) -> None:
        """Say nothing: each engine has a log of its own."""


def _parse_ssh_args(arguments: list[str]) -> tuple[dict[str, str], str | None]:
    """Take from ssh's arguments what ``HostCommand`` has a place for.

    Raises:
        StokerError: There are others.
    """
    options: dict[str, str] = {}
    config = None
    words = iter(arguments)
    for word in words:
        if word == "-F":
            config = next(words, None)
        elif word == "-p":
            # The host's name says it, too.
            next(words, None)
        elif word == "-o" and (match := re.fullmatch(r"\s*(\w+)\s*[=\s]\s*(.+)", next(words, ""))):
            options[match[1]] = match[2]
        else:
            raise StokerError(f"ssh_args: of ssh's arguments this launcher takes -o NAME=VALUE and -F FILE, got {word}")
    return options, config
