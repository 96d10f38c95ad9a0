"""Dask's ``Client.map`` and ``gather`` on a LocalCluster: items a second, there and back."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from stoker.bench.trials import say_figures, time_items


def main() -> None:
    case = json.loads(sys.argv[1])

    import distributed

    dask: Any = distributed
    with (
        dask.LocalCluster(n_workers=case["engines"], threads_per_worker=1, dashboard_address=None) as cluster,
        dask.Client(cluster) as client,
    ):

        def run(items: Sequence[Any]) -> list[Any]:
            # Pure functions of the same items would be looked up, not called.
            return client.gather(client.map(same, items, pure=False))  # type: ignore[no-any-return]

        figures = time_items(run, case)

    say_figures(figures)


def same(item: object) -> object:
    """Give back what was given."""
    return item


if __name__ == "__main__":
    main()
