"""Stock ipyparallel: from the first import to a first result, and the stop after it."""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    case = json.loads(sys.argv[1])
    begin = time.perf_counter()

    import ipyparallel

    cluster = ipyparallel.Cluster(n=case["engines"], log_level=40)
    client = cluster.start_and_connect_sync()
    pid = client.load_balanced_view().apply_sync(os.getpid)
    first = time.perf_counter()
    encrypted = bool(client.curve_serverkey)
    cluster.stop_cluster_sync()
    end = time.perf_counter()

    if pid == os.getpid():
        sys.exit("the first result did not come from an engine")
    if encrypted != (os.environ.get("IPP_ENABLE_CURVE") == "1"):
        sys.exit(f"encrypted: {encrypted}, which is not what was asked for")
    sys.stdout.write(f"\nmeasured: {json.dumps({'start': first - begin, 'stop': end - first})}\n")


if __name__ == "__main__":
    main()
