"""Feeding engines through a view, whatever cluster it belongs to.

What needs ipyparallel is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stoker.compute.faults import ItemPlace, RemoteTraceback
from stoker.compute.journal_file import JournalInfo, read_journal, read_journal_info
from stoker.compute.options import MapOptions
from stoker.compute.parallel import ParallelFunction, PendingMap, parallel, portable
from stoker.compute.progress import Standing
from stoker.compute.summary import EngineShare, Summary
from stoker.system.late import import_late

if TYPE_CHECKING:
    from stoker.compute.executor import Executor, submit
    from stoker.compute.futures import CallFuture
    from stoker.compute.mapping import imap, map, starmap  # noqa: A004 - as the builtin

__all__ = [
    "CallFuture",
    "EngineShare",
    "Executor",
    "ItemPlace",
    "JournalInfo",
    "MapOptions",
    "ParallelFunction",
    "PendingMap",
    "RemoteTraceback",
    "Standing",
    "Summary",
    "imap",
    "map",
    "parallel",
    "portable",
    "read_journal",
    "read_journal_info",
    "starmap",
    "submit",
]

_MODULES = {
    "CallFuture": "futures",
    "Executor": "executor",
    "imap": "mapping",
    "map": "mapping",
    "starmap": "mapping",
    "submit": "executor",
}

__getattr__, __dir__ = import_late(__name__, _MODULES)
