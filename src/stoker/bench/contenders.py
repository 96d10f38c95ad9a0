"""Contenders: who is measured, by which program, and what that program imports. Runs nothing.

A program is a file below ``programs/``, run by a fresh interpreter as ``python FILE CASE``, where ``CASE`` is
the case as JSON. It says what it measured in one line, ``measured: {"FIGURE": NUMBER, ...}``, anywhere in its output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "APPLY",
    "BASELINE",
    "JOURNAL",
    "MEMORY",
    "QUEUE",
    "SSH_START",
    "START",
    "SUBMIT",
    "THROUGHPUT",
    "WORKLOADS",
    "Contender",
]

_PROGRAMS = Path(__file__).parent / "programs"

_IPYPARALLEL = ("ipyparallel", "ipyparallel.controller.app", "ipyparallel.engine.app")
_STOKER = (
    "stoker.agent.__main__",
    "stoker.agent.preload",
    "stoker.cluster.handle",
    "stoker.cluster.supervisor",
    "stoker.launch.controller",
    *_IPYPARALLEL,
)
_TRIALS = "stoker.bench.trials"
_GROWTH = "stoker.bench.growth"

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

    extra: str | None = None
    """The extra of stoker that its modules come with; None: they come with stoker itself."""

    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that it gets in addition."""

    most_items: int | None = None
    """It has no part in a case of more items than this: that would take too long. None: there is no such number."""

    def takes(self, items: int | None) -> bool:
        """Tell whether it has a part in a case of so many items."""
        return self.most_items is None or items is None or items <= self.most_items


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
        about="stoker.up(spec) where the spec was applied before, encrypted",
        program=_PROGRAMS / "start_stoker.py",
        prepare=_PROGRAMS / "apply_profile.py",
        modules=_STOKER,
    ),
    Contender(
        name="stoker-fresh",
        about="stoker.up(spec) where there is no profile yet, encrypted",
        program=_PROGRAMS / "start_stoker.py",
        modules=_STOKER,
    ),
    Contender(
        name="dask",
        about="distributed.LocalCluster(n_workers=N, threads_per_worker=1)",
        program=_PROGRAMS / "start_dask.py",
        modules=("distributed",),
        extra="bench",
    ),
    Contender(
        name="ray",
        about="ray.init(num_cpus=N); one worker is enough for its first result",
        program=_PROGRAMS / "start_ray.py",
        modules=("ray",),
        extra="bench",
        environment={"RAY_USAGE_STATS_ENABLED": "0"},
    ),
)
"""Who is measured by ``stoker bench start``."""

SSH_START = (
    Contender(
        name=BASELINE,
        about="ipyparallel.Cluster(engines='ssh'), as it is",
        program=_PROGRAMS / "ssh_start_stock.py",
        modules=_IPYPARALLEL,
    ),
    Contender(
        name="stoker",
        about="stoker.up(spec) with hosts, where there is no profile yet, encrypted",
        program=_PROGRAMS / "ssh_start_stoker.py",
        modules=_STOKER,
    ),
)
"""Who is measured by ``stoker bench ssh-start``."""

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

JOURNAL = (
    Contender(
        name="stoker",
        about="stoker.up(spec).map, with journal=FILE and without, in turn",
        program=_PROGRAMS / "journal_map.py",
        modules=(*_STOKER, "stoker.compute.mapping", _TRIALS),
    ),
)
"""Who is measured by ``stoker bench journal``: one program does it both ways, since two programs differ by more."""

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

_FEW = 20_000
"""The most items for those who send each in a message of its own."""

_MANY = 50_000
"""The same where one round is enough: they do about 250 a second."""

THROUGHPUT = (
    Contender(
        name="pool",
        about="multiprocessing.Pool(N).map with its own chunks",
        program=_PROGRAMS / "throughput_pool.py",
        modules=("multiprocessing.pool", _TRIALS),
    ),
    Contender(
        name="executor",
        about="ProcessPoolExecutor(N).map with four chunks a worker",
        program=_PROGRAMS / "throughput_executor.py",
        modules=("concurrent.futures.process", _TRIALS),
    ),
    Contender(
        name="joblib",
        about="joblib.Parallel(n_jobs=N) with its own batches",
        program=_PROGRAMS / "throughput_joblib.py",
        modules=("joblib", _TRIALS),
        extra="bench",
    ),
    Contender(
        name="plain",
        about="ipyparallel's LoadBalancedView.map_sync, an item a message; measured on 2000 items",
        program=_PROGRAMS / "throughput_plain.py",
        modules=(*_IPYPARALLEL, _TRIALS),
        most_items=_FEW,
    ),
    Contender(
        name="dask",
        about="distributed.Client.map and gather, an item a task",
        program=_PROGRAMS / "throughput_dask.py",
        modules=("distributed", _TRIALS),
        extra="bench",
        most_items=_FEW,
    ),
    Contender(
        name="ray",
        about="ray.get of an item a task",
        program=_PROGRAMS / "throughput_ray.py",
        modules=("ray", _TRIALS),
        extra="bench",
        environment={"RAY_USAGE_STATS_ENABLED": "0"},
        most_items=_FEW,
    ),
    Contender(
        name="stoker",
        about="stoker.up(spec).map",
        program=_PROGRAMS / "throughput_stoker.py",
        modules=(*_STOKER, "stoker.compute.mapping", _TRIALS),
    ),
)
"""Who is measured by ``stoker bench throughput``; the first is what the others are compared with."""

