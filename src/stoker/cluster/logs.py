"""Logs: the lines of one that tell why its process failed."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["choose_lines", "find_dropped_config"]

_EXCEPTION = re.compile(r"(\w+\.)*\w*(Error|Exception|Interrupt|Exit)\b(: .*)?$")
_DROPPED = re.compile(r"Exception while loading config file (?P<path>.+)$")


def find_dropped_config(lines: Sequence[str]) -> str | None:
    """Find the config file that an application dropped because it raised; None where there is none."""
    for line in lines:
        if match := _DROPPED.search(line):
            return match["path"]
    return None


def choose_lines(lines: Sequence[str], count: int) -> tuple[str, ...]:
    """Choose the lines that end with the last exception; where there is none, the last lines.

    Args:
        lines: The end of a log, oldest first.
        count: How many at the most.
    """
    for end in range(len(lines), 0, -1):
        if _EXCEPTION.match(lines[end - 1]):
            return tuple(lines[max(0, end - count) : end])
    return tuple(lines[-count:])
