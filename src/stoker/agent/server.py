"""The agent itself: one process, one thread, one loop. It obeys one supervisor, and outlives it by the lease."""

from __future__ import annotations

import collections
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.agent.births import Births
from stoker.agent.engines import EngineSet
from stoker.agent.log_feed import LogFeed
from stoker.agent.order import EngineOrder, EngineReport
from stoker.agent.reach import Reach
from stoker.agent.wire import VERSION, LineBuffer, encode_line
from stoker.agent.zygote import ZygoteLife
from stoker.errors import StokerError
from stoker.system.clocks import RunningClock
from stoker.system.files import trim_log
from stoker.system.runtime import listen
from stoker.system.usage import read_usage

if TYPE_CHECKING:
    from stoker.agent.tunnel import Tunnel

__all__ = ["Agent", "split_standard_handles"]

_LOOK = 0.5
"""Seconds between two looks at the engines at the most."""
_LOOK_OFTEN = 0.05
"""The same while something is waited for that does not wake this process."""
_STEP = 1.0
"""Seconds between two looks at the clock that are still believed; after more, this process could not run."""
_LEAVE_GRACE = 2.0
_TRIM_EVERY = 2.0
_PIECE = 1 << 16
_MOST_UNSENT = 1 << 26
_KEPT_DEATHS = 100
_REACH = 4.0
"""Seconds that a controller has to answer at one of its addresses."""


