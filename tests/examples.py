"""How many examples a property is tried on: fewer by default, 2,000 and more with ``scripts/test --long``."""

from __future__ import annotations

import os

__all__ = ["LONG", "examples"]

LONG = "STOKER_TEST_LONG"
"""Set while ``--long`` is given."""


def examples(count: int) -> int:
    """Give ``count``, or with ``--long`` 2,000."""
    return max(count, 2000) if os.environ.get(LONG) else count
