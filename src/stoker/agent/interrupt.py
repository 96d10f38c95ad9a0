"""Interrupts: raised inside a running task or nowhere, so that no reply is ever lost to one.

ipykernel lets SIGINT raise KeyboardInterrupt for as long as a request is handled. Between the end of user code and the
sending of the reply it is then swallowed together with the reply. Here the frames tell: the exception is raised only
where one of them is a task's, so that it passes through the code that makes a reply of any exception.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, FrameType
from typing import Any

__all__ = ["EngineStopped", "TaskFrames", "end_tasks", "run_task"]


class EngineStopped(SystemExit):
    """Raised in a task whose engine was told to end."""


_ends: list[str] = []


def end_tasks(reason: str) -> None:
    """Have a task that has no frame yet end as it begins: this process was told to end."""
    _ends.append(reason)


def run_task(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a task function. Its frame is what an interrupt looks for; beneath it any exception is a task's own."""
    if _ends:
        raise EngineStopped(_ends[0])
    return function(*args, **kwargs)


class TaskFrames:
    """Knows which frames are a task's."""

    def __init__(self) -> None:
        self._codes: list[CodeType] = [run_task.__code__]

    @contextlib.contextmanager
    def add(self, code: CodeType) -> Iterator[None]:
        """Count the frames of a piece of code among them while the block runs."""
        self._codes.append(code)
        try:
            yield
        finally:
            self._codes.remove(code)

    def holds(self, frame: FrameType | None) -> bool:
        """Say whether a frame, or one that it was called from, is a task's."""
        while frame is not None:
            if any(frame.f_code is code for code in self._codes):
                return True
            frame = frame.f_back
        return False
