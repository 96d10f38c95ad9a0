"""One end of a tunnel: many streams carried over one connection, which may break and be made again; nothing is lost.

Each byte stays with the end that sent it until the other has passed it on. Where there is a new carrier, both ends say
how much they have of every stream, and go on from there; so a stream outlives the carriers, as long as both processes
live. The same is done by the reader and writer of Eternal Terminal, for one stream.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from stoker.errors import StokerError
from stoker.system.runtime import listen

__all__ = ["FIRST", "SESSION", "Relay", "read_session"]

_FRAME = struct.Struct("!BIQ")
"""What each frame begins with: its kind, the stream's number, and a number of bytes."""
_POSITION = struct.Struct("!IQ")
_HELLO, _OPEN, _DATA, _TAKEN, _CLOSE = range(5)
_VERSION = 1

SESSION = 16
"""Bytes by which an end that listens is told from others."""
_OWN = 8
"""Bytes by which any end is told from one before it."""
FIRST = _FRAME.size + SESSION
"""Bytes of a carrier that name its session."""

_WINDOW = 1 << 22
"""Bytes of a stream that may be under way in one direction."""
_TELL = 1 << 16
"""Bytes that are passed on before the other end is told."""
_PIECE = 1 << 16
_FULL = 1 << 18
"""Bytes that wait for the carrier at the most; of streams the rest waits at its source."""


class _Stream:
    """A connection at this end, and what of it is under way."""

    __slots__ = (
        "base",
        "closing",
        "done",
        "inward",
        "is_known",
        "number",
        "outward",
        "passed",
        "peer",
        "port",
        "sent",
        "told",
        "watched",
    )

    def __init__(self, number: int, port: int, peer: socket.socket) -> None:
        self.number = number
        self.port = port
        self.peer = peer
        self.outward = bytearray()
        """What the other end has not passed on yet, from ``base`` on."""
        self.base = 0
        self.sent = 0
        """How far it went to the present carrier."""
        self.inward = bytearray()
        """What came and was not taken here yet."""
        self.passed = 0
        self.told = 0
        self.done = False
        """Nothing more comes from here."""
        self.closing = False
        """Nothing more comes from the other end."""
        self.is_known = False
        """The other end has said something of it."""
        self.watched = 0

    @property
    def received(self) -> int:
        """Bytes that came from the other end."""
        return self.passed + len(self.inward)

    @property
    def is_unsent(self) -> bool:
        """Whether something is left for the carrier."""
        return self.sent < self.base + len(self.outward)


