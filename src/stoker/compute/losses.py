"""Losses: what a client had in flight when its controller died. Its own ipyparallel would wait for it for ever.

A task that a load-balanced view has given away is known to the scheduler alone, and goes with it. Another session of
the hub means another controller. One of stoker's also says when the one before it died (``launch.hub_program``). What
was handed in before that and has not come home is lost, and ends as ipyparallel's tasks of a dead engine do: with an
``EngineError``. Tasks of direct views are with their engines, which go on: their results mostly come home.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from ipyparallel import error as _error

__all__ = ["CONTROLLER_DIED", "watch_losses"]

_watched: weakref.WeakSet[Any] = weakref.WeakSet()

CONTROLLER_DIED = "the controller died while this task was under way, and the task with it"


def watch_losses(client: Any) -> None:
    """Have a client's lost tasks end with an error; doing it again does nothing.

    Args:
        client: An ``ipyparallel.Client``; the notifications of its hub pass through here from now on.
    """
    if client in _watched:
        return
    _watched.add(client)
    handlers = client._notification_handlers
    known: Callable[[dict[str, Any]], None] = handlers["registration_notification"]
    seen: set[str] = set()
    told: set[str] = set()

    def note(message: dict[str, Any]) -> None:
        known(message)
        session, age = message["header"]["session"], message["content"].get("lost_before")
        another = bool(seen) and session not in seen
        seen.add(session)
        # It is told several times.
        if (age is not None or another) and session not in told:
            told.add(session)
            _fail(client, datetime.now(UTC) - timedelta(seconds=age or 0.0))

    handlers["registration_notification"] = note


def _fail(client: Any, moment: datetime) -> None:
    with_engines = {task for tasks in client._outstanding_dict.values() for task in tasks}
    for task in sorted(client.outstanding - with_engines):
        submitted = client.metadata[task]["submitted"]
        if submitted is None or submitted < moment:
            client._handle_apply_reply(_render_reply(client, task))


def _render_reply(client: Any, task: str) -> dict[str, Any]:
    try:
        raise _error.EngineError(CONTROLLER_DIED)
    except _error.EngineError:
        content = _error.wrap_exception()
    # As Client._handle_stranded_msgs of ipyparallel 9.2 does for the tasks of an engine that died.
    message: dict[str, Any] = client.session.msg("apply_reply", content=content)
    message["parent_header"]["msg_id"] = task
    return message
