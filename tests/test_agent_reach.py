from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from stoker.agent.reach import Reach


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Listens on loopback and greets as ZeroMQ does."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            peer.sendall(b"\xff" + bytes(8) + b"\x7f")

    threading.Thread(target=serve, daemon=True).start()
    yield server
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def look(addresses: list[str], port: int, *, patience: float = 5.0) -> tuple[str | None, dict[str, str]]:
    """Have addresses tried, and give what is told."""
    told: list[tuple[str | None, dict[str, str]]] = []
    with selectors.DefaultSelector() as selector:
        deadline = time.monotonic() + patience
        reach = Reach(
            selector, addresses, port, deadline=deadline, on_end=lambda *words: told.append((words[0], dict(words[1])))
        )
        while not reach.look(time.monotonic()):
            for key, mask in selector.select(0.01):
                key.data(mask)
        assert not selector.get_map()
    (found,) = told
    return found


def test_the_address_at_which_zeromq_answers_is_found(listener: socket.socket) -> None:
    address, problems = look(["192.0.2.1", "127.0.0.1"], listener.getsockname()[1])

    assert address == "127.0.0.1"
    assert list(problems) == ["192.0.2.1"]


def test_no_address_is_found_where_nobody_listens_or_somebody_else_does() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        peer = threading.Thread(target=lambda: server.accept()[0].sendall(b"SSH-2.0-x\r\n"))
        peer.start()
        other = look(["127.0.0.1"], port)
        peer.join()
    nobody = look(["127.0.0.1"], port)

    assert other == (None, {"127.0.0.1": "another program listens there"})
    assert nobody == (None, {"127.0.0.1": "Connection refused"})


def test_one_that_says_nothing_is_waited_for_no_longer_than_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert look(["127.0.0.1"], server.getsockname()[1], patience=0.1) == (None, {"127.0.0.1": "no answer"})
