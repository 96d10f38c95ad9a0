"""A finding: one thing in a profile that is not as its owner thinks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Finding", "Kind"]

Kind = Literal["old", "wrong", "overridden", "drifted", "exposed"]
"""``old``: a name of an earlier ipyparallel. ``wrong``: it does not do what it says, or nothing. ``overridden``: it
beats what the spec says. ``drifted``: the profile is not as the spec says. ``exposed``: others can read a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it seems, where it stands, what comes of it today, and what to do."""

    path: Path
    line: int | None
    """From 1; None where a whole file or directory is meant."""

    setting: str
    """The setting, as it stands in the file; empty where there is none."""

    kind: Kind
    today: str
    """What the installed ipyparallel makes of it."""

    remedy: str
    """What to do."""

    def __str__(self) -> str:
        place = str(self.path) if self.line is None else f"{self.path}:{self.line}"
        return ": ".join(part for part in (place, self.setting, f"{self.today}; {self.remedy}") if part)
