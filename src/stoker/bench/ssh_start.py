"""The ssh-start benchmark: engines on other hosts, until all are ready, what they take there, and their stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from stoker.bench.contenders import BASELINE, SSH_START, Contender
from stoker.bench.hosts import HOSTS, PYTHON
from stoker.bench.measure import run_benchmark
from stoker.bench.record import BenchRecord, Case, Measure, Sample, Skipped

__all__ = ["measure_ssh_start"]

_SECONDS = tuple(Measure(name=name, unit="s", less_is_better=True) for name in ("start", "stop"))
_COUNTS = tuple(
    Measure(name=name, unit="/host", less_is_better=True, comparison="times as few as")
    for name in ("processes", "connections", "kept", "left")
)


def measure_ssh_start(
    *,
    hosts: Sequence[str],
    python: str = "python3",
    engines: int = 4,
    rounds: int = 3,
    timeout: float = 300.0,
    contenders: Sequence[Contender] = SSH_START,
    on_sample: Callable[[Sample], None] = lambda sample: None,
    on_skipped: Callable[[Skipped], None] = lambda skipped: None,
) -> BenchRecord:
    """Measure how long each contender takes until all engines on all hosts have answered, and to stop them.

    The clock starts right before the first import. Counted for each host: ``processes`` there while the cluster is up
    (without sshd's), ssh ``connections`` made until it is stopped, those that were ``kept`` while it was up, and
    processes that were ``left`` there right after its stop.

    Args:
        hosts: As ssh knows them; it must get in without asking for anything.
        python: The interpreter there: a name, or a path.
        engines: How many on each host.
        rounds: How often each contender runs.
        timeout: Seconds that a contender may take, from its first import to the end of its stop.
        contenders: Who takes turns.
        on_sample: Told each sample as it is taken.
        on_skipped: Told each contender that cannot be measured here.
    """
    place = {HOSTS: " ".join(hosts), PYTHON: python}
    return run_benchmark(
        "ssh-start",
        (*_SECONDS, *_COUNTS),
        [_place(contender, place) for contender in contenders],
        [Case(engines=engines * len(hosts), hosts=len(hosts))],
        baseline=BASELINE,
        rounds=rounds,
        timeout=timeout,
        on_sample=on_sample,
        on_skipped=on_skipped,
    )


def _place(contender: Contender, place: Mapping[str, str]) -> Contender:
    return replace(contender, environment={**contender.environment, **place})
