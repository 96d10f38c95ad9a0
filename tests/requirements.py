"""What tests need of the machine: without it they are skipped, or fail where it is required."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

__all__ = ["do_without"]


def do_without(name: str, reason: str) -> NoReturn:
    """Skip the test; fail it where STOKER_REQUIRE says ``name``, or ``all``."""
    if {"all", name} & set(os.environ.get("STOKER_REQUIRE", "").split(",")):
        pytest.fail(reason)
    pytest.skip(reason)
