"""Options of a map."""

from __future__ import annotations

import numbers
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stoker.compute.progress import Standing
from stoker.compute.summary import OnSummary
from stoker.errors import StokerError

__all__ = ["MapOptions", "OnError"]

OnError = Literal["raise", "return", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """How a map treats its items.

    Raises:
        StokerError: An option is out of its range.
    """

    timeout: float | None = None
    """Seconds that each item may take; None: as long as it likes."""

    retries: int = 2
    """How often an item whose engine died while it ran is tried again."""

    retry_on: type[BaseException] | tuple[type[BaseException], ...] = ()
    """Exceptions after which an item is tried again, too, as often."""

    on_error: OnError = "raise"
    """``raise`` the first error and cancel the rest; ``return`` exceptions in their items' places; ``skip`` them."""

    batch: int | None = None
    """Items in each message; None: as many as suits their measured cost."""

    progress: bool | Callable[[Standing], None] = False
    """Whether to show a bar, or what to tell of each step."""

    patience: float = 300.0
    """Seconds to wait while there is no engine at all, or the controller does not answer."""

    label: str = ""
    """What the progress is called; empty: the function's name."""

    journal: str | os.PathLike[str] | None = None
    """The file that keeps finished items, so that the same call goes on where an earlier one ended; None: nothing is
    kept."""

    stragglers: bool = True
    """Whether a batch that takes far longer than the others may, when nothing else is left to do, also be given to an
    idle engine: the first result counts. False for functions with side effects that must not happen twice. With a
    timeout it has no effect."""

    on_summary: OnSummary | None = None
    """Told the summary when the call has ended, however it did."""

    def __post_init__(self) -> None:
        if self.timeout is not None and not (_is_number(self.timeout) and 0 < self.timeout <= threading.TIMEOUT_MAX):
            most = f"at most {threading.TIMEOUT_MAX:.0f} s"
            raise StokerError(f"map: timeout must be more than 0 s and {most}, or None, got {self.timeout!r}")
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise StokerError(f"map: retries must be a whole number, 0 or more, got {self.retries!r}")
        if not all(_is_exception(each) for each in _list(self.retry_on)):
            raise StokerError(f"map: retry_on must be an exception class, or a tuple of them, got {self.retry_on!r}")
        if self.batch is not None and (isinstance(self.batch, bool) or not isinstance(self.batch, int)):
            raise StokerError(f"map: batch must be a whole number of items, or None, got {self.batch!r}")
        if self.batch is not None and self.batch < 1:
            raise StokerError(f"map: batch must be 1 or more, or None, got {self.batch!r}")
        if self.on_error not in ("raise", "return", "skip"):
            raise StokerError(f"map: on_error must be 'raise', 'return' or 'skip', got {self.on_error!r}")
        if not isinstance(self.progress, bool) and not callable(self.progress):
            raise StokerError(f"map: progress must be True, False or a function, got {self.progress!r}")
        if not isinstance(self.stragglers, bool):
            raise StokerError(f"map: stragglers must be True or False, got {self.stragglers!r}")
        if self.on_summary is not None and not callable(self.on_summary):
            raise StokerError(f"map: on_summary must be a function, got {self.on_summary!r}")
        if not (_is_number(self.patience) and self.patience >= 0):
            raise StokerError(f"map: patience must be 0 s or more, got {self.patience!r}")
        if self.journal is not None and not (isinstance(self.journal, str | os.PathLike) and str(self.journal)):
            raise StokerError(f"map: journal must be the path of a file, or None, got {self.journal!r}")


def _is_number(value: object) -> bool:
    # numpy's are numbers, too.
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _list(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
