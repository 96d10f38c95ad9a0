"""Stoker: from the first import to an answer of every engine on other hosts, and the stop after it."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path

from stoker.bench.hosts import PROFILE, HostCount
from stoker.bench.trials import say_figures


def main() -> None:
    case = json.loads(sys.argv[1])
    count = HostCount(Path.home())
    begin = time.perf_counter()

    import stoker

    group = {
        "launcher": "ssh",
        "hosts": count.hosts,
        "count": case["engines"] // case["hosts"],
        "python": count.python,
    }
    spec = stoker.parse_spec({"cluster": {"profile": PROFILE}, "controller": {"ip": "*"}, "engines": [group]})
    cluster = stoker.up(spec)
    client = cluster.client
    places = client[:].apply_sync(socket.gethostname)
    start = time.perf_counter() - begin

    if len(set(places)) != case["hosts"] or socket.gethostname() in places:
        sys.exit(f"engines were to be on {case['hosts']} other hosts, and are on {sorted(set(places))}")
    if not client.curve_serverkey:
        sys.exit("the cluster was not encrypted")
    figures = {"start": start, "processes": count.processes, "kept": count.kept}

    begin = time.perf_counter()
    cluster.down()
    figures["stop"] = time.perf_counter() - begin

    figures |= {"connections": count.connections, "left": count.processes}
    say_figures(figures)


if __name__ == "__main__":
    main()
