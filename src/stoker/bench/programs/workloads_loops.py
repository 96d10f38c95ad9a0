"""As many plain loops at once as there are workers, each with its share: seconds for all items of a workload.

Nobody hands anything out or waits for anybody: it is what this machine's cores give, and so the most that is to be had.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable, Sequence

from stoker.bench.trials import say_figures, time_work


def main() -> None:
    case = json.loads(sys.argv[1])
    workers = case["engines"]

    def run(task: Callable[[int], int], items: Sequence[int], _: int) -> list[int]:
        handles = [_start(task, items[first::workers]) for first in range(workers)]
        values = [0] * len(items)
        for first, handle in enumerate(handles):
            with os.fdopen(handle, "rb") as file:
                values[first::workers] = pickle.load(file)  # noqa: S301 - our own
            os.wait()
        return values

    say_figures(time_work(run, case))


def _start(task: Callable[[int], int], items: Sequence[int]) -> int:
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, pickle.dumps([task(item) for item in items]))
        os._exit(0)
    os.close(writer)
    return reader


if __name__ == "__main__":
    main()
