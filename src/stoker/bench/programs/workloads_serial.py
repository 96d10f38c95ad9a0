"""A plain loop in one process: seconds for all items of a workload."""

from __future__ import annotations

import json
import sys

from stoker.bench.trials import say_figures, time_work


def main() -> None:
    case = json.loads(sys.argv[1])

    say_figures(time_work(lambda task, items, _: [task(item) for item in items], case))


if __name__ == "__main__":
    main()
