"""``ProcessPoolExecutor.map`` with four chunks a worker, as its manual advises: items a second, there and back.

Its default, one item a message, is for long items: "for very long iterables, using a large value for chunksize can
significantly improve performance".
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from stoker.bench.trials import say_figures, time_items


def main() -> None:
    case = json.loads(sys.argv[1])
    workers = case["engines"]

    with ProcessPoolExecutor(workers) as executor:

        def run(items: Sequence[Any]) -> list[Any]:
            return list(executor.map(same, items, chunksize=max(1, len(items) // (4 * workers))))

        # As many of them as there are workers, so that all are up.
        list(executor.map(time.sleep, [0.1] * workers))
        figures = time_items(run, case)

    say_figures(figures)


def same(item: object) -> object:
    """Give back what was given."""
    return item


if __name__ == "__main__":
    main()
