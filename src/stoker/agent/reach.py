"""Reach: which of a controller's addresses this host gets through to. Waits for nothing; an agent's loop calls it."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Callable, Sequence

__all__ = ["Reach"]

_SIGNATURE = 10
"""Bytes of a ZMTP greeting's signature: 0xFF, eight of padding, 0x7F (ZMTP 3.1, section 3.1)."""


class Reach:
    """Tries several addresses at once and tells the first at which a ZeroMQ socket answers."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        addresses: Sequence[str],
        port: int,
        *,
        deadline: float,
        on_end: Callable[[str | None, dict[str, str]], None],
    ) -> None:
        """Begin.

        Args:
            selector: That of the loop; what is registered with it is a function of the ready events.
            addresses: IPv4 addresses.
            port: Where the controller listens.
            deadline: When to give up, on the clock that ``look`` is given.
            on_end: Told the address, None where there is none, and why each of the others failed.
        """
        self.deadline = deadline
        self._selector = selector
        self._on_end = on_end
        self._problems: dict[str, str] = {}
        self._probes: dict[str, socket.socket] = {}
        self._done = False
        for address in addresses:
            probe = self._probes[address] = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            probe.setblocking(False)
            try:
                probe.connect((address, port))
            except BlockingIOError:
                pass
            except OSError as error:
                self._fail(address, error.strerror or "unreachable")
                continue
            selector.register(probe, selectors.EVENT_READ, lambda mask, address=address: self._read(address))

    def look(self, now: float) -> bool:
        """Give up where the time is over; say whether this has ended."""
        if not self._done and (not self._probes or now > self.deadline):
            self._end(None)
        return self._done

    def _read(self, address: str) -> None:
        probe = self._probes.get(address)
        if probe is None:
            return
        if number := probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._fail(address, os.strerror(number))
            return
        try:
            greeting = probe.recv(_SIGNATURE)
        except OSError as error:
            self._fail(address, error.strerror or "unreachable")
            return
        if greeting[:1] == b"\xff":
            self._end(address)
        else:
            self._fail(address, "another program listens there")

    def _fail(self, address: str, problem: str) -> None:
        self._problems[address] = problem
        self._close(address)

    def _end(self, address: str | None) -> None:
        for left in list(self._probes):
            if left != address:
                self._problems[left] = "no answer"
            self._close(left)
        self._done = True
        self._on_end(address, self._problems)

    def _close(self, address: str) -> None:
        probe = self._probes.pop(address)
        if probe.fileno() in self._selector.get_map():
            self._selector.unregister(probe)
        probe.close()
