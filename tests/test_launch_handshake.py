"""Why a controller does not answer, asked of sockets as a controller and others have them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import zmq
from jupyter_client.session import Session

from stoker.launch.handshake import explain_silence

FORMAT = {"signature_scheme": "hmac-sha256", "pack": "json", "unpack": "json"}
PUBLIC, SECRET = zmq.curve_keypair()
STALE = "it has ended, or the file is an older controller's"
KEYS = {
    "plain": {"key": "right"},
    "plain, another key": {"key": "wrong"},
    "encrypted": {"key": "", "curve_serverkey": PUBLIC.decode()},
    "encrypted, another key": {"key": "", "curve_serverkey": zmq.curve_keypair()[0].decode()},
}


@contextlib.contextmanager
def hub(*, encrypted: bool, answers: bool = True) -> Iterator[int]:
    """Something that answers as a hub does, and drops what is not signed with its key."""
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    if encrypted:
        router.curve_server, router.curve_secretkey, router.curve_publickey = True, SECRET, PUBLIC
    port = router.bind_to_random_port("tcp://127.0.0.1")
    session = Session(key=b"" if encrypted else b"right")
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            if not router.poll(20):
                continue
            ident, frames = session.feed_identities(router.recv_multipart())
            with contextlib.suppress(ValueError):
                message = session.deserialize(frames)
                if answers:
                    session.send(router, "connection_reply", {}, parent=message, ident=ident)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield port
    finally:
        ended.set()
        thread.join()
        context.destroy(linger=0)


@contextlib.contextmanager
def plain_server(data: bytes | None) -> Iterator[int]:
    """Something else: it says this, or takes connections and never speaks."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        peers: list[socket.socket] = []
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    peer, _ = server.accept()
                    if data is None:
                        peers.append(peer)
                    else:
                        peer.sendall(data)
                        peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        ended.set()
        thread.join()
        for peer in peers:
            peer.close()


@pytest.mark.parametrize(
    ("encrypted", "keys", "reason", "text"),
    [
        (True, "encrypted", "answers", "the controller at {} answers now: it was too busy"),
        (
            True,
            "encrypted, another key",
            "wrong key",
            f"the controller at {{}} has another key than the file says: {STALE}",
        ),
        (True, "plain", "no key", "the controller at {} is encrypted, and the file holds no key for that"),
        (False, "encrypted", "not encrypted", f"what listens at {{}} is not encrypted, as the file says: {STALE}"),
        (False, "plain", "answers", "the controller at {} answers now: it was too busy"),
        (
            False,
            "plain, another key",
            "unsigned",
            f"the controller at {{}} does not answer what is signed with the file's key: {STALE}; or it is busy",
        ),
    ],
)
def test_a_controller_that_refuses_is_told_from_one_that_answers(
    encrypted: bool, keys: str, reason: str, text: str
) -> None:
    with hub(encrypted=encrypted) as port:
        # A message with another signature is dropped without a word.
        silence = explain({**KEYS[keys], "registration": port}, timeout=2.0 if reason == "unsigned" else 10.0)

    assert (silence.reason, silence.text) == (reason, text.format(f"127.0.0.1:{port}"))
    assert not any(key and key in silence.text for key in (KEYS[keys]["key"], SECRET.decode()))


def test_a_controller_that_is_too_busy_is_no_wrong_key() -> None:
    with hub(encrypted=True, answers=False) as port:
        silence = explain({**KEYS["encrypted"], "registration": port}, timeout=0.2)

    assert silence.reason == "busy"
    assert not silence.is_final


@pytest.mark.parametrize(
    ("data", "reason"), [(b"SSH-2.0-OpenSSH", "no controller"), (b"", "no controller"), (None, "busy")]
)
def test_what_is_no_controller_is_said_to_be_none(data: bytes | None, reason: str) -> None:
    with plain_server(data) as port:
        silence = explain({**KEYS["encrypted"], "registration": port}, timeout=0.2 if reason == "busy" else 10.0)

    assert silence.reason == reason


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    silence = explain({**KEYS["encrypted"], "registration": port}, timeout=10.0)

    assert (silence.reason, silence.text) == ("nobody listens", f"nobody listens at 127.0.0.1:{port}: {STALE}")


def explain(connection: dict[str, Any], *, timeout: float) -> Any:
    return explain_silence({**FORMAT, **connection}, host="127.0.0.1", timeout=timeout)
