"""Stoker: from the first import to a first result, and the stop after it."""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    case = json.loads(sys.argv[1])
    begin = time.perf_counter()

    import stoker

    spec = stoker.parse_spec({"cluster": {"profile": "bench"}, "engines": [{"count": case["engines"]}]})
    cluster = stoker.up(spec)
    pid = cluster.view.apply_sync(os.getpid)
    first = time.perf_counter()
    encrypted = bool(cluster.client.curve_serverkey)
    cluster.down()
    end = time.perf_counter()

    if pid == os.getpid():
        sys.exit("the first result did not come from an engine")
    if not encrypted:
        sys.exit("the cluster was not encrypted")
    sys.stdout.write(f"\nmeasured: {json.dumps({'start': first - begin, 'stop': end - first})}\n")


if __name__ == "__main__":
    main()
