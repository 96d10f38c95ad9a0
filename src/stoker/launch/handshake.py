"""Why a controller does not answer: asked of the network and of ZeroMQ, which ``ipyparallel.Client`` does not do."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import zmq
from jupyter_client.session import Session
from zmq.utils.monitor import recv_monitor_message

__all__ = ["Silence", "explain_silence"]

_BEGINNING = b"\xff" + bytes(8) + b"\x7f\x03\x00"
"""Of what each side says first: a signature and a version; then the other one says all of its own (ZMTP 3.1, 3.1)."""
_GREETING = 64
_MECHANISM = slice(12, 32)
_ENDS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
)


_Reason = Literal[
    "nobody listens", "cut off", "no controller", "no key", "wrong key", "not encrypted", "unsigned", "busy", "answers"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Why a controller does not answer."""

    reason: _Reason
    text: str
    """The same in words; what is private is not in it."""

    @property
    def is_final(self) -> bool:
        """Whether waiting is in vain: not so for a controller that is being started again."""
        return self.reason in ("no key", "wrong key", "not encrypted")


def explain_silence(connection: Mapping[str, Any], *, host: str, timeout: float) -> Silence:
    """Find out why a controller does not answer to what a connection file says.

    Args:
        connection: The content of the file, the clients' or the engines'.
        host: The address at which the controller is reached from here.
        timeout: Seconds that the network and the controller have for each answer.
    """
    port = int(connection["registration"])
    reason, problem = _find_reason(connection, host, port, timeout=timeout)
    return Silence(reason=reason, text=_TEXTS[reason].format(place=f"{host}:{port}", problem=problem))


_STALE = "it has ended, or the file is an older controller's"
_TEXTS: dict[_Reason, str] = {
    "nobody listens": f"nobody listens at {{place}}: {_STALE}",
    "cut off": "{place} cannot be reached: {problem}",
    "no controller": f"what listens at {{place}} is no controller: {_STALE}",
    "no key": "the controller at {place} is encrypted, and the file holds no key for that",
    "wrong key": f"the controller at {{place}} has another key than the file says: {_STALE}",
    "not encrypted": f"what listens at {{place}} is not encrypted, as the file says: {_STALE}",
    "unsigned": (
        f"the controller at {{place}} does not answer what is signed with the file's key: {_STALE}; or it is busy"
    ),
    "busy": "the controller at {place} takes the connection and says nothing: it is stopped, or too busy",
    "answers": "the controller at {place} answers now: it was too busy",
}


def _find_reason(connection: Mapping[str, Any], host: str, port: int, *, timeout: float) -> tuple[_Reason, str]:
    encrypted = bool(connection.get("curve_serverkey"))
    try:
        mechanism = _read_mechanism(host, port, timeout=timeout)
    except ConnectionRefusedError:
        return "nobody listens", ""
    except TimeoutError:
        return "cut off", "no answer; the machine is away, or a firewall lets nothing through"
    except OSError as error:
        return "cut off", error.strerror or str(error)
    if mechanism is None:
        return "busy", ""
    if mechanism not in ("CURVE", "NULL"):
        return "no controller", ""
    if (mechanism == "CURVE") != encrypted:
        return ("not encrypted" if encrypted else "no key"), ""
    outcome = _shake_hands(connection, f"tcp://{host}:{port}", timeout=timeout)
    if outcome == "busy" and not encrypted:
        # What is signed with another key, or with none, it drops without a word.
        return "unsigned", ""
    return outcome, ""


def _read_mechanism(host: str, port: int, *, timeout: float) -> str | None:
    """Ask what a socket speaks: ``CURVE``, ``NULL``; empty where it is no ZeroMQ socket, None where it says nothing.

    Raises:
        OSError: It cannot be reached.
    """
    peer = socket.create_connection((host, port), timeout)
    with peer, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        peer.settimeout(timeout)
        peer.sendall(_BEGINNING)
        answer = b""
        try:
            while len(answer) < _GREETING and (piece := peer.recv(_GREETING - len(answer))):
                answer += piece
        except TimeoutError:
            return "" if answer else None
        if len(answer) == _GREETING and answer[0] == _BEGINNING[0] and answer[9] == _BEGINNING[9]:
            return answer[_MECHANISM].rstrip(b"\0").decode("ascii", "replace")
    return ""


def _shake_hands(connection: Mapping[str, Any], url: str, *, timeout: float) -> _Reason:
    """Try to talk as a client does, and say how that ends: ``answers``, ``busy`` or ``wrong key``."""
    context = zmq.Context()
    peer = context.socket(zmq.DEALER)
    peer.linger = 0
    try:
        if connection.get("curve_serverkey"):
            peer.curve_publickey, peer.curve_secretkey = zmq.curve_keypair()
            peer.curve_serverkey = str(connection["curve_serverkey"]).encode()
        monitor = peer.get_monitor_socket()
        peer.connect(url)
        ended = _watch(monitor, timeout=timeout)
        if ended is not None and ended != zmq.EVENT_HANDSHAKE_SUCCEEDED:
            return "wrong key"
        session = Session(
            key=str(connection.get("key", "")).encode(),
            signature_scheme=connection["signature_scheme"],
            packer=connection["pack"],
            unpacker=connection["unpack"],
        )
        session.send(peer, "connection_request")
        return "answers" if peer.poll(int(timeout * 1000)) else "busy"
    finally:
        peer.disable_monitor()
        context.destroy(linger=0)


def _watch(monitor: Any, *, timeout: float) -> int | None:
    """Give the event with which a handshake ends; None where that takes longer than ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while monitor.poll(max(0, int((deadline - time.monotonic()) * 1000))):
        event: int = recv_monitor_message(monitor)["event"]
        if event in _ENDS:
            return event
    return None
