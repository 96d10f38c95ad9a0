"""Stoker's ``cluster.map``: items a second, there and back."""

from __future__ import annotations

import json
import sys

from stoker.bench.trials import say_figures, time_items


def main() -> None:
    case = json.loads(sys.argv[1])

    import stoker

    spec = stoker.parse_spec({"cluster": {"profile": "bench"}, "engines": [{"count": case["engines"]}]})
    with stoker.up(spec) as cluster:
        figures = time_items(lambda items: cluster.map(lambda item: item, items), case)

    say_figures(figures)


if __name__ == "__main__":
    main()
