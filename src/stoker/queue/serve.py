"""Serving a queue: everything from its directory to its port, until it is told to stop."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable

from stoker.errors import BusyError, QueueError
from stoker.queue.desk import Desk
from stoker.queue.directory import Address, QueueDirectory, read_key
from stoker.queue.journal import Journal
from stoker.queue.server import QueueServer
from stoker.system.locks import hold_lock

__all__ = ["LOOPBACK", "explain_exposure", "serve"]

LOOPBACK = "127.0.0.1"
_HANDLES = 65536
_ANY = "0.0.0.0"  # noqa: S104 - only where the user asks for it, with a warning


def serve(
    directory: QueueDirectory | None = None,
    *,
    ip: str = LOOPBACK,
    port: int | None = None,
    lease: float = 30.0,
    attempts: int = 3,
    time_limit: float | None = None,
    new: bool = False,
    tell: Callable[[str], None] = lambda line: None,
    warn: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve a queue until interrupted. What was there when it was last served is there again.

    Args:
        directory: Its directory; None: the default one.
        ip: The address of an interface, or ``*``.
        port: None: the one it was last served at, else any free one.
        lease: Seconds of silence after which a worker's jobs go to others.
        attempts: How many workers a job may kill before it is given up.
        time_limit: Seconds that a job may take unless its producer says otherwise.
        new: Whether to put an old journal aside, and begin an empty one.
        tell: Told what happens, line by line.
        warn: Told what the user should know.

    Raises:
        QueueError: It cannot be served.
    """
    if lease < 1 or attempts < 1 or (time_limit is not None and time_limit <= 0):
        raise QueueError("lease and attempts must be 1 or more, time_limit above 0")
    directory = directory or QueueDirectory.default()
    directory.make()
    _allow_many_connections()
    try:
        with hold_lock(directory.lock, wait=0.0, purpose="serving this queue"):
            # Again, because whoever made it at the same moment may have been the last.
            key = read_key(directory.key)
            _serve_alone(directory, key, ip, port, lease, attempts, time_limit, new, tell, warn)
    except BusyError as error:
        raise QueueError(f"{directory.path}: {error.holder} holds it; one queue has one server") from None


def explain_exposure(address: Address) -> str | None:
    """Say what others can see, and how to do better, where a queue listens beyond this machine; else None."""
    if address.host in ("::1", "localhost") or address.host.startswith("127."):
        return None
    return (
        "jobs and results cross the network as they are, not encrypted (the key does not cross it). "
        "Better serve on 127.0.0.1, and type on each other machine: "
        f"ssh -N -L {address.port}:127.0.0.1:{address.port} THIS_MACHINE"
    )


def _serve_alone(
    directory: QueueDirectory,
    key: bytes,
    ip: str,
    port: int | None,
    lease: float,
    attempts: int,
    time_limit: float | None,
    new: bool,
    tell: Callable[[str], None],
    warn: Callable[[str], None],
) -> None:
    if new:
        _put_aside(directory, tell)
    journal = Journal(directory.journal)
    try:
        desk = Desk(journal, lease=lease, attempts=attempts, time_limit=time_limit)
        server = _listen(desk, directory, key, _ANY if ip == "*" else ip, port, tell, warn)
        address = Address(host=ip if ip != "*" else "*", port=server.port)
        reached = Address(host=LOOPBACK if ip in ("*", _ANY) else ip, port=address.port)
        desk.address = str(address)
        directory.write_address(reached)
        if (exposure := explain_exposure(address)) is not None:
            warn(exposure)
        counts = journal.counts
        tell(f"serving {directory.path} at {address}: {counts.put} jobs, {counts.done} of them done")
        if journal.closed:
            tell("it is closed: it takes no more jobs; --new begins another")
        threading.Thread(target=desk.watch, args=(server.stop_event, tell), name="leases", daemon=True).start()
        try:
            server.serve()
        finally:
            server.stop()
            desk.end()
    except OSError as error:
        raise QueueError(f"{directory.path}: {error.strerror or error}") from error
    finally:
        journal.end()


def _listen(
    desk: Desk,
    directory: QueueDirectory,
    key: bytes,
    host: str,
    port: int | None,
    tell: Callable[[str], None],
    warn: Callable[[str], None],
) -> QueueServer:
    last = directory.read_address()
    wanted = port if port is not None else (last.port if last is not None else 0)
    try:
        return QueueServer(desk, host=host, port=wanted, key=key, tell=tell)
    except OSError as error:
        if port is not None or not wanted:
            raise QueueError(
                f"cannot listen at {Address(host=host, port=wanted)}: {error.strerror or error}"
            ) from error
        warn(f"port {wanted}, where it was served last, is taken: workers elsewhere need the new address")
    try:
        return QueueServer(desk, host=host, port=0, key=key, tell=tell)
    except OSError as error:
        raise QueueError(f"cannot listen at {host}: {error.strerror or error}") from error


def _put_aside(directory: QueueDirectory, tell: Callable[[str], None]) -> None:
    if not directory.journal.exists():
        return
    aside = f".{time.strftime('%Y%m%d-%H%M%S')}"
    # What SQLite has not moved into the main file yet lies beside it, and goes with it.
    for suffix in ("-wal", "-shm", ""):
        path = directory.journal.with_name(directory.journal.name + suffix)
        if path.exists():
            path.rename(path.with_name(f"journal{aside}.sqlite{suffix}"))
    tell(f"the old journal is now {directory.journal.with_name(f'journal{aside}.sqlite')}")


def _allow_many_connections() -> None:
    low, high = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _HANDLES if high == resource.RLIM_INFINITY else min(high, _HANDLES)
    if low != resource.RLIM_INFINITY and low < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, high))
