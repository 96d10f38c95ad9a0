"""Apply the spec that ``start_stoker.py`` brings up."""

from __future__ import annotations

import json
import sys


def main() -> None:
    case = json.loads(sys.argv[1])

    import stoker

    spec = stoker.parse_spec({"cluster": {"profile": "bench"}, "engines": [{"count": case["engines"]}]})
    stoker.apply_plan(stoker.read_plan(spec))


if __name__ == "__main__":
    main()
