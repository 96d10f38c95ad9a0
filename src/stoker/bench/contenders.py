"""Contenders: who is measured, by which program, and what that program imports. Runs nothing.

A program is a file below ``programs/``, run by a fresh interpreter as ``python FILE CASE``, where ``CASE`` is
the case as JSON. It says what it measured in one line, ``measured: {"FIGURE": NUMBER, ...}``, anywhere in its output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["APPLY", "BASELINE", "QUEUE", "START", "Contender"]

_PROGRAMS = Path(__file__).parent / "programs"

_IPYPARALLEL = ("ipyparallel", "ipyparallel.controller.app", "ipyparallel.engine.app")

BASELINE = "stock"
"""The contender that the others are compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One that is measured."""

    name: str
    """What ``--only`` and tables call it."""

    about: str
    """What it is, in a few words."""

    program: Path
    """What a fresh interpreter runs in each round."""

    prepare: Path | None = None
    """A program that is run before, in the same directories but in an interpreter of its own; not measured."""

    modules: tuple[str, ...] = ()
    """What it imports. They are imported once before the first round, so that nobody reads from a cold disk or
    compiles; a contender whose modules are missing is skipped."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that it gets in addition."""


START = (
    Contender(
        name=BASELINE,
        about="ipyparallel.Cluster(n=N).start_and_connect_sync()",
        program=_PROGRAMS / "start_stock.py",
        modules=_IPYPARALLEL,
    ),
    Contender(
        name="stock-encrypted",
        about="the same with IPP_ENABLE_CURVE=1",
        program=_PROGRAMS / "start_stock.py",
        modules=_IPYPARALLEL,
        environment={"IPP_ENABLE_CURVE": "1"},
    ),
    Contender(
        name="stoker",
        about="stoker.up(spec) where there is no profile yet, encrypted",
        program=_PROGRAMS / "start_stoker.py",
        modules=("stoker.cluster", *_IPYPARALLEL),
    ),
    Contender(
        name="stoker-applied",
        about="stoker.up(spec) where the spec was applied before, encrypted",
        program=_PROGRAMS / "start_stoker.py",
        prepare=_PROGRAMS / "apply_profile.py",
        modules=("stoker.cluster", *_IPYPARALLEL),
    ),
)
"""Who is measured by ``stoker bench start``."""

APPLY = (
    Contender(
        name="interpreter",
        about="python -c pass",
        program=_PROGRAMS / "apply_unchanged.py",
        environment={"STOKER_BENCH_BARE": "1"},
    ),
    Contender(
        name="stoker",
        about="stoker apply on a profile that nothing has touched since",
        program=_PROGRAMS / "apply_unchanged.py",
        modules=("stoker.faces.command_line",),
    ),
)
"""Who is measured by ``stoker bench apply``; the first is what the other is compared with."""

QUEUE = (
    Contender(
        name="tutorial",
        about="the tutorial's queue: a BaseManager that computes, clients that ask it for each job (300 trivial ones)",
        program=_PROGRAMS / "queue_tutorial.py",
        modules=("multiprocessing.managers", "stoker.workloads.primes"),
    ),
    Contender(
        name="tutorial-nodelay",
        about="the same without its 40 ms for each connection (TCP_NODELAY)",
        program=_PROGRAMS / "queue_tutorial.py",
        modules=("multiprocessing.managers", "stoker.workloads.primes"),
        environment={"STOKER_BENCH_NODELAY": "1"},
    ),
    Contender(
        name="pool",
        about="multiprocessing.Pool(N).imap, which is within one program",
        program=_PROGRAMS / "queue_pool.py",
        modules=("multiprocessing.pool", "stoker.workloads.primes"),
    ),
    Contender(
        name="stoker",
        about="stoker.queue: a server and N workers, jobs and results in a journal on disk",
        program=_PROGRAMS / "queue_stoker.py",
        modules=("stoker.queue.client", "stoker.queue.primes", "stoker.queue.serve", "stoker.queue.work"),
    ),
)
"""Who is measured by ``stoker bench queue``; the first is what the others are compared with."""
