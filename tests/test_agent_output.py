"""The stream of an engine, with a real sending thread and someone who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import zmq
from ipykernel.iostream import IOPubThread
from jupyter_client.session import Session

from stoker.agent.output import EngineStream


@dataclass(frozen=True, kw_only=True)
class Output:
    stream: EngineStream
    listener: zmq.Socket[bytes]
    woken: list[Callable[[], None]]
    """What the sending thread was woken for."""

    def hear(self, *, seconds: float = 10) -> str | None:
        """Give what is sent next; None where nothing is."""
        if not self.listener.poll(int(seconds * 1000)):
            return None
        session = Session(key=b"")
        _, frames = session.feed_identities(self.listener.recv_multipart())
        text: str = session.deserialize(frames)["content"]["text"]
        return text


async def _clean_nothing(thread: IOPubThread) -> None:
    """What it cleans up now and then is cut off at its end, with a complaint."""


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[Output]:
    monkeypatch.setattr(IOPubThread, "_run_event_pipe_gc", _clean_nothing)
    context = zmq.Context()
    sender = context.socket(zmq.PUB)
    listener = context.socket(zmq.SUB)
    listener.subscribe(b"")
    sender.bind("inproc://output")
    listener.connect("inproc://output")
    thread = IOPubThread(sender)
    thread.start()
    woken: list[Callable[[], None]] = []
    schedule = thread.schedule
    monkeypatch.setattr(thread, "schedule", lambda act: (woken.append(act), schedule(act)))
    stream = EngineStream(Session(key=b""), thread, "stdout")
    # What is written goes with a flush only.
    stream.flush_interval = 60
    stream.topic = b"engine.0.stdout"
    yield Output(stream=stream, listener=listener, woken=woken)
    thread.stop()
    context.destroy(linger=0)


def test_a_flush_wakes_nobody_where_nothing_was_written(output: Output) -> None:
    for _ in range(3):
        output.stream.flush()

    assert output.woken == []
    assert output.hear(seconds=0) is None


def test_what_was_written_is_sent_before_a_flush_returns(output: Output) -> None:
    print("one", file=output.stream)
    output.stream.writelines(["two\n", "three\n"])

    output.stream.flush()

    assert output.hear(seconds=1) == "one\ntwo\nthree\n"


def test_a_flush_sends_what_was_written_since_the_last(output: Output) -> None:
    heard = []
    for text in ("a", "b"):
        print(text, end="", flush=True, file=output.stream)
        heard.append(output.hear())
    woken = len(output.woken)

    output.stream.flush()

    assert heard == ["a", "b"]
    assert len(output.woken) == woken
