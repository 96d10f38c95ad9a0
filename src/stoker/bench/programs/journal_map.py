"""Stoker's ``cluster.map`` of items that compute for a given time: without a journal and with one, in turn."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from stoker.bench.trials import WARM, check, make_work, say_figures


def main() -> None:
    case = json.loads(sys.argv[1])

    import stoker

    work = make_work(case)
    spec = stoker.parse_spec({"cluster": {"profile": "bench"}, "engines": [{"count": case["engines"]}]})
    with stoker.up(spec) as cluster:

        def time_map(**options: Any) -> float:
            begin = time.perf_counter()
            values = cluster.map(work.task, work.items, **options)
            seconds = time.perf_counter() - begin
            check(work.judge(work.items, values).correct)
            return seconds

        cluster.map(work.task, work.items[:WARM])
        plain, journal = [], []
        for number in range(case["repeats"]):
            # In both orders: a machine that slows down does so for both.
            if number % 2:
                plain.append(time_map())
            journal.append(time_map(journal=Path.cwd() / f"{number}.journal"))
            if not number % 2:
                plain.append(time_map())

    kept = [100 * before / after for before, after in zip(plain, journal, strict=True)]
    rates = {"plain": len(work.items) / min(plain), "journal": len(work.items) / min(journal)}
    say_figures({"kept": statistics.median(kept), **rates})


if __name__ == "__main__":
    main()
