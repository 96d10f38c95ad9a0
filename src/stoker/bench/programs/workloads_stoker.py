"""Stoker's ``cluster.map``, which chooses its batches itself: seconds for all items of a workload."""

from __future__ import annotations

import json
import sys

from stoker.bench.trials import say_figures, time_work


def main() -> None:
    case = json.loads(sys.argv[1])

    import stoker

    spec = stoker.parse_spec({"cluster": {"profile": "bench"}, "engines": [{"count": case["engines"]}]})
    with stoker.up(spec) as cluster:
        figures = time_work(lambda task, items, _: cluster.map(task, items), case)

    say_figures(figures)


if __name__ == "__main__":
    main()
