"""An agent under test, spoken to as a supervisor does, and a stock ipyparallel controller for its engines."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ipyparallel
import pytest

from stoker.agent.wire import VERSION, LineBuffer, encode_line
from stoker.system.processes import find_marked

WAIT = 30.0
"""Seconds that anything may take on a busy machine."""


class Hub:
    """A stock controller."""

    def __init__(self, directory: Path, *arguments: str, encrypted: bool = True) -> None:
        self.profile = directory / "profile_hub"
        self.numbers = itertools.count()
        self.mark = str(directory)
        argv = [
            *(sys.executable, "-m", "ipyparallel.controller", f"--profile-dir={self.profile}"),
            *(f"--IPController.enable_curve={encrypted}", "--HeartMonitor.period=100"),
            *("--HeartMonitor.max_heartmonitor_misses=600", "--TaskScheduler.hwm=1", *arguments),
        ]
        with (directory / "controller.log").open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Not the mark of the test that happens to be the first to ask for it.
                env={**os.environ, "STOKER_TEST": self.mark, "IPYTHONDIR": str(directory)},
                start_new_session=True,
            )
        security = self.profile / "security"
        files = security / "ipcontroller-client.json", security / "ipcontroller-engine.json"
        poll(lambda: all(_is_whole(file) for file in files), message="the controller does not come")
        self.connection: dict[str, Any] = json.loads(files[1].read_text())
        self.client = ipyparallel.Client(str(files[0]), timeout=WAIT)

    def close(self) -> None:
        """End it with all its children."""
        self.client.close()
        for signum in (signal.SIGTERM, signal.SIGKILL):
            for process in find_marked("STOKER_TEST", self.mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        poll(lambda: not find_marked("STOKER_TEST", self.mark))


class Wire:
    """One connection to an agent."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._buffer = LineBuffer()
        self.heard: list[dict[str, Any]] = []
        """What nobody has waited for so far."""
        self.ended = False

    @classmethod
    def connect(cls, path: Path) -> Wire:
        """Connect to an agent's socket."""
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.connect(str(path))
        handle = peer.detach()
        return cls(handle, handle)

    def say(self, do: str, **message: Any) -> None:
        """Send a message."""
        self.send(encode_line({"do": do, **message}))

    def send(self, data: bytes) -> None:
        """Send bytes."""
        while data:
            data = data[os.write(self._writer, data) :]

    def hear(self, say: str, *, timeout: float = WAIT, **match: Any) -> dict[str, Any]:
        """Wait for a message of a kind with these values, and give it."""
        deadline = time.monotonic() + timeout
        while True:
            for place, message in enumerate(self.heard):
                if message["say"] == say and all(message.get(name) == value for name, value in match.items()):
                    return self.heard.pop(place)
            assert not self.ended, f"the agent hung up; it said {self.heard}"
            assert self.wait(deadline - time.monotonic()), f"no {say} {match} within {timeout} s, but {self.heard}"

    def wait(self, timeout: float) -> bool:
        """Wait until the agent says something or hangs up; say whether it did."""
        if not select.select([self._reader], [], [], max(0.0, timeout))[0]:
            return False
        try:
            data = os.read(self._reader, 1 << 16)
        except ConnectionResetError:
            data = b""
        self.heard += self._buffer.feed(data)
        self.ended = self.ended or not data
        return True

    def attach(self, **settings: Any) -> dict[str, Any]:
        """Become the agent's supervisor, and give what it says of itself."""
        self.say("attach", version=VERSION, **settings)
        return self.hear("hello")

    def report(self, *, memory: bool = False) -> dict[int, dict[str, Any]]:
        """Ask how the engines are, by number."""
        self.say("report", id=1, memory=memory)
        return {engine["number"]: engine for engine in self.hear("report")["engines"]}

    def close(self) -> None:
        """Hang up."""
        for handle in {self._reader, self._writer}:
            with contextlib.suppress(OSError):
                os.close(handle)


