"""Stock ipyparallel's ``view.map`` with the best of several chunk sizes: seconds for all items of a workload."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence

from stoker.bench.trials import say_figures, time_work


def main() -> None:
    case = json.loads(sys.argv[1])

    import ipyparallel

    cluster = ipyparallel.Cluster(n=case["engines"], log_level=40)
    client = cluster.start_and_connect_sync()
    view = client.load_balanced_view()

    def run(task: Callable[[int], int], items: Sequence[int], chunk: int) -> list[int]:
        return list(view.map_sync(task, items, chunksize=chunk))

    figures = time_work(run, case, chunks=(1, 4, 25))
    cluster.stop_cluster_sync()

    say_figures(figures)


if __name__ == "__main__":
    main()
