"""Dask's ``Client.submit`` on a LocalCluster: calls a second, and a single call there and back."""

from __future__ import annotations

import json
import sys
from typing import Any

from stoker.bench.trials import say_figures, time_calls


def main() -> None:
    case = json.loads(sys.argv[1])

    import distributed

    dask: Any = distributed
    with (
        dask.LocalCluster(n_workers=case["engines"], threads_per_worker=1, dashboard_address=None) as cluster,
        dask.Client(cluster) as client,
    ):
        # Pure functions of the same items would be looked up, not called.
        figures = time_calls(
            lambda item: client.submit(same, item, pure=False),
            lambda future: future.result(),
            case,
            gather=client.gather,
        )

    say_figures(figures)


def same(item: object) -> object:
    """Give back what was given."""
    return item


if __name__ == "__main__":
    main()