class Host:
    """An agent, with this test as its supervisor."""

    def __init__(self, directory: Path, hub: Hub | None, *, fork: bool = True) -> None:
        self.hub, self.fork = hub, fork
        self.directory = directory
        self.socket = directory / "run" / "agent.sock"
        self.log = directory / "agent.log"
        self.socket.parent.mkdir(mode=0o700)
        self.process: subprocess.Popen[bytes]
        self.wire: Wire
        self.hello: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """The agent's process number."""
        return self.process.pid

    def open(
        self,
        *,
        program: Sequence[str] = ("-m", "stoker.agent"),
        env: Mapping[str, str] | None = None,
        attach: bool = True,
        **settings: Any,
    ) -> dict[str, Any]:
        """Start the agent, and give what it says of itself."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *program, "--socket", str(self.socket), "--log", str(self.log)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.wire = Wire(os.dup(self.process.stdout.fileno()), os.dup(self.process.stdin.fileno()))
        self.process.stdin.close()
        self.process.stdout.close()
        if attach:
            self.hello = self.wire.attach(**settings)
        return self.hello

    def order(self, number: int, **order: Any) -> dict[str, Any]:
        """Give an order for an engine."""
        assert self.hub is not None
        return {
            "number": number,
            "connection": self.hub.connection,
            "log": str(self.directory / f"{number}.log"),
            "arguments": [f"--profile-dir={self.hub.profile}"],
            "config": {"IPEngine": {"max_heartbeat_misses": 600}},
            "fork": self.fork,
            **order,
        }

    def start(self, count: int = 1, **order: Any) -> list[int]:
        """Start engines, wait until the hub's client knows them, and give their numbers."""
        assert self.hub is not None
        numbers = [next(self.hub.numbers) for _ in range(count)]
        for number in numbers:
            self.wire.say("start", order=self.order(number, **order))
        self.wait_until_ready(numbers)
        return numbers

    def wait_until_ready(self, numbers: Sequence[int]) -> None:
        """Wait until the hub's client knows engines."""
        assert self.hub is not None
        client = self.hub.client
        try:
            poll(lambda: set(numbers) <= set(client.ids))
        except AssertionError:
            raise AssertionError(f"{numbers} did not come: {self.wire.heard}\n{self.read_logs(numbers)}") from None

    def pid_of(self, number: int) -> int:
        """Give an engine's process number."""
        return int(self.wire.report()[number]["pid"])

    def hear_death(self, number: int, **expected: Any) -> dict[str, Any]:
        """Wait for the death of an engine, and look that it is told as expected."""
        death = self.wire.hear("died", number=number)
        assert {name: death[name] for name in expected} == expected
        return death

    def read_logs(self, numbers: Sequence[int]) -> str:
        """Read what engines have printed."""
        logs = [self.directory / f"{number}.log" for number in numbers]
        return "\n".join(log.read_text()[-2000:] for log in logs if log.exists())

    def kill(self) -> None:
        """Kill the agent alone."""
        self.process.kill()
        self.process.wait(WAIT)

    def close(self) -> None:
        """End the agent with everything that came of it."""
        if not hasattr(self, "process"):
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            with contextlib.suppress(OSError):
                self.wire.say("leave", grace=1.0)
            self.wire.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        if self.process.poll() is None:
            self.kill()


def run_hub(base: Path, *arguments: str, encrypted: bool = True) -> Iterator[Hub]:
    """Run a controller while a fixture waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(base))
        patch.setenv("IPYTHONDIR", str(base / "ipython"))
        hub = Hub(base, *arguments, encrypted=encrypted)
        yield hub
        hub.close()


def poll(condition: Any, *, timeout: float = WAIT, message: str = "") -> Any:
    """Wait until a condition gives something true, and give that."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, message or f"not after {timeout} s"
        time.sleep(0.01)
    return found


def read_state(pid: int) -> str:
    """Read the state of a process; ``X`` where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def is_gone(pid: int) -> bool:
    """Say whether a process has ended; it may wait to be reaped."""
    return read_state(pid) in "ZX"


def _is_whole(file: Path) -> bool:
    try:
        json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    return True
