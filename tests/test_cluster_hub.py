"""The line to a hub, where the hub does not want to speak."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq
import zmq.asyncio
from jupyter_client.session import Session

from stoker.cluster.hub import HubLink

FORMAT = {
    "interface": "tcp://127.0.0.1",
    "signature_scheme": "hmac-sha256",
    "pack": "json",
    "unpack": "json",
    "key": "",
}


@pytest.fixture
def encrypted_port() -> Iterator[int]:
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.curve_server = True
    router.curve_publickey, router.curve_secretkey = zmq.curve_keypair()
    yield router.bind_to_random_port("tcp://127.0.0.1")
    context.destroy(linger=0)


@pytest.mark.parametrize("key", [None, zmq.curve_keypair()[0].decode()], ids=["no key", "another key"])
def test_a_hub_that_refuses_the_handshake_keeps_nobody_waiting(encrypted_port: int, key: str | None) -> None:
    async def ask() -> list[bool]:
        hub = HubLink({**FORMAT, "registration": encrypted_port, "curve_serverkey": key}, on_change=lambda: None)
        # The first is taken by a connection that breaks; for the next ones there is none.
        answers = [await hub.sync(timeout=0.2) for _ in range(3)]
        hub.engines = {0: "name"}
        answers.append(await hub.unregister(0, timeout=0.2))
        hub.close()
        return answers

    begun = time.monotonic()
    answers = asyncio.run(asyncio.wait_for(ask(), 20))

    assert answers == [False] * 4
    assert time.monotonic() - begun < 5


def test_an_answer_does_not_undo_what_was_reported_after_it() -> None:
    session = Session(key=b"")
    context = zmq.asyncio.Context()
    registration, control, notification = (
        context.socket(zmq.ROUTER),
        context.socket(zmq.ROUTER),
        context.socket(zmq.XPUB),
    )
    ports = {
        name: socket.bind_to_random_port("tcp://127.0.0.1")
        for name, socket in (("registration", registration), ("control", control), ("notification", notification))
    }
    known = {"0": "zero"}

    async def answer_late() -> None:
        """Be a hub with whom engine 1 registers between its answer and its sending."""
        while True:
            name, rest = session.feed_identities(await registration.recv_multipart())
            request = session.deserialize(rest)
            reply = session.msg("connection_reply", {"status": "ok", "engines": dict(known)}, parent=request)
            if "1" not in known:
                known["1"] = "one"
                news = session.msg("registration_notification", {"id": 1, "uuid": "one"})
                await notification.send_multipart(session.serialize(news))
                # It is heard before the answer is.
                while 1 not in hub.engines:
                    await asyncio.sleep(0.01)
            await registration.send_multipart([*name, *session.serialize(reply)])

    async def ask() -> tuple[bool, list[dict[int, str]]]:
        nonlocal hub
        seen: list[dict[int, str]] = []
        hub = HubLink({**FORMAT, **ports}, on_change=lambda: seen.append(hub.engines))
        await notification.recv_multipart()
        answers = asyncio.create_task(answer_late())
        answered = await hub.sync(timeout=10)
        answers.cancel()
        hub.close()
        return answered, seen

    hub: Any = None
    try:
        answered, seen = asyncio.run(asyncio.wait_for(ask(), 20))
    finally:
        context.destroy(linger=0)

    assert (answered, seen) == (True, [{1: "one"}, {0: "zero", 1: "one"}])


def test_the_engines_side_of_a_controller_asks_no_engine() -> None:
    connection: dict[str, Any] = {**FORMAT, "registration": 1}

    async def ask() -> bool:
        hub = HubLink(connection, on_change=lambda: None)
        hub.engines = {0: "name"}
        asked = await hub.ask_engine(0, "drain_request", timeout=5)
        hub.close()
        return asked

    assert asyncio.run(asyncio.wait_for(ask(), 20)) is False
