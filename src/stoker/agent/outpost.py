"""An agent on a host that was reached from elsewhere, and the connectors: processes that live as long as a connection.

Whoever reaches a host starts a connector there, which passes on what is said between its standard handles and the
agent. The first one forks the agent, so that this goes on when the connection ends; later ones find it by its socket.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stoker.agent.wire import VERSION, encode_line
from stoker.errors import StokerError
from stoker.system.files import read_last_lines
from stoker.system.machine import read_cores
from stoker.system.runtime import make_runtime_directory, remove_runtime_directory, runtime_directory

__all__ = ["serve_request"]

_PIECE = 1 << 16
_PROBE = b"\0" * (1 << 16)
_EVICTION = 8.0
_FAREWELL = 5.0
_LINES = 20
_POLL = 0.02


def serve_request(request: Mapping[str, Any]) -> None:
    """Serve what came over the connection: ``start`` an agent, or ``connect`` to one that runs.

    Args:
        request: ``do``; ``place``, which tells the agent from others of this user; ``logs``, the name of their
            directory; ``name``, ``lease``, ``env`` and ``silent`` for the agent.
    """
    place = runtime_directory(request["place"])
    path = place / "agent.sock"
    logs = _name_logs() / request["logs"]
    child: int | None = None
    if request["do"] == "start":
        try:
            _evict(path)
            _make_room(place, logs)
            peer, other = socket.socketpair()
            child = os.fork()
        except (OSError, StokerError) as error:
            _fail("agent", error)
            return
        if child == 0:
            peer.close()
            _be_agent(request, other, path, logs)
            return
        other.close()
    else:
        found = _connect(path)
        if found is None:
            _say({"say": "gone"})
            return
        peer = found
    cores = read_cores()
    _say(
        {
            "say": "landed",
            "runtime": str(place),
            "logs": str(logs),
            "home": str(Path.home()),
            "cores": cores.logical,
            "physical": cores.physical,
            # The address under which this host sees the one that reaches it; see ssh(1).
            "client": os.environ.get("SSH_CONNECTION", "").partition(" ")[0],
        }
    )
    _pass_on(peer, path, logs / f"{request['name']}.log", child)


def _name_logs() -> Path:
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state") / "stoker"


def _make_room(place: Path, logs: Path) -> None:
    make_runtime_directory(place)
    (place / "profile").mkdir(mode=0o700, exist_ok=True)
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    for directory in (logs, place):
        probe = directory / f".probe-{os.getpid()}"
        try:
            # A disk that is full takes the name and not the content.
            with probe.open("wb") as file:
                file.write(_PROBE)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(directory)) from error
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()


def _evict(path: Path) -> None:
    """End an agent of an earlier start, which its supervisor has given up: it would go on for its lease."""
    deadline = time.monotonic() + _EVICTION
    peer = _connect(path)
    if peer is not None:
        with contextlib.suppress(OSError):
            peer.sendall(encode_line({"do": "attach", "version": VERSION}))
            peer.sendall(encode_line({"do": "leave", "grace": 1.0, "tells_hub": True}))
            peer.settimeout(_EVICTION)
            while peer.recv(_PIECE):
                continue
        peer.close()
        while path.exists():
            if time.monotonic() > deadline:
                raise StokerError(f"an earlier agent at {path} does not leave")
            time.sleep(_POLL)
    remove_runtime_directory(path.parent)


def _connect(path: Path) -> socket.socket | None:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.connect(str(path))
    except OSError:
        peer.close()
        return None
    return peer


def _answers(path: Path) -> bool:
    peer = _connect(path)
    if peer is not None:
        peer.close()
    return peer is not None


def _be_agent(request: Mapping[str, Any], peer: socket.socket, path: Path, logs: Path) -> None:
    os.setsid()
    log = logs / f"{request['name']}.log"
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    # Nobody is to wait for this process because it holds the connection's handles.
    for number, source in ((0, null), (1, handle), (2, handle)):
        os.dup2(source, number)
    os.close(handle)
    os.close(null)
    # Not where the host's own profiles are: nothing but logs is to stay here.
    os.environ.update({**request["env"], "IPYTHONDIR": str(path.parent / "ipython")})
    os.chdir(Path.home())
    wire = peer.detach()

    def tell(said: Mapping[str, Any]) -> None:
        if "failed" in said:
            line = encode_line({"say": "failed", "stage": "import", **said["failed"]})
        else:
            line = encode_line({"say": "imported", "ipyparallel": said["loaded"]})
        # Few bytes, and the first on this connection: there is room for them.
        os.write(wire, line)

    from stoker.agent.run import run_agent

    run_agent(wire, os.dup(wire), socket_path=path, log=log, lease=float(request["lease"]), tidy=True, on_loaded=tell)


def _pass_on(peer: socket.socket, path: Path, log: Path, child: int | None) -> None:
    """Pass on what is said, until the connection or the agent ends."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    inward, outward = bytearray(), bytearray()
    handle = peer.fileno()
    for each in (1, handle):
        os.set_blocking(each, False)
    while True:
        wants = [each for each, data in ((1, outward), (handle, inward)) if data]
        # What is not taken there is not taken here.
        ready, free, _ = select.select(
            [each for each, data in ((0, inward), (handle, outward)) if len(data) < 1 << 20], wants, []
        )
        try:
            if 1 in free:
                del outward[: os.write(1, outward[:_PIECE])]
            if handle in free:
                del inward[: os.write(handle, inward[:_PIECE])]
            if 0 in ready:
                data = os.read(0, _PIECE)
                if not data:
                    return
                inward += data
            if handle in ready:
                data = os.read(handle, _PIECE)
                if not data:
                    break
                outward += data
        except BlockingIOError:
            continue
        except ConnectionResetError:
            break
        except BrokenPipeError:
            if _answers(path):
                # Nobody is at the other end.
                return
            break
    _say_farewell(bytes(outward), path, log, child)


def _say_farewell(rest: bytes, path: Path, log: Path, child: int | None) -> None:
    """Tell that the agent has ended, if it has: another connector may have taken this one's place."""
    data = rest
    if not _answers(path):
        status = _reap(child)
        remove_runtime_directory(path.parent)
        data += encode_line({"say": "gone", "status": status, "lines": read_last_lines(log, _LINES)})
    deadline = time.monotonic() + _FAREWELL
    with contextlib.suppress(OSError):
        while data and time.monotonic() < deadline:
            if select.select([], [1], [], _POLL)[1]:
                data = data[os.write(1, data) :]
        # Whoever hears it hangs up.
        while (left := deadline - time.monotonic()) > 0:
            if select.select([0], [], [], left)[0] and not os.read(0, _PIECE):
                return
    # A connection that was cut off stays here, with the server's process for it, until somebody ends that.
    parent = os.getppid()
    with contextlib.suppress(OSError):
        if Path(f"/proc/{parent}/comm").read_text().startswith("sshd"):
            os.kill(parent, signal.SIGTERM)


def _reap(child: int | None) -> int | None:
    if child is None:
        return None
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_POLL)
    return None


def _say(message: Mapping[str, Any]) -> None:
    data = encode_line(message)
    while data:
        data = data[os.write(1, data) :]


def _fail(stage: str, error: OSError | StokerError) -> None:
    number = getattr(error, "errno", None)
    _say(
        {
            "say": "failed",
            "stage": stage,
            "kind": errno.errorcode.get(number, "") if number else "",
            "path": str(getattr(error, "filename", "") or ""),
            "problem": getattr(error, "strerror", None) or str(error),
        }
    )
