"""Outcomes: what came of a job, as bytes on the way and as a value for the reader."""

from __future__ import annotations

import pickle
import traceback
from dataclasses import dataclass
from typing import Any, Literal

from stoker.errors import JobError
from stoker.queue.calls import show_call
from stoker.queue.plain import dump_plain, load_plain

__all__ = ["Kind", "Result", "Row", "pack_error", "pack_value", "unpack_result"]

Kind = Literal["value", "error", "died"]
"""A value; an exception that the function raised; or the job was given up."""

Row = tuple[int, str, Kind, bytes, bytes | None, str, int, int, float, float]
"""A result as the server hands it out: number, function, kind, payload, arguments (of one that failed), host, pid,
attempt, seconds, time of day of its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one job."""

    number: int
    """The job's number; the first one that was put has 1."""

    function: str
    """``module:function``."""

    value: Any = None
    """What the function returned."""

    error: BaseException | None = None
    """Why there is no value: what the function raised, with the worker's traceback as a note; or a ``JobError``."""

    problem: str | None = None
    """The same in one line."""

    traceback: str | None = None
    """Where the function raised, as the worker printed it."""

    call: str | None = None
    """The function with its arguments, where there is no value."""

    host: str
    """Where it ran."""

    pid: int
    """The process that ran it."""

    attempt: int
    """1, and one more for each worker that died or fell silent at it before."""

    seconds: float
    """How long it ran."""

    ended: float
    """When, in seconds since 1970, by the server's clock."""

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None

    def get(self) -> Any:
        """Give the value.

        Raises:
            BaseException: What the function raised.
            JobError: It was given up, or what it raised cannot be had here.
        """
        if self.error is not None:
            raise self.error
        return self.value


def pack_value(value: object) -> bytes:
    """Turn what a function returned into bytes; raises whatever pickling it raises."""
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def pack_error(error: BaseException, *, skip: int = 0) -> bytes:
    """Turn what a function raised into bytes: the exception, if it can travel, and the text of it all.

    Args:
        error: The exception.
        skip: How many of the outermost places to leave out of its traceback.
    """
    place = error.__traceback__
    for _ in range(skip):
        place = place.tb_next if place is not None and place.tb_next is not None else place
    try:
        text = "".join(traceback.format_exception(type(error), error, place))
        line = "".join(traceback.format_exception_only(error)).strip().splitlines()[0]
    # Its own __str__ may raise.
    except Exception:
        text = line = type(error).__name__
    try:
        packed = pickle.dumps(error, protocol=pickle.HIGHEST_PROTOCOL)
        pickle.loads(packed)  # noqa: S301 - made right here; many exceptions can be written but not read
    except Exception:
        packed = b""
    return dump_plain((packed, line, text))


def unpack_result(row: Row) -> Result:
    """Make a result of what the server handed out. This unpickles what a worker sent."""
    number, function, kind, payload, arguments, host, pid, attempt, seconds, ended = row
    value: Any = None
    error: BaseException | None = None
    problem = text = None
    if kind == "value":
        value, error = _unpickle(number, function, payload)
        problem = None if error is None else str(error)
    elif kind == "error":
        packed, problem, text = load_plain(payload)
        error = _unpickle_error(number, function, packed, problem)
        error.add_note(f"from job {number}, attempt {attempt}, on {host} (process {pid}):\n{text}")
    else:
        problem = payload.decode(errors="replace")
        error = JobError(number, function, problem)
    return Result(
        number=number,
        function=function,
        value=value,
        error=error,
        problem=problem,
        traceback=text,
        call=None if arguments is None else show_call(function, arguments),
        host=host,
        pid=pid,
        attempt=attempt,
        seconds=seconds,
        ended=ended,
    )


def _unpickle(number: int, function: str, payload: bytes) -> tuple[Any, JobError | None]:
    try:
        return pickle.loads(payload), None  # noqa: S301 - who has the key may run code here; README says so
    except Exception as error:
        return None, JobError(number, function, f"its value cannot be read here: {type(error).__name__}: {error}")


def _unpickle_error(number: int, function: str, packed: bytes, problem: str) -> BaseException:
    try:
        error = pickle.loads(packed) if packed else None  # noqa: S301 - as above
    except Exception:
        error = None
    return error if isinstance(error, BaseException) else JobError(number, function, problem)
