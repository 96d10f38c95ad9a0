"""The job queue of multiprocessing.managers: a server, producers, and workers that compute.

For machines that cannot have ipyparallel: server and workers need the standard library and these files alone. How it
hangs together::

    producer ── put ──►  desk  ◄── work ── keeper ══ child     the child runs jobs, one after the other,
    reader ◄─ results ── desk  ◄── work ── keeper ══ child     its keeper (a thread) watches it and talks
                          │
                       journal                                 SQLite: jobs, leases, results

``server`` owns the desk and whoever may speak to it; ``line`` is the way there from elsewhere, re-made when it breaks;
``client`` is what users hold. Every request can be repeated without harm, because an answer can always be lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stoker.system.late import import_late

if TYPE_CHECKING:
    from stoker.queue.client import Queue, connect
    from stoker.queue.outcome import Result
    from stoker.queue.serve import serve
    from stoker.queue.status import QueueStatus
    from stoker.queue.work import run_workers

__all__ = ["Queue", "QueueStatus", "Result", "connect", "run_workers", "serve"]

_MODULES = {
    "Queue": "client",
    "QueueStatus": "status",
    "Result": "outcome",
    "connect": "client",
    "run_workers": "work",
    "serve": "serve",
}

# Late, because a worker's child needs next to nothing of all this.
__getattr__, __dir__ = import_late(__name__, _MODULES)