SUBMIT = (
    Contender(
        name="pool",
        about="multiprocessing.Pool(N).apply_async",
        program=_PROGRAMS / "submit_pool.py",
        modules=("multiprocessing.pool", _TRIALS),
    ),
    Contender(
        name="executor",
        about="ProcessPoolExecutor(N).submit",
        program=_PROGRAMS / "submit_executor.py",
        modules=("concurrent.futures.process", _TRIALS),
    ),
    Contender(
        name="plain",
        about="ipyparallel's LoadBalancedView.apply_async on the cluster of stoker.up(spec); measured on 2000 calls",
        program=_PROGRAMS / "submit_plain.py",
        modules=(*_STOKER, _TRIALS),
        most_items=_FEW,
    ),
    Contender(
        name="dask",
        about="distributed.Client.submit and gather",
        program=_PROGRAMS / "submit_dask.py",
        modules=("distributed", _TRIALS),
        extra="bench",
        most_items=_FEW,
    ),
    Contender(
        name="ray",
        about="a remote function and ray.get",
        program=_PROGRAMS / "submit_ray.py",
        modules=("ray", _TRIALS),
        extra="bench",
        environment={"RAY_USAGE_STATS_ENABLED": "0"},
        most_items=_FEW,
    ),
    Contender(
        name="stoker",
        about="stoker.up(spec).submit",
        program=_PROGRAMS / "submit_stoker.py",
        modules=(*_STOKER, "stoker.compute.executor", _TRIALS),
    ),
)
"""Who is measured by ``stoker bench submit``; the first is what the others are compared with."""

WORKLOADS = (
    Contender(
        name="serial",
        about="a plain loop in one process",
        program=_PROGRAMS / "workloads_serial.py",
        modules=(_TRIALS,),
    ),
    Contender(
        name="loops",
        about="N plain loops at once, each with every Nth item: what the cores give",
        program=_PROGRAMS / "workloads_loops.py",
        modules=(_TRIALS,),
    ),
    Contender(
        name="pool",
        about="multiprocessing.Pool(N).map with the best of its own chunk size, 1, 4 and an eighth of the items",
        program=_PROGRAMS / "workloads_pool.py",
        modules=("multiprocessing.pool", _TRIALS),
    ),
    Contender(
        name="plain",
        about="ipyparallel's LoadBalancedView.map with the best of chunk sizes 1, 4 and 25",
        program=_PROGRAMS / "workloads_plain.py",
        modules=(*_IPYPARALLEL, _TRIALS),
    ),
    Contender(
        name="stoker",
        about="stoker.up(spec).map",
        program=_PROGRAMS / "workloads_stoker.py",
        modules=(*_STOKER, "stoker.compute.mapping", _TRIALS),
    ),
)
"""Who is measured by ``stoker bench workloads``; the first is what the others are compared with."""

MEMORY = (
    Contender(
        name="plain",
        about="ipyparallel's LoadBalancedView.map, an item a message",
        program=_PROGRAMS / "memory_plain.py",
        modules=(*_IPYPARALLEL, _GROWTH),
        most_items=_MANY,
    ),
    Contender(
        name="plain-encrypted",
        about="the same with IPP_ENABLE_CURVE=1: messages are not signed, and no signatures are kept",
        program=_PROGRAMS / "memory_plain.py",
        modules=(*_IPYPARALLEL, _GROWTH),
        environment={"IPP_ENABLE_CURVE": "1"},
        most_items=_MANY,
    ),
    Contender(
        name="stoker",
        about="stoker.up(spec).imap, encrypted",
        program=_PROGRAMS / "memory_stoker.py",
        modules=(*_STOKER, "stoker.compute.mapping", _GROWTH),
    ),
)
"""Who is measured by ``stoker bench memory``; the first is what the others are compared with."""