class Relay:
    """One end. For a loop whose selector holds functions of the ready events; waits for nothing."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        session: bytes,
        *,
        dial: Callable[[int], socket.socket] | None = None,
    ) -> None:
        """Prepare; there is no carrier yet.

        Args:
            selector: That of the loop.
            session: Names the end that listens.
            dial: Gives a socket that connects to a port; None at the end that listens.

        Raises:
            ValueError: The session's name has not ``SESSION`` bytes.
        """
        if len(session) != SESSION:
            raise ValueError(f"a session's name has {SESSION} bytes, not {len(session)}")
        self.session = session
        self._selector = selector
        self._dial = dial
        self._streams: dict[int, _Stream] = {}
        self._ready: dict[int, None] = {}
        self._listeners: dict[int, socket.socket] = {}
        self._count = 0
        self._carrier: socket.socket | None = None
        self._carrier_watched = 0
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._greeted = False
        self._on_resumed: Callable[[bool], None] | None = None
        self._name = os.urandom(_OWN)
        self._other = b""

    @property
    def ports(self) -> list[int]:
        """Those that it listens for."""
        return list(self._listeners)

    @property
    def is_carried(self) -> bool:
        """Whether there is a carrier."""
        return self._carrier is not None

    def listen(self, port: int, path: Path) -> None:
        """Take connections to a port of the other end, at a socket here.

        Raises:
            OSError: There can be no such socket.
        """
        if port not in self._listeners:
            listener = self._listeners[port] = listen(path)
            self._selector.register(listener, selectors.EVENT_READ, lambda mask: self._accept(port))

    def attach(self, carrier: socket.socket, *, on_resumed: Callable[[bool], None] | None = None) -> None:
        """Go on over a carrier, in place of the one before.

        Args:
            carrier: Connected; closed by this object.
            on_resumed: Called once, when the other end has said how far it is: whether it is the one that was there
                before, so that nothing is lost.
        """
        self.detach()
        carrier.setblocking(False)
        self._carrier, self._on_resumed = carrier, on_resumed
        self._carrier_watched = 0
        positions = b"".join(_POSITION.pack(each.number, each.received) for each in self._streams.values())
        data = self.session + self._name + positions
        self._put(_HELLO, _VERSION, len(data), data)
        self._pump()

    def detach(self) -> None:
        """Give up the carrier; the streams wait for another."""
        if self._carrier is not None:
            if self._carrier_watched:
                self._selector.unregister(self._carrier)
            self._carrier.close()
            self._carrier = None
        self._incoming.clear()
        self._outgoing.clear()
        self._greeted = False

    def close(self) -> None:
        """End everything."""
        self.detach()
        for listener in self._listeners.values():
            self._selector.unregister(listener)
            listener.close()
        self._listeners.clear()
        for stream in list(self._streams.values()):
            self._remove(stream)

    # Streams.

    def _accept(self, port: int) -> None:
        try:
            peer, _ = self._listeners[port].accept()
        except OSError:
            return
        self._count += 1
        stream = self._add(self._count, port, peer)
        if self._greeted:
            self._put(_OPEN, stream.number, port)
        self._pump()

    def _add(self, number: int, port: int, peer: socket.socket) -> _Stream:
        peer.setblocking(False)
        stream = self._streams[number] = _Stream(number, port, peer)
        self._watch(stream)
        return stream

    def _serve(self, stream: _Stream, mask: int) -> None:
        if self._streams.get(stream.number) is stream and mask & selectors.EVENT_WRITE:
            self._pass_on(stream)
        if self._streams.get(stream.number) is stream and mask & selectors.EVENT_READ:
            self._take(stream)
        self._pump()

    def _take(self, stream: _Stream) -> None:
        try:
            data = stream.peer.recv(_FULL)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            stream.outward += data
        else:
            stream.done = True
        self._ready[stream.number] = None
        self._watch(stream)

    def _pass_on(self, stream: _Stream) -> None:
        """Give the connection here what came for it."""
        try:
            while stream.inward and not stream.done:
                count = stream.peer.send(memoryview(stream.inward)[:_FULL])
                del stream.inward[:count]
                stream.passed += count
        except BlockingIOError:
            pass
        except OSError:
            # What it said before it went is passed on nevertheless.
            stream.done = True
            self._ready[stream.number] = None
        if stream.done:
            # Nobody is there to take it.
            stream.passed += len(stream.inward)
            stream.inward.clear()
        if stream.passed - stream.told >= _TELL and self._greeted:
            stream.told = stream.passed
            self._put(_TAKEN, stream.number, stream.passed)
        if stream.closing and not stream.inward:
            if not stream.done and self._greeted:
                self._put(_CLOSE, stream.number, 0)
            self._remove(stream)
        else:
            self._watch(stream)

    def _remove(self, stream: _Stream) -> None:
        del self._streams[stream.number]
        self._ready.pop(stream.number, None)
        if stream.watched:
            self._selector.unregister(stream.peer)
        stream.peer.close()

    def _watch(self, stream: _Stream) -> None:
        reads = not stream.done and not stream.closing and len(stream.outward) < _WINDOW
        writes = bool(stream.inward) and not stream.done
        events = selectors.EVENT_READ * reads | selectors.EVENT_WRITE * writes
        self._set_events(stream.peer, stream.watched, events, lambda mask: self._serve(stream, mask))
        stream.watched = events

    def _set_events(self, handle: socket.socket, before: int, after: int, serve: Callable[[int], None]) -> None:
        if before == after:
            return
        if not before:
            self._selector.register(handle, after, serve)
        elif after:
            self._selector.modify(handle, after, serve)
        else:
            self._selector.unregister(handle)

    # The carrier.

    def _put(self, kind: int, number: int, size: int, data: bytes | bytearray = b"") -> None:
        self._outgoing += _FRAME.pack(kind, number, size)
        self._outgoing += data

    def _pump(self) -> None:
        """Give the carrier what it takes."""
        while self._carrier is not None:
            if self._greeted and len(self._outgoing) < _FULL:
                self._fill()
            if not self._outgoing:
                break
            try:
                count = self._carrier.send(memoryview(self._outgoing)[:_FULL])
            except BlockingIOError:
                break
            except OSError:
                self.detach()
                return
            del self._outgoing[:count]
        if self._carrier is not None:
            events = selectors.EVENT_READ | selectors.EVENT_WRITE * bool(self._outgoing)
            self._set_events(self._carrier, self._carrier_watched, events, self._serve_carrier)
            self._carrier_watched = events

    def _fill(self) -> None:
        """Take from the streams in turn."""
        for number in list(self._ready):
            if len(self._outgoing) >= _FULL:
                return
            stream = self._streams[number]
            del self._ready[number]
            if stream.is_unsent:
                start = stream.sent - stream.base
                piece = stream.outward[start : start + _PIECE]
                self._put(_DATA, number, len(piece), piece)
                stream.sent += len(piece)
            if stream.is_unsent:
                self._ready[number] = None
            elif stream.done:
                self._put(_CLOSE, number, 0)

    def _serve_carrier(self, mask: int) -> None:
        # What came of a stream in the same look may have found it broken.
        if self._carrier is not None and mask & selectors.EVENT_READ:
            self._hear(self._carrier)
        self._pump()

    def _hear(self, carrier: socket.socket) -> None:
        try:
            data = carrier.recv(_FULL)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.detach()
            return
        self._incoming += data
        try:
            self._read_frames()
        except StokerError:
            # Whoever that is, it does not speak this.
            self.detach()

    def _read_frames(self) -> None:
        start = 0
        while self._carrier is not None and len(self._incoming) - start >= _FRAME.size:
            kind, number, size = _FRAME.unpack_from(self._incoming, start)
            body = start + _FRAME.size
            end = body + size if kind in (_HELLO, _DATA) else body
            if size > _WINDOW and kind in (_HELLO, _DATA):
                raise StokerError("a frame that is none")
            if len(self._incoming) < end:
                break
            data = self._incoming[body:end]
            if kind == _HELLO:
                self._resume(number, data)
            elif self._greeted:
                self._obey(kind, number, size, data)
            else:
                raise StokerError("a frame before the first")
            start = end
        del self._incoming[:start]

    def _obey(self, kind: int, number: int, size: int, data: bytearray) -> None:
        stream = self._streams.get(number)
        if kind == _OPEN:
            if stream is None and self._dial is not None:
                self._open(number, size)
        elif stream is None:
            # Gone here; and the other end has been told, or is about to be.
            pass
        elif kind == _DATA:
            stream.is_known = True
            stream.inward += data
            self._pass_on(stream)
        elif kind == _TAKEN:
            stream.is_known = True
            self._forget(stream, size)
        elif kind == _CLOSE:
            stream.closing = True
            self._pass_on(stream)
        else:
            raise StokerError(f"a frame of kind {kind}")

    def _open(self, number: int, port: int) -> None:
        assert self._dial is not None
        try:
            peer = self._dial(port)
        except OSError:
            self._put(_CLOSE, number, 0)
            return
        self._add(number, port, peer)
        # So that it is known there.
        self._put(_TAKEN, number, 0)

    def _forget(self, stream: _Stream, taken: int) -> None:
        """Let go of what the other end has passed on."""
        count = min(taken, stream.sent) - stream.base
        if count > 0:
            del stream.outward[:count]
            stream.base += count
            self._watch(stream)

    def _resume(self, version: int, data: bytearray) -> None:
        """Go on from where the other end is."""
        head = SESSION + _OWN
        positions, rest = divmod(len(data) - head, _POSITION.size)
        if version != _VERSION or positions < 0 or rest or data[:SESSION] != self.session:
            raise StokerError("not the other end of this tunnel")
        theirs = dict(_POSITION.iter_unpack(data[head:]))
        before, self._other = self._other, bytes(data[SESSION:head])
        self._greeted = True
        for stream in list(self._streams.values()):
            received = theirs.pop(stream.number, None)
            if received is not None:
                stream.is_known = True
                stream.sent = min(max(received, stream.base), stream.base + len(stream.outward))
            elif self._dial is None and not stream.is_known:
                self._put(_OPEN, stream.number, stream.port)
                stream.sent = stream.base
            else:
                self._remove(stream)
                continue
            stream.told = stream.passed
            self._put(_TAKEN, stream.number, stream.passed)
            self._ready[stream.number] = None
        if self._dial is None:
            # Those that ended here meanwhile. What the other end does not know, this end opens or ends, above.
            for number in theirs:
                self._put(_CLOSE, number, 0)
        if self._on_resumed is not None:
            told, self._on_resumed = self._on_resumed, None
            told(before in (b"", self._other))


def read_session(first: bytes) -> bytes | None:
    """Read the session's name from the first bytes of a carrier; None where it is none.

    Args:
        first: ``FIRST`` bytes.
    """
    kind, version, _ = _FRAME.unpack_from(first)
    return first[_FRAME.size :] if (kind, version) == (_HELLO, _VERSION) else None
