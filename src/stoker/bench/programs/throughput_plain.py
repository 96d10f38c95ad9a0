"""Stock ipyparallel's ``LoadBalancedView.map_sync``, one item a message, its default: items a second."""

from __future__ import annotations

import json
import sys

from stoker.bench.trials import say_figures, time_items

_MOST = 2000
"""Items: each costs the same, and 20,000 take more than a minute."""


def main() -> None:
    case = json.loads(sys.argv[1])

    import ipyparallel

    cluster = ipyparallel.Cluster(n=case["engines"], log_level=40)
    client = cluster.start_and_connect_sync()
    view = client.load_balanced_view()
    figures = time_items(lambda items: view.map_sync(lambda item: item, items), case, most=_MOST)
    cluster.stop_cluster_sync()

    say_figures(figures)


if __name__ == "__main__":
    main()
