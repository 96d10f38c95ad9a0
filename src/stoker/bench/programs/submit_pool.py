"""``multiprocessing.Pool.apply_async``: calls a second, and a single call there and back."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time

from stoker.bench.trials import say_figures, time_calls


def main() -> None:
    case = json.loads(sys.argv[1])
    workers = case["engines"]

    with multiprocessing.Pool(workers) as pool:
        # As many of them as there are workers, so that all are up.
        pool.map(time.sleep, [0.1] * workers, chunksize=1)
        figures = time_calls(lambda item: pool.apply_async(same, (item,)), lambda result: result.get(), case)

    say_figures(figures)


def same(item: object) -> object:
    """Give back what was given."""
    return item


if __name__ == "__main__":
    main()
