"""Measuring: contenders in turn, each in a fresh interpreter with a home of its own, and nothing left of it.

Whatever a program starts is known by a mark in its environment, so that all of it can be ended, whatever the
program itself did. A contender that fails gives a sample with the reason.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stoker.bench.contenders import Contender
from stoker.bench.machine import read_machine
from stoker.bench.record import BenchRecord, Case, Measure, Sample, Skipped, render_case
from stoker.errors import StopError
from stoker.system.files import read_last_lines
from stoker.system.processes import ProcessId, exit_status, find_marked, spawn, stop

__all__ = ["MARK", "Taken", "measure", "parse_figures", "render_environment", "run_benchmark"]

MARK = "STOKER_BENCH"
"""The environment variable that marks every process of one program."""

_POLL = 0.02
_LINES = 15
_SETTLE = 5.0
"""Seconds that processes have to be gone after their program has ended, before they count as left behind. The
nannies of ipyparallel's engines take up to three."""

_GRACE = 2.0
"""Seconds between asking what is left to end, and killing it."""

_FOREIGN = ("IPP_", "STOKER_", "IPYTHON", "JUPYTER", "DASK_", "RAY_", "JOBLIB_", "LOKY_")
"""Variables of the user's that would lead a program to another cluster, profile or setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What was taken in all rounds."""

    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...]


def measure(
    contenders: Sequence[Contender],
    cases: Sequence[Case],
    *,
    rounds: int,
    timeout: float,
    on_sample: Callable[[Sample], None] = lambda sample: None,
    on_skipped: Callable[[Skipped], None] = lambda skipped: None,
) -> Taken:
    """Run contenders in turn: A B A B ..., for each case.

    Args:
        contenders: Who takes turns, in this order.
        cases: One after the other; each has all its rounds before the next begins. Those with more items than a
            contender takes are left out for it.
        rounds: How often each contender runs in each case. One that used up its time is not run again in
            that case.
        timeout: Seconds that a program may take.
        on_sample: Told each sample as it is taken.
        on_skipped: Told each contender that cannot be measured here.
    """
    skipped = {}
    for contender in contenders:
        if (reason := _import_modules(contender, timeout)) is not None:
            advice = f"; it comes with the extra {contender.extra!r}" if contender.extra else ""
            skipped[contender.name] = Skipped(contender=contender.name, reason=f"{reason}{advice}")
            on_skipped(skipped[contender.name])
    samples = []
    for case in cases:
        running = [
            contender for contender in contenders if contender.name not in skipped and contender.takes(case.items)
        ]
        for number in range(1, rounds + 1):
            for contender in tuple(running):
                sample, in_time = _take_sample(contender, case, number, timeout)
                samples.append(sample)
                on_sample(sample)
                if not in_time:
                    running.remove(contender)
    return Taken(samples=tuple(samples), skipped=tuple(skipped.values()))


def run_benchmark(
    benchmark: str,
    measures: tuple[Measure, ...],
    contenders: Sequence[Contender],
    cases: Sequence[Case],
    *,
    baseline: str,
    rounds: int,
    timeout: float,
    on_sample: Callable[[Sample], None] = lambda sample: None,
    on_skipped: Callable[[Skipped], None] = lambda skipped: None,
) -> BenchRecord:
    """Measure contenders in turn, and keep what came of it together with the machine it came from.

    Args:
        benchmark: Its name.
        measures: What each sample holds.
        contenders: As of ``measure``, like the arguments below.
        cases: One after the other.
        baseline: The contender that the others are compared with.
        rounds: How often each contender runs in each case.
        timeout: Seconds that a program may take.
        on_sample: Told each sample as it is taken.
        on_skipped: Told each contender that cannot be measured here.
    """
    machine = read_machine()
    taken = measure(contenders, cases, rounds=rounds, timeout=timeout, on_sample=on_sample, on_skipped=on_skipped)
    return BenchRecord(
        benchmark=benchmark,
        measures=measures,
        baseline=baseline,
        about={contender.name: contender.about for contender in contenders},
        rounds=rounds,
        timeout=timeout,
        machine=machine,
        samples=taken.samples,
        skipped=taken.skipped,
    )


def parse_figures(lines: Sequence[str]) -> dict[str, float] | None:
    """Find what a program measured in its output; None where it says nothing of it."""
    found = [line.removeprefix("measured: ") for line in lines if line.startswith("measured: ")]
    try:
        figures = json.loads(found[-1])
        return {str(name): float(value) for name, value in figures.items()} or None
    except (IndexError, ValueError, TypeError, AttributeError):
        return None


