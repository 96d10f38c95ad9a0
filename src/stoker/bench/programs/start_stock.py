"""Stock ipyparallel: from the first import to a first result, and the stop after it."""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    case = json.loads(sys.argv[1])
    engines = case["engines"]
    begin = time.perf_counter()

    import ipyparallel

    cluster = ipyparallel.Cluster(n=engines, log_level=40)
    client = cluster.start_and_connect_sync()
    pid = client.load_balanced_view().apply_sync(os.getpid)
    start = time.perf_counter() - begin

    if pid == os.getpid():
        sys.exit("the first result did not come from an engine")
    encrypted = bool(client.curve_serverkey)
    if encrypted != (os.environ.get("IPP_ENABLE_CURVE") == "1"):
        sys.exit(f"encrypted: {encrypted}, which is not what was asked for")
    from stoker.bench.footprint import measure_footprint

    # The nanny of an engine is its child.
    pids = set(client[:].apply_sync(os.getpid))
    figures = measure_footprint(lambda seen: seen.pid in pids, engines=engines, idle=case.get("idle", 0))

    begin = time.perf_counter()
    cluster.stop_cluster_sync()
    stop = time.perf_counter() - begin

    sys.stdout.write(f"\nmeasured: {json.dumps({'start': start, 'stop': stop, **figures})}\n")


if __name__ == "__main__":
    main()
