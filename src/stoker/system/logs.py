"""Loggers of applications that traitlets configures."""

from __future__ import annotations

import logging

__all__ = ["spare_records"]


def spare_records(log: logging.Logger) -> None:
    """Have a logger make no record that none of its handlers takes.

    traitlets gives the logger of an application the level DEBUG, whatever its ``log_level`` says, which only its
    handlers know; for each task, ipykernel and ipyparallel's hub make several records that nobody takes.

    Args:
        log: The application's; one that hands on to others, or has no handlers, stays as it is.
    """
    if log.handlers and not log.propagate:
        log.setLevel(max(log.level, min(handler.level for handler in log.handlers)))