def render_environment(
    environment: Mapping[str, str], *, home: Path, mark: str, more: Mapping[str, str]
) -> dict[str, str]:
    """Give the whole environment of a program.

    Args:
        environment: That of whoever starts it.
        home: A directory for this program alone.
        mark: Marks it and all that it starts.
        more: What the contender gets in addition.
    """
    kept = {name: value for name, value in environment.items() if not name.startswith(_FOREIGN)}
    own = {"HOME": str(home), "IPYTHONDIR": str(home / ".ipython"), "XDG_RUNTIME_DIR": str(home), MARK: mark}
    return {**kept, **own, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    status: int | None
    """None: it used up its time."""

    lines: tuple[str, ...]
    """The end of its output."""

    left: int
    """How many processes it left behind; they were ended."""

    stuck: str | None
    """Why some of them could not be ended."""

    def describe_problem(self, timeout: float) -> str | None:
        if self.stuck is not None:
            return self.stuck
        if self.status is None:
            return f"not done after {timeout:g} s"
        if self.status == 0:
            return None
        how = f"status {self.status}" if self.status > 0 else f"signal {-self.status}"
        said = next((line.strip() for line in reversed(self.lines) if line.strip()), "it printed nothing")
        return f"ended with {how}: {said}"


def _take_sample(contender: Contender, case: Case, number: int, timeout: float) -> tuple[Sample, bool]:
    """Run a contender once; give what came of it, and whether it was done in time."""
    with _home() as home:
        programs = [path for path in (contender.prepare, contender.program) if path is not None]
        left = 0
        for program in programs:
            argv = [str(program), json.dumps(render_case(case))]
            ended = _run_python(argv, home=Path(home), more=contender.environment, timeout=timeout)
            problem = ended.describe_problem(timeout)
            left += ended.left
            if problem is not None:
                break
    figures = parse_figures(ended.lines) if problem is None else None
    if figures is None and problem is None:
        problem = "it did not say what it measured"
    sample = Sample(
        contender=contender.name,
        case=case,
        round=number,
        figures=figures or {},
        problem=problem,
        log=() if problem is None else ended.lines,
        left=left,
    )
    return sample, ended.status is not None


def _import_modules(contender: Contender, timeout: float) -> str | None:
    """Import what a contender needs, in a fresh interpreter; give the reason where that fails."""
    if not contender.modules:
        return None
    with _home() as home:
        argv = ["-c", f"import {', '.join(contender.modules)}"]
        ended = _run_python(argv, home=Path(home), more=contender.environment, timeout=timeout)
    return ended.describe_problem(timeout)


def _home() -> tempfile.TemporaryDirectory[str]:
    # A short path: sockets below it may have 107 bytes.
    return tempfile.TemporaryDirectory(prefix="stoker-bench-", ignore_cleanup_errors=True)


def _run_python(argv: Sequence[str], *, home: Path, more: Mapping[str, str], timeout: float) -> _Ended:
    mark = secrets.token_hex(8)
    log = home / f"output-{mark}.log"
    env = render_environment(os.environ, home=home, mark=mark, more=more)
    stuck = None
    leaders: list[ProcessId] = []

    def find() -> tuple[ProcessId, ...]:
        return find_marked(MARK, mark, groups=leaders)

    try:
        # -P: what lies beside the program is no module to it.
        process = spawn([sys.executable, "-P", *argv], env=env, cwd=home, log=log)
        leaders.append(process)
        status = _wait(process, timeout)
        # One that was cut off had no chance to end what it started: everything counts but itself.
        left = _wait_until_gone(find) if status is not None else len(find()) - 1
    finally:
        try:
            stop(find, grace=_GRACE)
        except StopError as error:
            stuck = str(error)
    return _Ended(status=status, lines=read_last_lines(log, _LINES), left=max(0, left), stuck=stuck)


def _wait(process: ProcessId, timeout: float) -> int | None:
    deadline = time.monotonic() + timeout
    while (status := exit_status(process)) is None and time.monotonic() < deadline:
        time.sleep(_POLL)
    return status


def _wait_until_gone(find: Callable[[], Sequence[ProcessId]]) -> int:
    deadline = time.monotonic() + _SETTLE
    while (left := len(find())) and time.monotonic() < deadline:
        time.sleep(_POLL)
    return left
