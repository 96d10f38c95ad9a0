"""``multiprocessing.Pool.map`` with the best of several chunk sizes: seconds for all items of a workload."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time

from stoker.bench.trials import say_figures, time_work


def main() -> None:
    case = json.loads(sys.argv[1])
    workers, items = case["engines"], case["items"]
    # What the pool chooses where it is told nothing: four chunks a worker, rounded up.
    default = -(-items // (4 * workers))

    with multiprocessing.Pool(workers) as pool:
        # As many of them as there are workers, so that all are up.
        pool.map(time.sleep, [0.1] * workers, chunksize=1)
        figures = time_work(pool.map, case, chunks=(1, 4, default, max(1, items // 8)))

    say_figures(figures)


if __name__ == "__main__":
    main()
