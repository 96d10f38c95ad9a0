from __future__ import annotations

import random
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.agent.relay import FIRST, SESSION, Relay, read_session

NAME = b"n" * SESSION
PATIENCE = 20.0


class Bench:
    """Two ends in one loop, a server that the far one's streams lead to, and carriers that can be cut."""

    def __init__(self, directory: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.mouth = directory / "mouth"
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.far = Relay(self.selector, NAME)
        self.near = self.make_near()
        self.far.listen(self.port, self.mouth)
        self.told: list[bool] = []
        self.peers: list[socket.socket] = []

    def make_near(self) -> Relay:
        return Relay(self.selector, NAME, dial=self._dial)

    def connect(self) -> None:
        """Have both ends go on over a new carrier."""
        one, other = socket.socketpair()
        self.near.attach(other)
        self.far.attach(one, on_resumed=self.told.append)

    def cut(self) -> None:
        """Cut the carrier off; what is under way on it is lost."""
        self.far.detach()
        self.near.detach()

    def open(self) -> tuple[socket.socket, socket.socket]:
        """Open a stream, and give its two ends."""
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.mouth))
        self.server.settimeout(0.0)
        server = self.run(self._accept)
        for each in (client, server):
            each.setblocking(False)
        self.peers += [client, server]
        return client, server

    def run(self, condition: Callable[[], Any]) -> Any:
        """Run the loop until a condition gives something, and give that."""
        deadline = time.monotonic() + PATIENCE
        while (found := condition()) is None:
            assert time.monotonic() < deadline
            self.turn(0.01)
        return found

    def turn(self, seconds: float = 0.0) -> None:
        for key, mask in self.selector.select(seconds):
            key.data(mask)

    def close(self) -> None:
        self.far.close()
        self.near.close()
        assert not self.selector.get_map()
        self.selector.close()
        for each in (self.server, *self.peers):
            each.close()

    def _dial(self, port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port))

    def _accept(self) -> socket.socket | None:
        try:
            return self.server.accept()[0]
        except BlockingIOError:
            return None


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def read(peer: socket.socket, into: bytearray) -> bool:
    """Read what is there; say whether that was the end."""
    try:
        data = peer.recv(1 << 16)
    except BlockingIOError:
        return False
    into += data
    return not data


def write(peer: socket.socket, data: bytes, start: int, most: int) -> int:
    """Write a piece, and give how many bytes were taken."""
    try:
        return peer.send(data[start : start + most]) if start < len(data) else 0
    except BlockingIOError:
        return 0


def send_all(bench: Bench, source: socket.socket, target: socket.socket, data: bytes) -> bytes:
    got, sent = bytearray(), 0

    def step() -> bytes | None:
        nonlocal sent
        sent += write(source, data, sent, 1 << 20)
        read(target, got)
        return bytes(got) if len(got) >= len(data) else None

    return bytes(bench.run(step))


