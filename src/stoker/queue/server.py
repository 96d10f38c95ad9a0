"""The server: a manager's, hardened. Nobody who connects can stop it, fill it up, or make it run anything.

What differs from ``multiprocessing.managers.Server``: it reads plain values only; of its own methods only those that a
client needs can be called, of the desk's only ``METHODS``; who does not prove in time that it has the key is cut off
without a word, and when many such wait, the oldest goes first; a lack of file handles passes.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing import AuthenticationError, connection, managers
from typing import Any

from stoker.queue.channel import SERIALIZER, Channel, Listener, allow_silence
from stoker.queue.desk import METHODS, VERSION, Desk

__all__ = ["QueueServer"]

_PROOF = 5.0
"""Seconds that somebody who connects has to prove that it has the key."""

_IDLE = 600.0
"""Seconds without a request after which a connection is closed; clients open another when they need it."""

_STRANGERS = 200
"""Connections without proof at the most."""

_TELL_AGAIN = 10.0


class QueueServer(managers.Server):
    """Serves one desk."""

    public = ["create", "accept_connection", "dummy"]  # noqa: RUF012 - as the base has it
    fallback_mapping = {}  # noqa: RUF012

    def __init__(self, desk: Desk, *, host: str, port: int, key: bytes, tell: Callable[[str], None]) -> None:
        """Listen, without serving yet.

        Raises:
            OSError: It cannot listen there.
        """
        registry = {VERSION: (lambda: desk, METHODS, None, None)}
        super().__init__(registry, (host, port), key, SERIALIZER)  # type: ignore[arg-type]
        self.stop_event = threading.Event()
        # The base's own, which its description for type checkers leaves out.
        self._listener: Listener = vars(self)["listener"]
        self.port = self._listener.address[1]
        self._tell = tell
        self._told = 0.0
        self._strangers: dict[Channel, float] = {}
        self._gate = threading.Lock()

    def serve(self) -> None:
        """Serve until ``stop_event`` is set."""
        threading.Thread(target=self._accept, name="accept", daemon=True).start()
        while not self.stop_event.wait(1.0):
            self._drop_silent()

    def stop(self) -> None:
        """Serve no more, and listen no more."""
        self.stop_event.set()
        self._listener.close()

    def handle_request(self, conn: Any) -> None:
        """Serve one connection, once it has proved that it has the key."""
        try:
            if not self._admit(conn):
                return
            with contextlib.suppress(SystemExit):
                self._serve(conn)
        finally:
            conn.close()

    def _accept(self) -> None:
        while not self.stop_event.is_set():
            try:
                conn = self._listener.accept()
            except OSError:
                # No file handle is left, or whoever came has gone again.
                time.sleep(0.05)
                self._drop_silent(everyone=True)
                continue
            with self._gate:
                self._strangers[conn] = time.monotonic()
                oldest = next(iter(self._strangers)) if len(self._strangers) > _STRANGERS else None
            if oldest is not None:
                self._cut(oldest)
            try:
                threading.Thread(target=self.handle_request, args=(conn,), daemon=True).start()
            except RuntimeError:
                # No thread is left.
                with self._gate:
                    self._strangers.pop(conn, None)
                conn.close()

    def _admit(self, conn: Channel) -> bool:
        try:
            allow_silence(conn, _PROOF)
            connection.deliver_challenge(conn, self.authkey)  # type: ignore[attr-defined]
            connection.answer_challenge(conn, self.authkey)  # type: ignore[attr-defined]
            allow_silence(conn, _IDLE)
        except AuthenticationError:
            self._tell_seldom("somebody with a wrong key was refused")
            return False
        except (OSError, EOFError, ValueError, AssertionError, TypeError):
            self._tell_seldom("somebody who does not speak as a client was cut off")
            return False
        finally:
            with self._gate:
                self._strangers.pop(conn, None)
        return True

    def _serve(self, conn: Channel) -> None:
        try:
            _, name, arguments, keywords = conn.recv()
            if name not in self.public:
                raise ValueError(f"{name!r} cannot be called here")
            result = getattr(self, name)(conn, *arguments, **keywords)
        except EOFError:
            return
        except Exception as error:
            reply = ("#TRACEBACK", f"{type(error).__name__}: {error}")
        else:
            reply = ("#RETURN", result)
        with contextlib.suppress(OSError, ValueError):
            conn.send(reply)

    def _drop_silent(self, *, everyone: bool = False) -> None:
        with self._gate:
            limit = time.monotonic() - (0 if everyone else _PROOF)
            late = [conn for conn, since in self._strangers.items() if since <= limit]
        for conn in late:
            self._cut(conn)

    def _cut(self, conn: Channel) -> None:
        # Its thread wakes up, closes it and ends; closing it here would free its number for another too early.
        with self._gate:
            if self._strangers.pop(conn, None) is None:
                return
            with contextlib.suppress(OSError, ValueError):
                handle = socket.socket(fileno=conn.fileno())
                try:
                    handle.shutdown(socket.SHUT_RDWR)
                finally:
                    handle.detach()

    def _tell_seldom(self, line: str) -> None:
        if (now := time.monotonic()) - self._told > _TELL_AGAIN or not self._told:
            self._told = now
            self._tell(line)
