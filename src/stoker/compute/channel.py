"""The channel: how batches go through a view, and what comes back, as events in a queue from the client's own thread.

A load-balanced view hands batches to its scheduler, which chooses the engine. A direct view, and the scheduler
``pure``, which loses what a dead engine had, leave the choice here: each batch goes to the engine with the fewest.
"""

from __future__ import annotations

import collections
import contextlib
import queue
import signal
import sys
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ipyparallel
from ipyparallel.serialize import PrePickled

from stoker.compute.losses import watch_losses
from stoker.compute.marks import Marks
from stoker.compute.parallel import portable
from stoker.compute.parcels import Parcel
from stoker.compute.runner import shorten_name
from stoker.errors import ConnectError
from stoker.system.machine import read_boot

__all__ = ["Answer", "Channel", "Gone", "Home", "Lost", "open_channel"]

_RAN = ("EngineError", "EngineStopped", "KeyboardInterrupt")
_NOT_RUN = ("TaskAborted", "ImpossibleDependency", "UnmetDependency", "InvalidDependency", "TaskTimeout")

_LATE = 2.0
"""Seconds after its reply until the output of a quiet batch is taken to be complete."""

_known: weakref.WeakKeyDictionary[Any, _Known] = weakref.WeakKeyDictionary()
"""What is kept for each client between calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """A batch came home."""

    number: int
    reply: Sequence[Any]
    """As ``runner.run_batch`` returns it."""

    engine: int | None
    """The engine's number; None where it has left since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A batch will not come home."""

    number: int
    ran: bool
    """Whether an engine may have begun it."""

    engine: int | None
    reason: str
    unknown: bool = False
    """Whether it ended in a way that ipyparallel does not end tasks in: sending it again would not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """An engine left, for whatever reason; or one came, which only wakes the reader."""

    uuid: str
    """The one that left; empty: one came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An engine or the hub answered a question of ``Channel.ask``."""

    asked: float
    """When, on the monotonic clock."""

    uuid: str
    """The engine, which ran nothing when it answered; empty: the hub."""

    waiting: int = 0
    """How many tasks wait at the scheduler, whoever sent them; from the hub only."""


Event = Home | Lost | Gone | Answer


@dataclass(slots=True)
class _Known:
    marks: Marks = field(default_factory=Marks)
    parcels: list[Parcel] = field(default_factory=list)
    """Some that no call uses."""

    informed: set[str] = field(default_factory=set)
    """The uuids of engines that have the runner."""

    marked: set[str] = field(default_factory=set)
    """The uuids of engines that leave marks."""

    names: dict[str, int] = field(default_factory=dict)
    """The numbers of all engines that were seen, by uuid."""

    short_names: dict[int, str] = field(default_factory=dict)
    """Their uuids, by what stands for them in marks."""

    numbers: int = 0

    outputs: collections.deque[tuple[float, Any]] = field(default_factory=collections.deque)
    """Futures of the output of the last quiet batches, and when each came home."""

    def meet(self, engines: Mapping[str, int]) -> None:
        """Take note of engines: numbers by uuid."""
        for uuid in engines.keys() - self.names.keys():
            self.short_names[shorten_name(uuid)] = uuid
        self.names.update(engines)

    def end_output(self, output: Any) -> None:
        """End the output of a quiet batch, soon: what it printed may come after its reply.

        No word of an engine's ends it, and until it ends the client forgets nothing of the batch; what comes later it
        would keep for ever.
        """
        now = time.monotonic()
        while self.outputs and self.outputs[0][0] < now - _LATE:
            _, oldest = self.outputs.popleft()
            if not oldest.done():
                oldest.set_result(None)
        self.outputs.append((now, output))

    def close(self) -> None:
        """Give the memory back."""
        self.marks.close()
        while self.parcels:
            self.parcels.pop().close()


@dataclass(slots=True)
class _Sent:
    message: str
    engine: str | None
    """The uuid, where the choice was ours."""

    metadata: Mapping[str, Any]
    """As the client fills it in; it forgets its own reference as soon as both reply and output have come."""

    quiet: bool
    """Whether engines of this host say nothing of it before they reply: what they run stands in memory."""

    begun: str | None = None
    """The uuid of the engine that is busy with it; empty: one was, and has answered or, because it leaves, handed it
    on; None: nobody was heard."""


def open_channel(view: Any) -> Channel:
    """Open a channel through a view.

    Args:
        view: An ipyparallel ``LoadBalancedView`` or ``DirectView``.

    Raises:
        TypeError: It is neither.
    """
    if not isinstance(view, ipyparallel.LoadBalancedView | ipyparallel.DirectView):
        raise TypeError(f"a map needs a LoadBalancedView or a DirectView of ipyparallel, got {type(view).__name__}")
    return Channel(view)


class Channel:
    """Batches on their way through a view, for one call."""

    def __init__(self, view: Any) -> None:
        self._view = view
        self._client = view.client
        self._balanced = isinstance(view, ipyparallel.LoadBalancedView) and self._client._task_scheme != "pure"
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._sent: dict[int, _Sent] = {}
        self._asked: set[str] = set()
        """Who has not answered yet."""
        self._known = _recall(self._client)
        self._own = _name_own_engine()
        watch_losses(self._client)

    def listen(self) -> None:
        """Hear of engines that come and go, until it is closed."""
        self._client._registration_callbacks.append(self._note_registration)

    @property
    def engines(self) -> dict[str, int]:
        """The engines that the view can use now: numbers by uuid."""
        numbers = dict(self._client._engines)
        targets = self._view.targets
        if targets is None or targets == "all":
            chosen: Iterable[int] = numbers
        elif isinstance(targets, int):
            chosen = (targets,)
        else:
            chosen = targets
        # A task that waits for another one keeps its engine from running it.
        engines = {numbers[number]: number for number in chosen if number in numbers and numbers[number] != self._own}
        self._known.meet(engines)
        return engines

    @property
    def nested(self) -> bool:
        """Whether this process is an engine of the cluster: whoever waits is a task on it."""
        return self._own is not None and self._own in self._client._engines.values()

    @property
    def closed(self) -> bool:
        """Whether the client was closed, so that nothing will ever come."""
        return bool(self._client._closed)

    @property
    def marks(self) -> Marks:
        """Where engines of this host note what they run."""
        return self._known.marks

    @property
    def spare_parcels(self) -> list[Parcel]:
        """Some that no call uses."""
        return self._known.parcels

    @property
    def marked(self) -> set[str]:
        """The uuids of engines that leave marks."""
        return self._known.marked

    @property
    def informed(self) -> set[str]:
        """The uuids of engines that have the runner."""
        return self._known.informed

    def number(self) -> int:
        """Give a number that no other batch of this client has."""
        self._known.numbers += 1
        return self._known.numbers

    def send(
        self, number: int, stub: PrePickled, parts: Sequence[Any], *, engine: str | None = None, quiet: bool = False
    ) -> None:
        """Send a batch.

        Args:
            number: As ``number`` gave it.
            stub: The function that the engine calls.
            parts: Its arguments.
            engine: The uuid of the engine that is to run it; None: whichever.
            quiet: Whether the batch leaves a mark as soon as it begins. Stoker's engines of this host then spare the
                messages that they are busy and idle, which the client, the hub and a relay would read: half of what a
                small batch costs.

        Raises:
            ConnectError: The client is closed.
        """
        if engine is None and not self._balanced:
            engine = self._choose()
        metadata: dict[str, Any] = self._render_metadata() if engine is None else {"label": None}
        if quiet:
            metadata["quiet"] = read_boot()
        try:
            future = self._client.send_apply_request(
                self._client._task_stream if engine is None else self._client._mux_stream,
                stub,
                list(parts),
                ident=None if engine is None else engine.encode(),
                metadata=metadata,
            )
        except (RuntimeError, OSError) as error:
            raise ConnectError("the client is closed: connect again") from error
        self._sent[number] = sent = _Sent(future.msg_id, engine, future.output.metadata, quiet)
        future.iopub_callbacks.append(partial(self._note_output, sent))
        future.add_done_callback(partial(self._note_reply, number, sent))

    def receive(self, timeout: float) -> Event | None:
        """Wait up to ``timeout`` seconds for something to happen; None where nothing did."""
        # One at a time: a caller that stops after it leaves the others for who cleans up.
        with contextlib.suppress(queue.Empty):
            return self._events.get(block=timeout > 0, timeout=timeout)
        return None

    def wake(self) -> None:
        """Have whoever waits for something to happen look around; from any thread."""
        self._events.put(Gone(uuid=""))

    def find(self, number: int) -> str | None:
        """Give the uuid of the engine that has begun a batch; None where none is known."""
        sent = self._sent.get(number)
        if sent is None:
            return None
        # The client itself notes the first engine that says that it is busy, also before the callback is there.
        begun = sent.metadata["engine_uuid"] if sent.begun is None else sent.begun
        if sent.quiet and not begun and (mark := self.marks.read(number)) is not None:
            begun = self._known.short_names.get(mark.engine)
        return begun or sent.engine

    def forget(self, number: int) -> None:
        """Take no more interest in a batch."""
        self._sent.pop(number, None)

    def recall(self, number: int) -> int | None:
        """Give the number of the engine that has begun a batch, even if it has left; None where none is known."""
        return self._known.names.get(self.find(number) or "")

    def inform(self, engine: int | None, *, marked: bool) -> None:
        """Note that an engine has the runner, and whether it leaves marks."""
        uuid = None if engine is None else self._client._engines.get(engine)
        if uuid is not None:
            self._known.informed.add(uuid)
            if marked:
                self._known.marked.add(uuid)

    def misinformed(self) -> None:
        """Note that an engine has lost the runner: it is another one under the same name, for instance."""
        self._known.informed.clear()

    def ask(self) -> None:
        """Ask the hub what waits, and each engine whether it runs something; answers come as ``Answer``, or never."""
        now = time.monotonic()
        with contextlib.suppress(Exception):
            if "" not in self._asked:
                self._asked.add("")
                reply = self._client._send(self._client._query_stream, "queue_request", content={"targets": []})
                reply.add_done_callback(partial(self._note_answer, now, ""))
            question = PrePickled(portable(_do_nothing))
            # An engine at a long item answers after it, once.
            for uuid in self.engines.keys() - self._asked:
                self._asked.add(uuid)
                future = self._client.send_apply_request(self._client._mux_stream, question, ident=uuid.encode())
                future.add_done_callback(partial(self._note_answer, now, uuid))

    def abort(self, numbers: Iterable[int]) -> None:
        """Ask the engines to drop batches that they have not begun; answers come as ``Lost``."""
        messages = [self._sent[number].message for number in numbers if number in self._sent]
        if messages:
            with contextlib.suppress(Exception):
                self._client.abort(messages, block=False)

    def interrupt(self, numbers: Iterable[int]) -> None:
        """Interrupt the engines that run batches, in the middle of an item."""
        engines = self.engines
        for number in numbers:
            engine = engines.get(self.find(number) or "")
            mark = self.marks.read(number)
            if engine is not None and not (mark is not None and mark.finished):
                with contextlib.suppress(Exception):
                    self._client.send_signal(signal.SIGINT, targets=[engine], block=False)

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(ValueError):
            self._client._registration_callbacks.remove(self._note_registration)

    def _choose(self) -> str:
        load = collections.Counter(sent.engine for sent in self._sent.values())
        engines = self.engines
        if not engines:
            raise ConnectError("there are no engines")
        return min(engines, key=lambda uuid: (load[uuid], engines[uuid]))

    def _render_metadata(self) -> dict[str, Any]:
        targets = [] if self._view.targets is None and not self.nested else list(self.engines)
        # As LoadBalancedView writes them. Retries are ours: the scheduler's own can wait for ever.
        return {"after": [], "follow": [], "timeout": None, "targets": targets, "retries": 0, "label": None}

    # From here on in the client's thread.

    def _note_registration(self, event: dict[str, Any]) -> None:
        uuid = str(event["uuid"]) if event["event"] == "unregister" else ""
        self._events.put(Gone(uuid=uuid))

    def _note_answer(self, asked: float, uuid: str, future: Any) -> None:
        self._asked.discard(uuid)
        reply = future.result()
        if uuid:
            if not isinstance(reply, BaseException):
                self._events.put(Answer(asked=asked, uuid=uuid))
        else:
            waiting = reply["content"].get("unassigned", 0) if isinstance(reply, dict) else 0
            self._events.put(Answer(asked=asked, uuid="", waiting=int(waiting)))

    def _note_output(self, sent: _Sent, message: Mapping[str, Any]) -> None:
        state, engine = message["content"].get("execution_state"), message["metadata"].get("engine", "")
        if state == "busy":
            sent.begun = engine
        elif state == "idle" and sent.begun == engine:
            sent.begun = ""

    def _note_reply(self, number: int, sent: _Sent, future: Any) -> None:
        if sent.quiet:
            self._known.end_output(future.output)
        sent.begun = sent.metadata["engine_uuid"]
        engine = sent.metadata["engine_id"]
        reply = future.result()
        if isinstance(reply, ipyparallel.error.TaskAborted):
            event: Event = Lost(number=number, ran=False, engine=None, reason="aborted")
        elif isinstance(reply, ipyparallel.RemoteError):
            text = f"{reply.ename}: {reply.evalue}"
            unknown = reply.ename not in (*_RAN, *_NOT_RUN)
            event = Lost(number=number, ran=reply.ename in _RAN, engine=engine, reason=text, unknown=unknown)
        elif isinstance(reply, BaseException):
            text = f"{type(reply).__name__}: {reply}"
            event = Lost(number=number, ran=False, engine=engine, reason=text, unknown=True)
        else:
            event = Home(number=number, reply=reply, engine=engine)
        self._events.put(event)


def _recall(client: Any) -> _Known:
    if client not in _known:
        _known[client] = known = _Known()
        weakref.finalize(client, known.close)
    return _known[client]


def _do_nothing() -> None:
    pass


def _name_own_engine() -> str | None:
    """Give the uuid of the engine that this process is; None where it is none."""
    find = getattr(sys.modules.get("IPython"), "get_ipython", None)
    kernel: Any = getattr(find() if find is not None else None, "kernel", None)
    return str(kernel.ident) if hasattr(kernel, "engine_id") else None