def test_bytes_go_both_ways(bench: Bench) -> None:
    bench.connect()
    client, server = bench.open()

    assert send_all(bench, client, server, b"there") == b"there"
    assert send_all(bench, server, client, b"x" * 10_000_000) == b"x" * 10_000_000
    assert bench.told == [True]


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.long] if seed >= 10 else []) for seed in range(300)]
)
def test_nothing_is_lost_or_twice_however_often_the_carrier_is_cut(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    bench.connect()
    streams = [bench.open() for _ in range(3)]
    ways = [way for client, server in streams for way in ((client, server), (server, client))]
    data = [chance.randbytes(chance.choice((10, 100_000, 3_000_000))) for _ in ways]
    sent, got = [0] * len(ways), [bytearray() for _ in ways]
    cuts = 0

    deadline = time.monotonic() + PATIENCE
    while any(len(mine) < len(whole) for mine, whole in zip(got, data, strict=True)):
        assert time.monotonic() < deadline
        for place, (source, target) in enumerate(ways):
            sent[place] += write(source, data[place], sent[place], chance.choice((1, 1000, 200_000)))
            read(target, got[place])
        bench.turn()
        if not cuts or chance.random() < 0.05:
            bench.cut()
            cuts += 1
            for _ in range(chance.randrange(3)):
                bench.turn()
            bench.connect()

    assert [bytes(mine) for mine in got] == data
    assert set(bench.told) == {True}


def test_a_carrier_that_a_stream_finds_broken_in_the_same_look_is_dropped_once(bench: Bench) -> None:
    bench.connect()
    client, server = bench.open()
    bench.run(lambda: bench.told)
    carrier = bench.far._carrier
    bench.near.detach()
    client.send(b"sent again")
    events = bench.selector.select(1.0)
    assert len(events) == 2

    # What comes of the stream breaks it before it is heard itself.
    for key, mask in sorted(events, key=lambda event: event[0].fileobj is carrier):
        key.data(mask)

    assert bench.far._carrier is None
    bench.connect()
    got = bytearray()
    bench.run(lambda: read(server, got) or bytes(got) or None)
    assert got == b"sent again"


def test_a_stream_that_was_opened_or_ended_while_there_was_no_carrier_is_so_afterwards(bench: Bench) -> None:
    bench.connect()
    client, server = bench.open()
    other, other_server = bench.open()
    bench.cut()
    client.sendall(b"last words")
    client.close()
    other_server.close()
    late = socket.socket(socket.AF_UNIX)
    late.connect(str(bench.mouth))
    late.sendall(b"early words")
    bench.peers.append(late)
    for _ in range(5):
        bench.turn(0.01)

    bench.connect()
    accepted = bench.run(bench._accept)
    accepted.setblocking(False)
    bench.peers.append(accepted)

    words, early = bytearray(), bytearray()
    assert bench.run(lambda: read(server, words) or None)
    assert bench.run(lambda: read(other, bytearray()) or None)
    assert bench.run(lambda: read(accepted, early) or early or None) == b"early words"
    assert words == b"last words"
    bench.run(lambda: len(bench.far._streams) == 1 == len(bench.near._streams) or None)


def test_what_nobody_takes_waits_at_its_source(bench: Bench) -> None:
    bench.connect()
    client, _ = bench.open()
    data = bytes(64 << 20)
    sent = 0

    for _ in range(3000):
        sent += write(client, data, sent, 1 << 20)
        bench.turn()
    other = bench.open()

    assert sent < 16 << 20
    assert send_all(bench, *other, b"others go on") == b"others go on"
    assert sum(len(each.inward) + len(each.outward) for each in bench.near._streams.values()) <= 5 << 20


def test_another_near_end_is_told_from_the_one_before_and_its_streams_begin_anew(bench: Bench) -> None:
    bench.connect()
    client, server = bench.open()
    send_all(bench, client, server, b"known")
    bench.run(lambda: bench.far._streams[1].is_known or None)
    bench.cut()
    bench.near.close()
    bench.near = bench.make_near()

    bench.connect()
    bench.run(lambda: len(bench.told) == 2 or None)

    assert bench.told == [True, False]
    assert bench.run(lambda: read(client, bytearray()) or None)
    assert send_all(bench, *bench.open(), b"a new one") == b"a new one"


def test_a_port_at_which_nobody_listens_ends_the_stream(bench: Bench) -> None:
    bench.connect()
    bench.server.close()
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(bench.mouth))
    client.setblocking(False)
    bench.peers.append(client)

    assert bench.run(lambda: read(client, bytearray()) or None)


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 10,
        bytes(200),
        b"\x02" * 200,
        b"\xff" * 200,
    ],
    ids=["http", "zeros", "data", "ones"],
)
def test_who_speaks_something_else_is_no_carrier(bench: Bench, noise: bytes) -> None:
    one, other = socket.socketpair()
    bench.far.attach(one)
    other.sendall(noise)
    bench.peers.append(other)

    bench.run(lambda: None if bench.far.is_carried else True)
    bench.connect()

    assert send_all(bench, *bench.open(), b"goes on") == b"goes on"


def test_a_session_has_a_name_of_the_right_length(bench: Bench) -> None:
    with pytest.raises(ValueError, match="16 bytes, not 3"):
        Relay(bench.selector, b"abc")


def test_a_carriers_first_bytes_name_its_session(bench: Bench) -> None:
    one, other = socket.socketpair()
    bench.far.attach(one)
    bench.peers.append(other)

    assert read_session(other.recv(FIRST)) == NAME
    assert read_session(b"h" + bytes(FIRST)) is None
