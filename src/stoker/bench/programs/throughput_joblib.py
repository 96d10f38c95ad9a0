"""joblib's ``Parallel`` with its own choice of batches, on its default, loky: items a second, there and back."""

from __future__ import annotations

import json
import sys
from typing import Any

from stoker.bench.trials import say_figures, time_items


def main() -> None:
    case = json.loads(sys.argv[1])

    import joblib as module

    joblib: Any = module
    # Within the block the workers are kept from one call to the next.
    with joblib.Parallel(n_jobs=case["engines"]) as parallel:
        figures = time_items(lambda items: parallel(joblib.delayed(same)(item) for item in items), case)

    say_figures(figures)


def same(item: object) -> object:
    """Give back what was given."""
    return item


if __name__ == "__main__":
    main()
