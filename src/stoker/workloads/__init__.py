"""The tutorial's two workloads, the sum and the primes, run in every way that the tutorial shows."""

from __future__ import annotations

from stoker.workloads.outcome import Outcome, Report
from stoker.workloads.run import WORKLOADS, run_workload
from stoker.workloads.ways import VIAS

__all__ = ["VIAS", "WORKLOADS", "Outcome", "Report", "run_workload"]
