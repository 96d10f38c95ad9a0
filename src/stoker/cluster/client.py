"""The door to ipyparallel's client. Every wait is bounded."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import ipyparallel
from ipyparallel.serialize import can_map, uncan_map

from stoker.compute import portable
from stoker.compute.losses import watch_losses
from stoker.errors import ConnectError
from stoker.launch import ConnectionFiles
from stoker.launch.connection import find_host
from stoker.profile import ProfileDirectory
from stoker.system.deferral import defer

__all__ = ["catch_up", "connect_client", "run_on_all", "wait_until_registered"]

_POLL = 0.01
_SETUP = 60.0
_ASK_AGAIN = 0.25
_ANSWER = 2.0


def connect_client(directory: ProfileDirectory, cluster_id: str, *, timeout: float) -> Any:
    """Connect an ``ipyparallel.Client``.

    Raises:
        ConnectError: There is no connection file, or nobody answers in ``timeout`` seconds; it says why.
    """
    file = ConnectionFiles.of(directory, cluster_id).client
    try:
        client = ipyparallel.Client(str(file), profile_dir=str(directory.path), cluster_id=cluster_id, timeout=timeout)
    except (OSError, KeyError, ValueError) as error:  # among them FileNotFoundError and TimeoutError
        if not file.exists():
            raise ConnectError(f"no controller runs here: there is no connection file {file}") from error
        raise ConnectError(f"{file}: {_explain(file)}") from error
    watch_losses(client)
    # It would be imported with the first task, 0.1 s.
    defer("numpy", can_map, uncan_map)
    return client


def _explain(file: Path) -> str:
    """Say why the controller of a connection file does not answer."""
    from stoker.launch.handshake import explain_silence

    try:
        connection = json.loads(file.read_text())
        return explain_silence(connection, host=find_host(connection), timeout=_ANSWER).text
    except (OSError, KeyError, TypeError, ValueError):
        return "is no whole connection file"


def wait_until_registered(
    client: Any, numbers: Collection[int], *, deadline: float, check: Callable[[], None]
) -> tuple[int, ...]:
    """Wait until the hub knows engines of these numbers.

    Args:
        client: An ``ipyparallel.Client``.
        numbers: The engines' numbers.
        deadline: On the monotonic clock.
        check: Called again and again; raises where waiting is in vain.

    Returns:
        The numbers that are still missing at the deadline; empty where all are there.
    """
    ask_again = time.monotonic() + _ASK_AGAIN
    while missing := set(numbers) - set(client.ids):
        check()
        if time.monotonic() > deadline:
            break
        if time.monotonic() > ask_again:
            # What the hub tells while a new client's subscription is still on its way is lost.
            ask_again = time.monotonic() + _ASK_AGAIN
            _refresh_engines(client)
        time.sleep(_POLL)
    return tuple(sorted(missing))


def catch_up(client: Any) -> None:
    """Wait until a client knows of the same engines as its hub, which tells it of changes when it comes to it.

    Args:
        client: An ``ipyparallel.Client``; where it does not get there in two seconds, it is left as it is.
    """
    deadline = time.monotonic() + _ANSWER
    wanted = _ask_hub(client)
    while wanted is not None and client._engines != wanted and time.monotonic() < deadline:
        time.sleep(_POLL)


def _refresh_engines(client: Any) -> None:
    if engines := _ask_hub(client):
        # Its thread owns what it knows of engines.
        client._io_loop.add_callback(client._update_engines, engines)


def _ask_hub(client: Any) -> dict[int, str] | None:
    reply = client._send(client._query_stream, "connection_request")
    if not reply.wait(_ANSWER):
        return None
    return {int(number): uuid for number, uuid in reply.result()["content"].get("engines", {}).items()}


def run_on_all(client: Any, packed: str) -> None:
    """Run a set-up on every engine that is there.

    Args:
        client: An ``ipyparallel.Client``.
        packed: As ``stoker.agent.setup.pack_setup`` gives it.

    Raises:
        RemoteError: It failed on an engine.
        ConnectError: An engine did not answer.
    """
    if not client.ids:
        return
    result = client[:].apply_async(portable(_run_setup), packed)
    if not result.wait(_SETUP):
        raise ConnectError(f"the engines did not finish within {_SETUP:g} s")
    result.get()


def _run_setup(packed: str) -> None:
    # Where it is: an engine of stoker's has this module, whatever is installed there.
    from IPython import get_ipython

    from stoker.agent.setup import run_setup

    run_setup(packed, get_ipython().user_ns)
