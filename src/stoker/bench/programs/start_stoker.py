"""Stoker: from the first import to a first result, and the stop after it."""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    case = json.loads(sys.argv[1])
    engines = case["engines"]
    begin = time.perf_counter()

    import stoker

    spec = stoker.parse_spec({"cluster": {"profile": "bench"}, "engines": [{"count": engines}]})
    cluster = stoker.up(spec)
    pid = cluster.view.apply_sync(os.getpid)
    start = time.perf_counter() - begin

    if pid == os.getpid():
        sys.exit("the first result did not come from an engine")
    if not cluster.client.curve_serverkey:
        sys.exit("the cluster was not encrypted")
    from stoker.bench.footprint import measure_footprint

    # An agent; all that descends from it is engines.
    figures = measure_footprint(lambda seen: "stoker.agent" in seen.command, engines=engines, idle=case.get("idle", 0))

    begin = time.perf_counter()
    cluster.down()
    stop = time.perf_counter() - begin

    sys.stdout.write(f"\nmeasured: {json.dumps({'start': start, 'stop': stop, **figures})}\n")


if __name__ == "__main__":
    main()
