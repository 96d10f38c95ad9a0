"""What the engines of a group get, however they are started: number, environment, patience, first lines of code."""

from __future__ import annotations

import math

from stoker.spec import ClusterSpec, EngineGroup
from stoker.system.machine import Cores

__all__ = [
    "count_engines",
    "count_misses",
    "list_host_counts",
    "pick_limit",
    "pick_period",
    "render_engine_environment",
    "render_patience",
    "render_startup",
]

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
# An engine's interpreter checks for the controller's beat this much later than it is sent (engine/app.py).
_ENGINE_SLACK = 0.5


def count_engines(group: EngineGroup, cores: Cores) -> int:
    """Give the number of engines in a group on a machine with these cores, or on its hosts."""
    if group.launcher == "ssh":
        return sum(count for _, count in list_host_counts(group))
    match group.count:
        case "cores":
            return cores.logical
        case "physical":
            return cores.physical
        case number:
            return number


def list_host_counts(group: EngineGroup) -> list[tuple[str, int]]:
    """Give each host of a group with its number of engines; one, where its cores would have to be counted there."""
    counts = [(name, host.count or group.count) for host in group.hosts for name in host.names]
    return [(name, 1 if isinstance(count, str) else count) for name, count in counts]


def render_engine_environment(group: EngineGroup, *, shared: bool) -> dict[str, str]:
    """Give the environment variables that engines of a group get in addition.

    Args:
        group: Its ``env`` beats its ``threads``.
        shared: Whether several engines share the host.
    """
    threads = group.threads if group.threads is not None else (1 if shared else None)
    limits = {} if threads is None else {name: str(threads) for name in _THREAD_VARIABLES}
    return limits | group.env


def pick_period(spec: ClusterSpec, cores: Cores) -> float:
    """Give the seconds between two beats, by the number of the spec's engines where it does not say it."""
    return spec.controller.heartbeat.pick_period(sum(count_engines(group, cores) for group in spec.engines))


def pick_limit(spec: ClusterSpec) -> float:
    """Give the seconds without a beat after which the hub and an engine give each other up."""
    return spec.controller.heartbeat.pick_limit(spec.cluster.lease)


def render_patience(spec: ClusterSpec, cores: Cores) -> dict[str, object]:
    """Give the traits that say how long an engine waits for its controller."""
    return {
        "IPEngine.max_heartbeat_misses": count_misses(pick_limit(spec), pick_period(spec, cores) + _ENGINE_SLACK),
        # ipyparallel's 5 s are too few for many engines that start at once on few cores.
        "IPEngine.timeout": spec.cluster.start_timeout,
        "IPEngine.wait_for_url_file": spec.cluster.start_timeout,
    }


def count_misses(limit: float, period: float) -> int:
    """Give how many beats may be missed within a time, never fewer than fill it."""
    # Rounded first: 0.54 / 0.06 is a little more than 9.
    return math.ceil(round(limit / period, 6))


def render_startup(group: EngineGroup) -> str | None:
    """Give the line that runs a group's ``startup`` in an engine and ends the engine if that raises.

    ipyparallel sends the traceback of a failed start-up line to clients that are not there yet, and goes on;
    such an engine would take work that it cannot do. Here the traceback goes to the engine's log.
    """
    if group.startup is None:
        return None
    code = group.startup
    if group.startup_file is not None:
        # Not %run: that would not raise, and would hide the names it defines until it is done.
        path = str(group.startup_file)
        code = f"exec(compile(open({path!r}, 'rb').read(), {path!r}, 'exec'))"
    return (
        f"_startup = get_ipython().run_cell({code!a}, store_history=False); "
        "_startup.success or (__import__('traceback').print_exception("
        "_startup.error_before_exec or _startup.error_in_exec), __import__('os')._exit(1)); del _startup"
    )
