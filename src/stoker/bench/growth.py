"""Growth: how much more memory each part of a cluster has after a map than before. Read in a contender's own program.

Memory is USS, what would be free if a process ended: PSS also changes with neighbours that come, go, and use the same
libraries. Nothing is given back to the system for this: what the allocator keeps for later use counts.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stoker.bench.footprint import wait_until_calm
from stoker.bench.parts import CLIENT, NamePart, Parts, plan_parts, read_processes
from stoker.bench.trials import WARM, check
from stoker.system.usage import read_usage

__all__ = ["ENGINE", "HUB", "OTHERS", "SCHEDULER", "measure_growth", "plan_growth"]

HUB = "hub"
SCHEDULER = "scheduler"
"""The hub's children, all together."""

ENGINE = "engine"
OTHERS = "others"


def measure_growth(
    run: Callable[[range], Iterable[Any]], case: Mapping[str, Any], *, client: Any, name_part: NamePart
) -> dict[str, float]:
    """Measure by how much the memory of a cluster grows while a map goes through it, whose results nobody keeps.

    Args:
        run: Starts a map that gives back the items it was given, in their order.
        case: Says how many items, as JSON has it.
        client: The ``ipyparallel.Client`` of this program; it counts the messages.
        name_part: Tells ``HUB``, ``SCHEDULER``, ``ENGINE`` and the rest, whatever that is called, from each other.

    Returns:
        As of ``plan_growth``, and ``messages``, how many the map took.
    """
    if read_usage(os.getpid()).uss is None:
        sys.exit("this system does not tell how much memory a process has of its own")

    def look() -> Parts:
        return plan_parts(read_processes(), name_part, program=os.getpid())

    _consume(run, min(WARM, case["items"]))
    parts, before = _settle(client, look)
    sent = len(client.history)
    _consume(run, case["items"])
    messages = len(client.history) - sent
    then, after = _settle(client, look)
    if then != parts:
        sys.exit("processes of the cluster came or went meanwhile: its growth says nothing")
    return {**plan_growth(parts, before, after, engines=case["engines"]), "messages": messages}


def plan_growth(parts: Parts, before: Mapping[int, int], after: Mapping[int, int], *, engines: int) -> dict[str, float]:
    """Give by how much each part has grown, in MB: ``CLIENT``, ``HUB``, ``SCHEDULER``, ``ENGINE`` (each), ``OTHERS``.

    Args:
        parts: The processes, by part; those of any other name are of ``OTHERS``.
        before: Bytes, by process.
        after: The same.
        engines: How many there are; what serves one of them alone counts with it.

    Raises:
        ValueError: There is no process of a part that has to be there.
    """
    named = (CLIENT, HUB, SCHEDULER, ENGINE)
    missing = [name for name in named if not parts.get(name)]
    if missing:
        raise ValueError(f"no process was found that is of the {missing[0]}")
    grown = {name: sum(after[pid] - before[pid] for pid in pids) / 1e6 for name, pids in parts.items()}
    figures = {name: grown[name] for name in named}
    figures[ENGINE] /= engines
    return {**figures, OTHERS: sum(grown[name] for name in grown if name not in named)}


def _consume(run: Callable[[range], Iterable[Any]], count: int) -> None:
    items = range(count)
    # Not by way of a list: only what the machinery itself keeps is to be kept.
    check(all(value == item for value, item in itertools.zip_longest(run(items), items)))


def _settle(client: Any, look: Callable[[], Parts]) -> tuple[Parts, dict[int, int]]:
    """Wait until everything has its garbage collected and is calm; give the processes and the memory of each."""
    gc.collect()
    client[:].apply_sync(gc.collect)
    parts = wait_until_calm(look)
    return parts, {pid: read_usage(pid).uss or 0 for pids in parts.values() for pid in pids}
