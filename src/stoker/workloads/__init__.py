"""The tutorial's two workloads, the sum and the primes, run in every way that the tutorial shows.

Names are imported when they are first used: an engine loads a task's module, and no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stoker.system.late import import_late

if TYPE_CHECKING:
    from stoker.workloads.outcome import Outcome, Report
    from stoker.workloads.run import WORKLOADS, run_workload
    from stoker.workloads.ways import VIAS

__all__ = ["VIAS", "WORKLOADS", "Outcome", "Report", "run_workload"]

_MODULES = {
    "Outcome": "outcome",
    "Report": "outcome",
    "VIAS": "ways",
    "WORKLOADS": "run",
    "run_workload": "run",
}

__getattr__, __dir__ = import_late(__name__, _MODULES)
