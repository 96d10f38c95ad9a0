"""The other end of the control socket: how commands and programs ask a supervisor."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from stoker.errors import SupervisorError

__all__ = ["VERSION", "ask_supervisor", "is_supervised"]

VERSION = 1
"""Of the control socket's protocol."""

_CONNECT = 5.0


def is_supervised(control_socket: Path) -> bool:
    """Say whether a supervisor is there, also one that is stopped (SIGSTOP) and could not answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(_CONNECT)
            peer.connect(str(control_socket))
    except TimeoutError:
        return True
    except OSError:
        return False
    return True


def ask_supervisor(control_socket: Path, do: str, *, timeout: float, **words: Any) -> dict[str, Any]:
    """Ask a supervisor for something and give its answer.

    Args:
        control_socket: Where it answers.
        do: What is asked for.
        timeout: Seconds until the answer.
        **words: What the request needs.

    Raises:
        SupervisorError: Nobody answers there in time, or what was asked for is refused.
    """
    request = json.dumps({"version": VERSION, "do": do, **words}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(_CONNECT)
            peer.connect(str(control_socket))
            peer.settimeout(timeout)
            peer.sendall(request)
            with peer.makefile("rb") as file:
                line = file.readline()
    except TimeoutError:
        raise SupervisorError(f"the supervisor did not answer within {timeout:g} s; is it stopped (SIGSTOP)?") from None
    except OSError as error:
        raise SupervisorError(f"the supervisor cannot be reached at {control_socket}: {error.strerror}") from error
    if not line:
        raise SupervisorError("the supervisor ended before it answered")
    answer: dict[str, Any] = json.loads(line)
    if not answer.pop("ok"):
        raise SupervisorError(answer["error"])
    return answer
