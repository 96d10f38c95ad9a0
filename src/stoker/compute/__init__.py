"""Feeding engines through a view, whatever cluster it belongs to."""

from __future__ import annotations

from stoker.compute.parallel import ParallelFunction, PendingMap, parallel, portable

__all__ = ["ParallelFunction", "PendingMap", "parallel", "portable"]
