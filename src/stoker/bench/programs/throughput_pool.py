"""``multiprocessing.Pool.map`` with its own choice of chunks: items a second, there and back."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time

from stoker.bench.trials import say_figures, time_items


def main() -> None:
    case = json.loads(sys.argv[1])
    workers = case["engines"]

    with multiprocessing.Pool(workers) as pool:
        # As many of them as there are workers, so that all are up.
        pool.map(time.sleep, [0.1] * workers, chunksize=1)
        figures = time_items(lambda items: pool.map(same, items), case)

    say_figures(figures)


def same(item: object) -> object:
    """Give back what was given."""
    return item


if __name__ == "__main__":
    main()
