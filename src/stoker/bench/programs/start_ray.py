"""Ray on this machine: from the first import to a first result, and the stop after it."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

_UP = 60.0
_NAP = 1.0
"""Seconds that a task takes, so that as many run at the same time as can."""


def main() -> None:
    case = json.loads(sys.argv[1])
    engines = case["engines"]
    begin = time.perf_counter()

    import ray as module

    ray: Any = module
    ray.init(
        num_cpus=engines,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        # What is below this program's own directory is gone with it.
        _temp_dir=str(Path.cwd() / "ray"),
    )
    pid = ray.get(ray.remote(get_pid).remote())
    start = time.perf_counter() - begin

    if pid == os.getpid():
        sys.exit("the first result did not come from a worker")
    from stoker.bench.footprint import measure_footprint

    wait_for_workers(ray, engines)
    figures = measure_footprint(
        # The title of a worker; what it runs follows.
        lambda seen: seen.command[0].startswith("ray::"),
        engines=engines,
        idle=case.get("idle", 0),
    )

    begin = time.perf_counter()
    ray.shutdown()
    stop = time.perf_counter() - begin

    sys.stdout.write(f"\nmeasured: {json.dumps({'start': start, 'stop': stop, **figures})}\n")


def get_pid(seconds: float = 0) -> int:
    """Give the worker's pid after a while."""
    time.sleep(seconds)
    return os.getpid()


def wait_for_workers(ray: Any, engines: int) -> None:
    """Wait until there are as many workers as were asked for: Ray starts most of them when there is work for them."""
    task = ray.remote(get_pid)
    deadline = time.monotonic() + _UP
    while len(set(ray.get([task.remote(_NAP) for _ in range(engines)]))) < engines:
        if time.monotonic() > deadline:
            sys.exit(f"there were never {engines} workers at work at the same time")


if __name__ == "__main__":
    main()
