"""The near end of a cluster's tunnels: a process of its own, so that they outlive the supervisor that started it.

Started with a path, an address and a lease. At the path, a Unix socket, it is held by supervisors and reached by the
carriers that ssh connections bring; the address is the controller's. Without anybody who holds it, it goes on for the
lease.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from pathlib import Path

from stoker.agent.relay import FIRST, Relay, read_session
from stoker.errors import StokerError
from stoker.system.clocks import RunningClock
from stoker.system.locks import hold_lock
from stoker.system.runtime import listen

__all__ = ["END", "HOLD", "main"]

HOLD = b"h"
"""What says, first, that a connection is no carrier but somebody who holds this."""
END = b"e"
"""What such a one says when it needs this no more."""

_LOOK = 0.5
_STEP = 1.0
"""Seconds between two looks at the clock that are still believed."""


class _NearEnd:
    """One relay for each host."""

    def __init__(self, listener: socket.socket, target: str, lease: float) -> None:
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        self._target = target
        self._lease = lease
        self._holders: set[socket.socket] = set()
        self._relays: dict[bytes, Relay] = {}
        self._carried: dict[bytes, float] = {}
        self._clock = RunningClock(time.monotonic(), most=_STEP)
        self._held = 0.0
        self._is_over = False
        self._selector.register(listener, selectors.EVENT_READ, lambda mask: self._accept())

    def serve(self) -> None:
        """Serve until nobody needs it."""
        while not self._is_over:
            for key, mask in self._selector.select(_LOOK):
                key.data(mask)
            now = self._clock.look(time.monotonic())
            if self._holders:
                self._held = now
            self._is_over = self._is_over or now - self._held > self._lease
            self._carried |= {session: now for session, relay in self._relays.items() if relay.is_carried}
            for session in [each for each, last in self._carried.items() if now - last > self._lease]:
                del self._carried[session]
                self._relays.pop(session).close()

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return
        peer.setblocking(False)
        self._selector.register(peer, selectors.EVENT_READ, lambda mask: self._meet(peer))

    def _meet(self, peer: socket.socket) -> None:
        """Find out what a connection is for."""
        try:
            first = peer.recv(FIRST, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            first = b""
        if first[:1] not in (b"", HOLD) and len(first) < FIRST:
            return
        self._selector.unregister(peer)
        session = read_session(first) if len(first) == FIRST else None
        if first[:1] == HOLD:
            self._holders.add(peer)
            self._selector.register(peer, selectors.EVENT_READ, lambda mask: self._hear(peer))
        elif session is None:
            peer.close()
        else:
            if session not in self._relays:
                self._relays[session] = Relay(self._selector, session, dial=self._dial)
            self._relays[session].attach(peer)

    def _hear(self, holder: socket.socket) -> None:
        try:
            data = holder.recv(FIRST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if END in data or not data:
            self._selector.unregister(holder)
            self._holders.discard(holder)
            holder.close()
        if END in data and not self._holders:
            self._is_over = True

    def _dial(self, port: int) -> socket.socket:
        peer = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            peer.connect((self._target, port))
        except BlockingIOError:
            pass
        except OSError:
            peer.close()
            raise
        return peer


def main(path: str, target: str, lease: str) -> None:
    """Be the near end, unless there is one already."""
    try:
        with hold_lock(Path(f"{path}.lock"), wait=0.0, purpose="to be the near end of tunnels"):
            _NearEnd(listen(Path(path)), socket.gethostbyname(target), float(lease)).serve()
            Path(path).unlink(missing_ok=True)
    except StokerError:
        # Another was faster.
        return


if __name__ == "__main__":
    main(*sys.argv[1:])
