"""The line to a server: made when it is first needed, made again when it breaks, given up after a bound."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from multiprocessing import AuthenticationError, managers
from pathlib import Path
from typing import Any

from stoker.errors import QueueError
from stoker.queue.channel import Channel, open_channel
from stoker.queue.desk import VERSION
from stoker.queue.directory import Address, QueueDirectory, read_key
from stoker.queue.plain import PlainError

__all__ = ["Line"]

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0


class Line:
    """One connection to the desk of a server. Not for several threads at once."""

    def __init__(
        self,
        directory: QueueDirectory,
        *,
        address: Address | None = None,
        key: Path | None = None,
        wait: float = 60.0,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Say where the server is.

        Args:
            directory: Where address and key are, unless they are given.
            address: Where the server listens.
            key: The file with its key.
            wait: Seconds for which a server that does not answer is tried again.
            tell: Told when it is away, and when it is back.
        """
        self._directory = directory
        self._given = address
        self._key = key or directory.key
        self._wait = wait
        self._tell = tell
        self._channel: Channel | None = None
        self._desk = ""
        self.stop: threading.Event | None = None
        """Once set, nothing is tried again."""

    def ask(self, method: str, *arguments: object, once: bool = False) -> Any:
        """Call a method of the desk.

        Args:
            method: Its name.
            arguments: Plain values.
            once: Whether to give up at once where the server does not answer.

        Raises:
            QueueError: It refuses, or does not answer in time.
        """
        begin = time.monotonic()
        pause = _FIRST_PAUSE
        told = False
        while True:
            try:
                channel = self._channel or self._open()
                kind, value = managers.dispatch(channel, self._desk, method, arguments)  # type: ignore[attr-defined]
                break
            except (OSError, EOFError) as error:
                self.hang_up()
                left = begin + self._wait - time.monotonic()
                problem = f"no server answers at {self._where()} ({_reason(error)})"
                if once or left <= 0 or (self.stop is not None and self.stop.is_set()):
                    raise QueueError(f"{problem}; is it there? stoker queue serve") from error
                if not told:
                    told = True
                    self._tell(f"{problem}; trying for {left:.0f} s more")
            except (PlainError, managers.RemoteError) as error:
                self.hang_up()
                raise QueueError(f"{self._where()}: the server speaks another language: {_last_line(error)}") from error
            time.sleep(min(pause, _LONGEST_PAUSE))
            pause *= 2
        if told:
            self._tell(f"the server at {self._where()} answers again")
        if kind == "failed":
            raise QueueError(f"{self._where()}: {value}")
        if kind != "ok":
            raise QueueError(str(value))
        return value

    def hang_up(self) -> None:
        """Close the connection; the next question opens another."""
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.close()
            self._channel = None

    def _open(self) -> Channel:
        key = read_key(self._key)
        address = self._address()
        if address is None:
            raise QueueError(f"{self._directory.path}: no queue was ever served here; type: stoker queue serve")
        place = (address.host, address.port)
        try:
            opened = open_channel(place, key)
            try:
                self._desk, _ = managers.dispatch(opened, None, "create", (VERSION,))  # type: ignore[attr-defined]
            finally:
                opened.close()
            self._channel = open_channel(place, key)
        except AuthenticationError:
            raise QueueError(
                f"{address}: the server has another key than {self._key}; copy its key file here"
            ) from None
        except (AssertionError, ValueError):
            raise QueueError(f"{address}: whoever listens there is no server of a queue") from None
        managers.dispatch(self._channel, None, "accept_connection", ("client",))  # type: ignore[attr-defined]
        return self._channel

    def _address(self) -> Address | None:
        # Read each time: the server may be back at another port.
        return self._given or self._directory.read_address()

    def _where(self) -> str:
        return str(self._address() or self._directory.path)


def _reason(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "the connection ended"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip("- ")]
    return lines[-1] if lines else type(error).__name__
