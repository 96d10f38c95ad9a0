"""Stoker's ``cluster.imap``: by how much its cluster grows."""

from __future__ import annotations

import json
import sys

from stoker.bench.growth import ENGINE, HUB, OTHERS, SCHEDULER, measure_growth
from stoker.bench.parts import Seen
from stoker.bench.trials import say_figures

_BELOW = {"agent": ENGINE, ENGINE: ENGINE, HUB: SCHEDULER, SCHEDULER: SCHEDULER}


def main() -> None:
    case = json.loads(sys.argv[1])

    import stoker

    spec = stoker.parse_spec({"cluster": {"profile": "bench"}, "engines": [{"count": case["engines"]}]})
    with stoker.up(spec) as cluster:
        figures = measure_growth(
            lambda items: cluster.imap(lambda item: item, items, batch=case.get("batch")),
            case,
            client=cluster.client,
            name_part=name_part,
        )

    say_figures(figures)


def name_part(seen: Seen, above: str | None) -> str:
    """Name the part that a process is; forked ones have the command line of those that forked them."""
    if above in _BELOW:
        return _BELOW[above]
    if "stoker.agent" in seen.command:
        return "agent"
    return HUB if "stoker.launch.controller" in seen.command else OTHERS


if __name__ == "__main__":
    main()
