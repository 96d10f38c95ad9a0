"""The history of a run: who died of what, how often who was started again, what was given up."""

from __future__ import annotations

import collections
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stoker.agent.order import Death
from stoker.system.files import read_last_lines

__all__ = ["Event", "History"]

_KEPT = 200
_LINES = 5
_ORDERED = ("restart", "unwanted")
_ENDED = {
    "restart": "was ended, to be started again",
    "dropped": "was killed: the hub had dropped it, and it could not come back",
    "start timeout": "was killed: it was not ready in time",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened."""

    at: float
    """Seconds since the epoch."""

    who: str
    """``engine 3``, ``agent local``, ``controller`` or ``supervisor``."""

    what: str
    """In words, such as ``died of SIGKILL``."""

    death: bool
    pid: int | None = None
    """The process that died."""

    last_lines: tuple[str, ...] = ()
    """The end of its log."""


class History:
    """The events of a run, the oldest forgotten."""

    def __init__(self) -> None:
        self.events: collections.deque[Event] = collections.deque(maxlen=_KEPT)
        self.deaths: collections.Counter[str] = collections.Counter()
        """By who."""
        self.given_up: dict[str, str] = {}
        """The cause by who."""

    def note_death(self, who: str, death: Death, *, log: str, why: str | None = None) -> None:
        """Note a death.

        Args:
            who: Who died.
            death: How.
            log: Its log, where the death does not bring lines of it.
            why: Why the supervisor has ended it, as ``healing`` names it; None: it has not.
        """
        lines = death.last_lines or read_last_lines(Path(log), _LINES)
        ordered = death.ordered or why in _ORDERED
        what = _ENDED.get(why or "", "left, as it was told" if ordered else f"died of {death.cause}")
        if not ordered:
            self.deaths[who] += 1
        self._add(who, what, death=not ordered, lines=lines[-_LINES:], pid=death.pid)

    def note_event(self, who: str, what: str) -> None:
        """Note something else."""
        self._add(who, what, death=False, lines=())

    def note_given_up(self, who: str, cause: str) -> None:
        """Note that someone stays down."""
        self.given_up[who] = cause
        self._add(who, f"stays down: it died again and again, at last of {cause}", death=False, lines=())

    def last_death(self, who: str) -> Event | None:
        """Give the last death of someone; None where there was none."""
        return next((event for event in reversed(self.events) if event.who == who and event.death), None)

    def to_json(self) -> dict[str, Any]:
        """Give everything as a JSON object."""
        events = [asdict(event) for event in self.events]
        return {"events": events, "deaths": dict(self.deaths), "given_up": self.given_up}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> History:
        """Read what ``to_json`` has given."""
        history = cls()
        history.events.extend(Event(**{**each, "last_lines": tuple(each["last_lines"])}) for each in data["events"])
        history.deaths.update(data["deaths"])
        history.given_up.update(data["given_up"])
        return history

    def _add(self, who: str, what: str, *, death: bool, lines: tuple[str, ...], pid: int | None = None) -> None:
        self.events.append(Event(at=time.time(), who=who, what=what, death=death, pid=pid, last_lines=lines))
