"""``multiprocessing.Pool``, one job at a time: from the first job to the last result."""

from __future__ import annotations

import json
import multiprocessing
import operator
import sys
import time
from collections.abc import Callable

from stoker.workloads.primes import nth_prime, sieve_primes


def main() -> None:
    case = json.loads(sys.argv[1])
    workers, jobs, primes = case["engines"], case["jobs"], case["primes"]

    trivial = measure(operator.neg, workers, [-item for item in range(jobs)])
    seconds = measure(nth_prime, workers, sieve_primes(primes))

    sys.stdout.write(f"\nmeasured: {json.dumps({'trivial': jobs / trivial, 'primes': seconds})}\n")


def measure(task: Callable[[int], int], workers: int, right: list[int]) -> float:
    """Run a task for 0, 1, 2, ...; give the seconds that it took, after a check of the results."""
    with multiprocessing.Pool(workers) as pool:
        # As many of them as there are workers, so that all are up.
        pool.map(time.sleep, [0.1] * workers, chunksize=1)
        begin = time.perf_counter()
        values = list(pool.imap(task, range(len(right))))
        seconds = time.perf_counter() - begin
    if values != right:
        sys.exit(f"{task.__name__}: the results are wrong")
    return seconds


if __name__ == "__main__":
    main()
