"""Stoker's ``cluster.submit``: calls a second, and a single call there and back."""

from __future__ import annotations

import json
import sys

from stoker.bench.trials import say_figures, time_calls


def main() -> None:
    case = json.loads(sys.argv[1])

    import stoker

    spec = stoker.parse_spec({"cluster": {"profile": "bench"}, "engines": [{"count": case["engines"]}]})
    with stoker.up(spec) as cluster:
        figures = time_calls(lambda item: cluster.submit(same, item), lambda future: future.result(), case)

    say_figures(figures)


def same(item: object) -> object:
    """Give back what was given."""
    return item


if __name__ == "__main__":
    main()
