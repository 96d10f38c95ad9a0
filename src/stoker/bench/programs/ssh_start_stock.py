"""Stock ipyparallel: from the first import to an answer of every engine on other hosts, and the stop after it."""

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

    import ipyparallel
    from traitlets.config import Config

    each = case["engines"] // case["hosts"]
    cluster = ipyparallel.Cluster(
        n=case["engines"],
        profile=PROFILE,
        controller_ip="*",
        engines="ssh",
        engine_timeout=600,
        log_level=40,
        config=Config(
            SSHEngineSetLauncher={"engines": dict.fromkeys(count.hosts, each), "remote_python": count.python}
        ),
    )
    client = cluster.start_and_connect_sync()
    places = client[:].apply_sync(socket.gethostname)
    start = time.perf_counter() - begin

    if len(set(places)) != case["hosts"] or socket.gethostname() in places:
        sys.exit(f"engines were to be on {case['hosts']} other hosts, and are on {sorted(set(places))}")
    figures = {"start": start, "processes": count.processes, "kept": count.kept}

    begin = time.perf_counter()
    cluster.stop_cluster_sync()
    figures["stop"] = time.perf_counter() - begin

    figures |= {"connections": count.connections, "left": count.processes}
    count.remove_profile()
    say_figures(figures)


if __name__ == "__main__":
    main()
