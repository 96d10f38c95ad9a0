"""Ray on this machine: calls a second, and a single call there and back."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from stoker.bench.trials import say_figures, time_calls

_NAP = 1.0
"""Seconds that each of the first tasks takes, so that there is a worker for each."""


def main() -> None:
    case = json.loads(sys.argv[1])
    workers = case["engines"]

    import ray as module

    ray: Any = module
    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        # What is below this program's own directory is gone with it.
        _temp_dir=str(Path.cwd() / "ray"),
    )
    nap, task = ray.remote(rest), ray.remote(same)
    ray.get([nap.remote(_NAP) for _ in range(workers)])
    figures = time_calls(task.remote, ray.get, case, gather=ray.get)
    ray.shutdown()

    say_figures(figures)


def rest(seconds: float) -> None:
    """Keep a worker for a while; Ray takes no builtin."""
    time.sleep(seconds)


def same(item: object) -> object:
    """Give back what was given."""
    return item


if __name__ == "__main__":
    main()
