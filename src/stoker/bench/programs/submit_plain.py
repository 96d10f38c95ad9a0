"""Plain ipyparallel's ``apply_async`` on stoker's cluster: calls a second, and a single one there and back."""

from __future__ import annotations

import json
import sys

from stoker.bench.trials import say_figures, time_calls

_MOST = 2000
"""Calls: each costs the same, and 20,000 take more than a minute."""


def main() -> None:
    case = json.loads(sys.argv[1])

    import stoker

    spec = stoker.parse_spec({"cluster": {"profile": "bench"}, "engines": [{"count": case["engines"]}]})
    with stoker.up(spec) as cluster:
        view = cluster.view
        figures = time_calls(lambda item: view.apply_async(same, item), lambda result: result.get(), case, most=_MOST)

    say_figures(figures)


def same(item: object) -> object:
    """Give back what was given."""
    return item


if __name__ == "__main__":
    main()
