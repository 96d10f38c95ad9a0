"""``ProcessPoolExecutor.submit``: calls a second, and a single call there and back."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from stoker.bench.trials import say_figures, time_calls


def main() -> None:
    case = json.loads(sys.argv[1])
    workers = case["engines"]

    with ProcessPoolExecutor(workers) as executor:
        # As many of them as there are workers, so that all are up.
        list(executor.map(time.sleep, [0.1] * workers))
        figures = time_calls(lambda item: executor.submit(same, item), lambda future: future.result(), case)

    say_figures(figures)


def same(item: object) -> object:
    """Give back what was given."""
    return item


if __name__ == "__main__":
    main()
