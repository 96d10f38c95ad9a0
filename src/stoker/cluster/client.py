"""The door to ipyparallel's client: connect, list engines, see that each answers. Every wait is bounded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from typing import Any

import ipyparallel

from stoker.errors import ConnectError
from stoker.launch import ConnectionFiles
from stoker.profile import ProfileDirectory

__all__ = ["connect_client", "probe_engines", "read_engine_numbers", "wait_until_registered"]

_POLL = 0.01


def connect_client(directory: ProfileDirectory, cluster_id: str, *, timeout: float) -> Any:
    """Connect an ``ipyparallel.Client``.

    Raises:
        ConnectError: There is no connection file, or nobody answers in ``timeout`` seconds.
    """
    file = ConnectionFiles.of(directory, cluster_id).client
    try:
        return ipyparallel.Client(str(file), profile_dir=str(directory.path), cluster_id=cluster_id, timeout=timeout)
    except OSError as error:  # among them FileNotFoundError and TimeoutError
        if not file.exists():
            raise ConnectError(f"no controller runs here: there is no connection file {file}") from error
        raise ConnectError(f"the controller that {file} names did not answer within {timeout:.0f} s") from error


def read_engine_numbers(client: Any) -> tuple[int, ...]:
    """Give the numbers of the engines that the hub knows, in rising order."""
    return tuple(sorted(client.ids))


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
    # With the pure scheduler, a client that sees engine 1 come before engine 0 takes the latter for lost, warns, and
    # hands out no more tasks.
    client._stop_scheduling_tasks = lambda: None
    while missing := set(numbers) - set(client.ids):
        check()
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL)
    return tuple(sorted(missing))


def probe_engines(client: Any, *, deadline: float, check: Callable[[], None]) -> str | None:
    """See that every engine answers directly, and that the task scheduler hands out work.

    Args:
        client: An ``ipyparallel.Client`` that knows at least one engine.
        deadline: On the monotonic clock.
        check: Called again and again; raises where waiting is in vain.

    Returns:
        What did not answer; None where all is well.
    """
    probes = {f"engine {number}": client[number].apply_async(os.getpid) for number in client.ids}
    probes["the task scheduler"] = client.load_balanced_view().apply_async(os.getpid)
    while silent := [name for name, result in probes.items() if not result.ready()]:
        check()
        if time.monotonic() > deadline:
            return ", ".join(silent)
        time.sleep(_POLL)
    client.purge_local_results("all")
    return None
