"""The supervisor's line to the hub: which engines it knows, how it is told of one that is gone, how engines are asked.

It speaks jupyter_client's messages over plain ZeroMQ sockets: an ``ipyparallel.Client`` would cost the supervisor four
times the memory, and threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import zmq
import zmq.asyncio
from jupyter_client.session import Session

__all__ = ["HubLink"]

_UNHEARD = 0.2

_Message = dict[str, Any]


class HubLink:
    """A connection to one controller, from its start to its end."""

    def __init__(self, connection: Mapping[str, Any], *, on_change: Callable[[], None]) -> None:
        """Connect; nothing is waited for.

        Args:
            connection: The content of the clients' connection file. With the engines', which names fewer of its
                ports, engines cannot be asked, and who came or went is known after ``sync`` only.
            on_change: Called when an engine came or went.
        """
        self.engines: dict[int, str] = {}
        """What the hub has said last: the name (uuid) of each engine by number."""
        self._on_change = on_change
        self._heard = 0
        self._connection = connection
        self._context = zmq.asyncio.Context()
        self._session = Session(
            key=connection.get("key", "").encode(),
            signature_scheme=connection["signature_scheme"],
            packer=connection["pack"],
            unpacker=connection["unpack"],
        )
        self._keys = zmq.curve_keypair() if connection.get("curve_serverkey") else None
        self._query = self._connect(zmq.DEALER, "registration")
        self._sockets = [self._query]
        self._control: Any = None
        self._answers: dict[str, asyncio.Future[_Message]] = {}
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._listen(self._query))]
        if "notification" in connection:
            self._control = self._connect(zmq.DEALER, "control")
            news = self._connect(zmq.SUB, "notification")
            news.subscribe(b"")
            self._sockets += [self._control, news]
            self._tasks += [
                loop.create_task(self._listen(self._control)),
                loop.create_task(self._listen_to_news(news)),
            ]
        for task in self._tasks:
            task.add_done_callback(_note_done)

    async def sync(self, *, timeout: float) -> bool:
        """Ask the hub for its engines; say whether it has answered."""
        deadline = asyncio.get_running_loop().time() + timeout
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            heard = self._heard
            reply = await self._ask(self._query, "connection_request", {}, timeout=left)
            if reply is None or reply["content"].get("status") != "ok":
                return False
            # Whoever was reported meanwhile may have come, or gone, after the hub had answered.
            if heard == self._heard:
                self._note({int(number): uuid for number, uuid in reply["content"]["engines"].items()})
                return True
        return False

    async def unregister(self, number: int, *, timeout: float) -> bool:
        """Have the hub forget an engine; say whether it has.

        A socket for this alone: what one sends to a hub that does not answer would reach the next, later.
        """
        socket = self._connect(zmq.DEALER, "registration")
        socket.linger = int(timeout * 1000)
        try:
            message = self._session.msg("unregistration_request", {"id": number})
            deadline = asyncio.get_running_loop().time() + timeout
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(socket.send_multipart(self._session.serialize(message)), timeout)
            if number not in self.engines:
                # One that has not registered wholly is in no list: nothing tells when the hub has heard of it.
                await asyncio.sleep(min(_UNHEARD, timeout))
            while number in self.engines and asyncio.get_running_loop().time() < deadline:
                await self.sync(timeout=0.5)
                if number in self.engines:
                    await asyncio.sleep(0.02)
        finally:
            socket.close(linger=0)
        return number not in self.engines

    async def ask_engine(self, number: int, what: str, *, timeout: float, content: _Message | None = None) -> bool:
        """Send an engine a request on its control channel, which is served beside a running task.

        Args:
            number: The engine's number.
            what: The message type.
            timeout: Seconds until its reply.
            content: Of the message.
        """
        uuid = self.engines.get(number)
        if uuid is None or self._control is None:
            return False
        reply = await self._ask(self._control, what, content or {}, timeout=timeout, ident=uuid.encode())
        return reply is not None and reply["content"].get("status", "ok") == "ok"

    def close(self) -> None:
        """End the connection."""
        for task in self._tasks:
            task.cancel()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result({"content": {"status": "closed"}})
        for socket in self._sockets:
            socket.close(linger=0)
        self._context.destroy(linger=0)

    def _connect(self, kind: int, channel: str) -> Any:
        socket = self._context.socket(kind)
        socket.linger = 0
        if self._keys is not None:
            socket.curve_publickey, socket.curve_secretkey = self._keys
            socket.curve_serverkey = self._connection["curve_serverkey"].encode()
        protocol, _, address = self._connection["interface"].partition("://")
        # The controller runs on this machine.
        host = "127.0.0.1" if address in ("*", "0.0.0.0") else address  # noqa: S104
        socket.connect(f"{protocol}://{host}:{self._connection[channel]}")
        return socket

    async def _ask(
        self, socket: Any, what: str, content: _Message, *, timeout: float, ident: bytes | None = None
    ) -> _Message | None:
        message = self._session.msg(what, content)
        answer = self._answers[message["header"]["msg_id"]] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                # Not Session.send, which goes around the socket's asyncio side: an answer that comes in that moment
                # would only be seen when the next one does. It waits where nobody shakes hands.
                await socket.send_multipart(self._session.serialize(message, ident=ident))
                reply: _Message = await answer
                return reply
        except TimeoutError:
            return None
        finally:
            del self._answers[message["header"]["msg_id"]]

    async def _listen(self, socket: Any) -> None:
        while True:
            message = self._parse(await socket.recv_multipart())
            answer = self._answers.get(message["parent_header"].get("msg_id", "")) if message else None
            if answer is not None and not answer.done():
                answer.set_result(message or {})

    async def _listen_to_news(self, news: Any) -> None:
        while True:
            message = self._parse(await news.recv_multipart())
            if message is None:
                continue
            content = message["content"]
            self._heard += 1
            match message["msg_type"]:
                case "registration_notification":
                    self._note({**self.engines, int(content["id"]): content["uuid"]})
                case "unregistration_notification":
                    self._note({number: uuid for number, uuid in self.engines.items() if number != int(content["id"])})

    def _parse(self, frames: list[bytes]) -> _Message | None:
        with contextlib.suppress(Exception):
            _, rest = self._session.feed_identities(frames)
            message: _Message = self._session.deserialize(rest)
            return message
        # What is damaged, or signed with another key, tells nothing.
        return None

    def _note(self, engines: dict[int, str]) -> None:
        if engines != self.engines:
            self.engines = engines
            self._on_change()


def _note_done(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        traceback.print_exception(error)
