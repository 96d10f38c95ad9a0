"""ipyparallel's heart monitor, quick where an engine comes and quiet where none does: parts of 9.2, replaced here.

The stock one finds an engine at the second beat after it registered. So a quick start wants quick beats, and all
engines answer them for as long as they live: at ten a second with two engines, 1.5 % of a core. This one greets whoever
begins to listen, takes the answer at once, and beats slowly meanwhile.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import zmq
from ipyparallel.controller import heartmonitor as _stock

__all__ = ["HeartMonitor", "pick_pause", "start_heartmonitor"]

_LONGEST = 500
"""Milliseconds: an engine looks every 500 and the configured period, and is to find a beat each time."""
_BEATS = 10
"""So many beats fit at least into the time after which an engine is given up."""
_SETTLE = 0.05
"""Seconds from an engine's first sign until it may get tasks: schedulers know its sockets by then, which are older."""
_SPACING = 0.001
"""Seconds for each engine between two greetings, which all engines answer."""


def pick_pause(period: int, misses: int) -> int:
    """Give the milliseconds between two beats.

    Args:
        period: What is configured, in milliseconds; never less.
        misses: How many of those an engine may miss.
    """
    return max(period, min(_LONGEST, period * misses // _BEATS))


class HeartMonitor(_stock.HeartMonitor):  # type: ignore[misc]
    """The heart monitor. Its name is that of the stock one, because that is its section's in configurations."""

    period: int
    max_heartmonitor_misses: int

    def start(self) -> None:
        """Begin to beat."""
        self._greeting = False
        pause = pick_pause(self.period, self.max_heartmonitor_misses)
        # The time after which an engine is given up stays.
        self.max_heartmonitor_misses = math.ceil(self.max_heartmonitor_misses * self.period / pause)
        self.period = pause
        super().start()
        self.ping_stream.on_recv(self._note_listener)

    def handle_pong(self, msg: list[bytes]) -> None:
        """Hear an engine, and tell the hub of one that is new."""
        super().handle_pong(msg)
        if msg[0] in self.responses and msg[0] not in self.hearts:
            self.handle_new_hearts({msg[0]})

    def _note_listener(self, subscription: list[bytes]) -> None:
        # Others end theirs.
        if subscription[0].startswith(b"\1") and not self._greeting:
            self._greeting = True
            self.loop.call_later(max(_SETTLE, _SPACING * len(self.hearts)), self._greet)

    def _greet(self) -> None:
        self._greeting = False
        # The last beat once more: who does not answer this one has not missed another.
        self.ping_stream.send(str(self.lifetime).encode())
        self.ping_stream.flush()


def start_heartmonitor(**options: Any) -> None:
    """Be the heart monitor's process; options as those of the stock function."""
    _stock.HeartMonitor = HeartMonitor
    context = _Context()
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(_stock._setup_heartmonitor(context, **options))
        loop.run_forever()
    finally:
        loop.close()
        context.destroy()


class _Context(zmq.Context[Any]):
    """Makes a socket that hears of subscriptions where one that publishes is asked for."""

    def socket(self, socket_type: int, *args: Any, **options: Any) -> Any:
        if socket_type != zmq.PUB:
            return super().socket(socket_type, *args, **options)
        socket = super().socket(zmq.XPUB, *args, **options)
        # Of each, although all subscribe to the same.
        socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        return socket
