"""The queue benchmark: from the first job put to the last result, for trivial jobs and for the primes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stoker.bench.contenders import QUEUE, Contender
from stoker.bench.measure import run_benchmark
from stoker.bench.record import BenchRecord, Case, Measure, Sample, Skipped

__all__ = ["measure_queue"]

_MEASURES = (
    Measure(name="trivial", unit="jobs/s", less_is_better=False),
    Measure(name="primes", unit="s", less_is_better=True),
)


def measure_queue(
    *,
    workers: Sequence[int] = (2,),
    jobs: int = 10_000,
    primes: int = 1000,
    rounds: int = 3,
    timeout: float = 1800.0,
    contenders: Sequence[Contender] = QUEUE,
    on_sample: Callable[[Sample], None] = lambda sample: None,
    on_skipped: Callable[[Skipped], None] = lambda skipped: None,
) -> BenchRecord:
    """Measure how long each contender takes from the first job put until the last result is known.

    Servers and workers run and are connected before a clock starts. Results are checked, after the clock stopped.

    Args:
        workers: How many workers; each number is a case.
        jobs: How many trivial jobs: what they cost is the queue's own cost.
        primes: How many primes, from the first; each is a job.
        rounds: How often each contender runs in each case.
        timeout: Seconds that a contender may take, for both kinds of job together.
        contenders: Who takes turns.
        on_sample: Told each sample as it is taken.
        on_skipped: Told each contender that cannot be measured here.
    """
    return run_benchmark(
        "queue",
        _MEASURES,
        contenders,
        [Case(engines=number, jobs=jobs, primes=primes) for number in dict.fromkeys(workers)],
        baseline=QUEUE[0].name,
        rounds=rounds,
        timeout=timeout,
        on_sample=on_sample,
        on_skipped=on_skipped,
    )
