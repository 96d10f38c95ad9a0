"""Stock ipyparallel's ``LoadBalancedView.map``, an item a message, as is its default: by how much its cluster grows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from stoker.bench.growth import ENGINE, HUB, OTHERS, SCHEDULER, measure_growth
from stoker.bench.parts import Seen
from stoker.bench.trials import say_figures

_BELOW = {ENGINE: ENGINE, HUB: SCHEDULER, SCHEDULER: SCHEDULER}
_CONTROLLER = "ipyparallel.controller"


def main() -> None:
    case = json.loads(sys.argv[1])

    import ipyparallel

    cluster = ipyparallel.Cluster(n=case["engines"], log_level=40)
    client = cluster.start_and_connect_sync()
    view = client.load_balanced_view()
    encrypted = bool(client.curve_serverkey)
    if encrypted != (os.environ.get("IPP_ENABLE_CURVE") == "1"):
        sys.exit(f"encrypted: {encrypted}, which is not what was asked for")
    engines = set(client[:].apply_sync(os.getpid))

    def run(items: range) -> Iterable[Any]:
        # An iterator that comes home bit by bit; the client itself keeps results until it is told not to.
        return view.map(lambda item: item, items, chunksize=1, block=False)  # type: ignore[no-any-return]

    def name_part(seen: Seen, above: str | None) -> str:
        if above in _BELOW:
            return _BELOW[above]
        if seen.pid in engines:
            # Its nanny is its child.
            return ENGINE
        return HUB if _CONTROLLER in seen.command else OTHERS

    figures = measure_growth(run, case, client=client, name_part=name_part)
    cluster.stop_cluster_sync()

    say_figures(figures)


if __name__ == "__main__":
    main()