class _Line:
    """A connection to a supervisor, over one or two handles; never waits."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader = reader
        self.writer = writer
        self.buffer = LineBuffer()
        self.unsent = bytearray()
        self.attached = False
        for handle in (reader, writer):
            os.set_blocking(handle, False)

    def close(self) -> None:
        for handle in {self.reader, self.writer}:
            os.close(handle)


class Agent:
    """An agent on its host."""

    def __init__(
        self,
        *,
        socket_path: Path | None,
        log: Path | None,
        lease: float,
        on_loaded: Callable[[Mapping[str, Any]], None] = lambda said: None,
    ) -> None:
        """Prepare to serve.

        Args:
            socket_path: Where a supervisor that comes later can attach; None: nowhere.
            log: Where this process's own output goes, to be kept short.
            lease: Seconds of its own running time that it goes on without a supervisor, until one says otherwise.
            on_loaded: Told once whether what engines need could be imported, as ``Births`` is.
        """
        self._lease = lease
        self._log = log
        self._engines = EngineSet()
        self._deaths: collections.deque[dict[str, Any]] = collections.deque(maxlen=_KEPT_DEATHS)
        self._recent: collections.deque[dict[str, Any]] = collections.deque(maxlen=_KEPT_DEATHS)
        self._feed: LogFeed | None = None
        self._reaches: list[Reach] = []
        self._began = time.monotonic()
        self._was_found = False
        self._selector = selectors.DefaultSelector()
        self._on_loaded = on_loaded
        self._was_loaded = False
        self.has_failed = False
        """It has left because what engines need could not be imported."""
        self._births = Births(
            self._engines,
            self._selector,
            on_born=self._welcome,
            on_refused=self._refuse,
            on_loaded=self._note_loaded,
            on_hindrance=lambda hindrance: self._say({"say": "hindered", "hindrance": hindrance}),
        )
        self._lines: dict[int, _Line] = {}
        self._current: _Line | None = None
        self._looked = time.monotonic()
        self._clock = RunningClock(self._looked, most=_STEP)
        self._heard = 0.0
        self._trimmed = 0.0
        self._leaving = False
        self._had_engines = False
        self._is_told_to_end = False
        self._socket_path = socket_path
        self._listener = None if socket_path is None else listen(socket_path)
        self._tunnel: Tunnel | None = None
        if self._listener is not None:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._waker, self._wake = os.pipe()
        for handle in (self._waker, self._wake):
            os.set_blocking(handle, False)
        self._selector.register(self._waker, selectors.EVENT_READ, self._drain_waker)

    def serve(self, reader: int, writer: int) -> ZygoteLife | None:
        """Serve until there is nothing more to do. Returns twice for each fork: in the child, what that is to live.

        Args:
            reader: An open file that a supervisor's orders come from.
            writer: The one that it reads.
        """
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _note)
        for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(signum, self._on_term)
        life = self._births.prepare()
        if life is None:
            self._add_line(_Line(reader, writer))
            life = self._go_on()
        if life is not None:
            self._forget()
            return life
        self._finish()
        return None

    def _go_on(self) -> ZygoteLife | None:
        while not (self._leaving and self._engines.is_idle):
            for key, mask in self._selector.select(self._timeout()):
                key.data(mask)
            self._look()
            if not self._leaving and (life := self._births.go_on(self._clock.look(time.monotonic()))) is not None:
                return life
        return None

    def _timeout(self) -> float:
        deadline = self._engines.next_deadline()
        look = min(_LOOK, self._engines.frozen_after / 4, self._lease / 4)
        if self._reaches or self._births.is_waiting:
            look = min(look, _LOOK_OFTEN)
        return look if deadline is None else max(0.0, min(look, deadline - time.monotonic()))

    def _look(self) -> None:
        moment = time.monotonic()
        was_away = moment - self._looked > _STEP
        self._looked = moment
        now = self._clock.look(moment)
        if self._is_told_to_end:
            self._is_told_to_end = False
            self._leave(_LEAVE_GRACE)
        if not self._leaving and self._current is None and self._had_engines and self._engines.is_idle:
            self._tell_log("no engine is left, and nobody who would start others: leaving")
            self._leave(0.0)
        if not self._leaving and not self._was_found and not self._lines:
            self._tell_log("whoever started this agent left before it said anything: leaving")
            self._leave(0.0)
        if not self._leaving and now - self._heard > self._lease:
            self._tell_log(f"no supervisor for {self._lease:g} s: leaving")
            self._leave(_LEAVE_GRACE)
        for death in self._engines.reap():
            if self._feed is not None and death.number is not None:
                self._feed.end(death.number)
                self._feed_logs()
            self._say({"say": "died", "leaving": self._leaving, **death.to_json()}, keep=True)
        self._feed_logs()
        self._reaches = [reach for reach in self._reaches if not reach.look(moment)]
        self._engines.watch(now, was_away=was_away)
        if now - self._trimmed > _TRIM_EVERY:
            self._trimmed = now
            self._engines.trim_logs()
            if self._log is not None:
                trim_log(self._log, self._engines.log_limit)

    def _feed_logs(self) -> None:
        if self._feed is not None and self._current is not None:
            for number, text in self._feed.read():
                self._say({"say": "log", "number": number, "text": text})

    # The wire.

    def _accept(self, mask: int) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        handle = connection.detach()
        self._add_line(_Line(handle, handle))

    def _add_line(self, line: _Line) -> None:
        self._lines[line.reader] = line
        self._selector.register(line.reader, selectors.EVENT_READ, lambda mask: self._serve_line(line, mask))

    def _serve_line(self, line: _Line, mask: int) -> None:
        # Dropped meanwhile: its number may be another's by now.
        if self._lines.get(line.reader) is line and mask & selectors.EVENT_WRITE:
            self._flush(line)
        if self._lines.get(line.reader) is not line or not mask & selectors.EVENT_READ:
            return
        try:
            data = os.read(line.reader, _PIECE)
            messages = line.buffer.feed(data)
        except BlockingIOError:
            return
        except (OSError, StokerError) as error:
            self._drop(line, str(error))
            return
        if not data:
            self._drop(line, "")
            return
        for message in messages:
            try:
                self._obey(line, message)
            except Exception as error:
                # Whatever it is that a wrong order raises: the engines go on.
                self._drop(line, f"an order that is none: {type(error).__name__}")
            if line is not self._current:
                return
            self._heard = self._clock.look(time.monotonic())

    def _drop(self, line: _Line, why: str) -> None:
        if self._lines.get(line.reader) is not line:
            return
        del self._lines[line.reader]
        if why:
            self._tell_log(f"a supervisor's connection ended: {why}")
        for handle in {line.reader, line.writer}:
            if handle in self._selector.get_map():
                self._selector.unregister(handle)
        line.unsent.clear()
        line.close()
        if self._current is line:
            self._current = None

    def _say(self, message: Mapping[str, Any], *, keep: bool = False) -> None:
        line = self._current
        if line is not None:
            line.unsent += encode_line(message)
            self._flush(line)
        if keep:
            self._recent.append(dict(message))
        if keep and self._current is None:
            # Nobody was there, or, as it turned out, nobody any more.
            self._deaths.append(dict(message))

    def _flush(self, line: _Line) -> None:
        waited = bool(line.unsent)
        try:
            while line.unsent:
                sent = os.write(line.writer, line.unsent[:_PIECE])
                del line.unsent[:sent]
        except BlockingIOError:
            if len(line.unsent) > _MOST_UNSENT:
                self._drop(line, "it does not read")
                return
        except OSError as error:
            self._drop(line, error.strerror or "")
            return
        if waited:
            self._want_write(line, bool(line.unsent))

    def _want_write(self, line: _Line, wanted: bool) -> None:
        def serve(mask: int) -> None:
            self._serve_line(line, mask)

        if line.writer == line.reader:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
            self._selector.modify(line.reader, events, serve)
        elif wanted and line.writer not in self._selector.get_map():
            self._selector.register(line.writer, selectors.EVENT_WRITE, serve)
        elif not wanted and line.writer in self._selector.get_map():
            self._selector.unregister(line.writer)

    # Orders.

    def _obey(self, line: _Line, message: Mapping[str, Any]) -> None:
        what = message["do"]
        if what == "attach":
            self._attach(line, message)
            return
        if line is not self._current:
            # The last that attached is the supervisor; an earlier one has been replaced.
            self._drop(line, "it is not attached")
            return
        match what:
            case "beat":
                pass
            case "start":
                self._births.add(EngineOrder.from_json(message["order"]))
            case "stop":
                self._engines.stop(message.get("numbers"), grace=float(message["grace"]))
            case "signal":
                self._engines.signal(int(message["number"]), int(message["signum"]))
            case "report":
                engines = self._engines.report(memory=bool(message.get("memory")))
                self._say(
                    {
                        "say": "report",
                        "id": message.get("id"),
                        "engines": [each.to_json() for each in engines],
                        **self._report_itself(memory=bool(message.get("memory"))),
                    }
                )
            case "settings":
                self._settle(message)
            case "reach":
                self._reach(message)
            case "tunnel":
                self._prepare_tunnel(message)
            case "use tunnel":
                self._use_tunnel(message)
            case "leave":
                self._leave(float(message["grace"]), ordered=True, tells_hub=bool(message.get("tells_hub")))
            case _:
                self._tell_log(f"an unknown order: {what}")

    def _attach(self, line: _Line, message: Mapping[str, Any]) -> None:
        self._was_found = True
        if message["version"] != VERSION:
            line.unsent += encode_line({"say": "refused", "problem": f"this agent speaks version {VERSION}"})
            self._flush(line)
            self._drop(line, f"a supervisor that speaks version {message['version']}")
            return
        earlier, self._current = self._current, line
        if earlier is not None and earlier is not line:
            # Or it would come back at once, and the two would take turns.
            earlier.unsent += encode_line({"say": "replaced"})
            self._flush(earlier)
            self._drop(earlier, "another has attached")
        self._settle(message)
        hello = {
            "say": "hello",
            "version": VERSION,
            "pid": os.getpid(),
            "hindrance": self._births.hindrance,
            "engines": [each.to_json() for each in self._engines.report(memory=False)],
            "deaths": list(self._deaths),
            # Among them those that were told to a connection that was cut off.
            "recent": list(self._recent),
            "tunnel": [] if self._tunnel is None else self._tunnel.ports,
        }
        self._deaths.clear()
        self._say(hello)

    def _settle(self, message: Mapping[str, Any]) -> None:
        self._lease = float(message.get("lease", self._lease))
        self._engines.frozen_after = float(message.get("frozen_after", self._engines.frozen_after))
        self._engines.log_limit = int(message.get("log_limit", self._engines.log_limit))

        if message.get("feeds_logs") and self._feed is None:
            self._feed = LogFeed()
            if self._log is not None:
                self._feed.follow(None, str(self._log))

    def _report_itself(self, *, memory: bool) -> dict[str, Any]:
        found: dict[str, Any] = {"pid": os.getpid(), "seconds": time.monotonic() - self._began}
        if memory:
            usage = read_usage(os.getpid())
            found |= {"memory": usage.pss, "cpu": usage.cpu}
        return {"agent": found}

    def _reach(self, message: Mapping[str, Any]) -> None:
        def tell(address: str | None, problems: Mapping[str, str]) -> None:
            self._say({"say": "answer", "id": message["id"], "address": address, "problems": dict(problems)})

        deadline = time.monotonic() + _REACH
        self._reaches.append(
            Reach(self._selector, message["addresses"], int(message["port"]), deadline=deadline, on_end=tell)
        )

    def _prepare_tunnel(self, message: Mapping[str, Any]) -> None:
        assert self._socket_path is not None
        if self._tunnel is None:
            # Few agents have one.
            from stoker.agent.tunnel import Tunnel

            self._tunnel = Tunnel(self._selector, self._socket_path.parent)
        carrier = self._tunnel.prepare(int(message["number"]))
        self._say({"say": "answer", "id": message["id"], "carrier": str(carrier)})

    def _use_tunnel(self, message: Mapping[str, Any]) -> None:
        def tell(is_whole: bool, problem: str = "") -> None:
            self._say({"say": "answer", "id": message["id"], "whole": is_whole, "problem": problem})

        assert self._tunnel is not None
        try:
            self._tunnel.use(Path(message["carrier"]), [int(port) for port in message["ports"]], on_resumed=tell)
        except OSError as error:
            tell(False, problem=error.strerror or str(error))

    # Engines that were ordered.

    def _welcome(self, order: EngineOrder, report: EngineReport) -> None:
        self._had_engines = True
        if self._feed is not None:
            self._feed.follow(order.number, order.log)
        self._say({"say": "started", **report.to_json()})

    def _refuse(self, order: EngineOrder, problem: str) -> None:
        self._say({"say": "refused", "number": order.number, "problem": problem}, keep=True)

    def _note_loaded(self, said: Mapping[str, Any]) -> None:
        if not self._was_loaded:
            self._was_loaded = True
            self._on_loaded(said)
            if "failed" in said:
                self.has_failed = True
                self._leave(0.0)

    # The end.

    def _on_term(self, signum: int, frame: object) -> None:
        # Not at once: perhaps it comes in the middle of a fork, before the engine is known.
        self._is_told_to_end = True

    def _leave(self, grace: float, *, ordered: bool = False, tells_hub: bool = True) -> None:
        self._leaving = True
        self._births.stop()
        self._engines.tells_hub = tells_hub
        self._engines.stop(None, grace=grace, ordered=ordered)

    def _finish(self) -> None:
        self._engines.end_orphans()
        self._say({"say": "left"})
        if self._tunnel is not None:
            self._tunnel.close()
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)

    def _forget(self) -> None:
        """Close, in a child, what is the agent's; what is not closed here is so by the child's fresh start."""
        self._selector.close()
        if self._listener is not None:
            self._listener.close()

    def _drain_waker(self, mask: int) -> None:
        try:
            while os.read(self._waker, 4096):
                pass
        except BlockingIOError:
            pass

    def _tell_log(self, text: str) -> None:
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} agent {os.getpid()}: {text}\n")
        sys.stderr.flush()


def _note(signum: int, frame: object) -> None:
    """Let the loop wake up."""


def split_standard_handles() -> tuple[int, int]:
    """Take standard input and output for the wire alone; what is printed by mistake goes where errors go."""
    reader, writer = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return reader, writer
