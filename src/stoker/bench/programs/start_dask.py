"""Dask's LocalCluster: from the first import to a first result, and the stop after it."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def main() -> None:
    case = json.loads(sys.argv[1])
    engines = case["engines"]
    begin = time.perf_counter()

    import distributed

    dask: Any = distributed
    cluster = dask.LocalCluster(n_workers=engines, threads_per_worker=1, dashboard_address=None)
    client = dask.Client(cluster)
    pid = client.submit(os.getpid, pure=False).result()
    start = time.perf_counter() - begin

    if pid == os.getpid():
        sys.exit("the first result did not come from a worker")
    from stoker.bench.footprint import measure_footprint

    workers = {nanny.pid for nanny in cluster.workers.values()}
    figures = measure_footprint(
        lambda seen: seen.pid in workers,
        engines=engines,
        idle=case.get("idle", 0),
        # The scheduler and the workers' nannies are threads of this program.
        with_program=True,
    )

    begin = time.perf_counter()
    client.close()
    cluster.close()
    stop = time.perf_counter() - begin

    sys.stdout.write(f"\nmeasured: {json.dumps({'start': start, 'stop': stop, **figures})}\n")


if __name__ == "__main__":
    main()
