"""The primes: the first ``count`` of them, each computed from nothing by trial division."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stoker.workloads.work import Verdict, Work, check_whole, whole

__all__ = ["KNOWN", "nth_prime", "plan_primes", "sieve_primes"]

KNOWN = {
    1: (2, 2),
    10: (29, 129),
    100: (541, 24_133),
    1_000: (7_919, 3_682_913),
    10_000: (104_729, 496_165_411),
}
"""By how many first primes are taken: the last of them, and their sum (OEIS A000040 and A007504)."""

# Above this the judge's sieve alone would want gigabytes, and one item, days.
_MOST = 1_000_000


def nth_prime(index: int) -> int:
    """Compute the prime with the given index, where 2 has index 0, by trial division by all smaller primes.

    A number is divided by the smaller primes in turn until one divides it; if none does, it is a prime. That is the
    plain method, and it goes on past the square root on purpose. Cutting there gives the same primes with far fewer
    divisions, but the items are meant to be work: measured on one core (Python 3.11), the first 1000 primes take
    4.5 s (the last, 13.6 ms), against 0.76 s (1.7 ms) with the cut, where an item would cost an engine less than
    the message that carries it (about 6.7 ms). The cost grows with the square of the index.
    """
    primes: list[int] = []
    candidate = 2
    while True:
        for prime in primes:
            if candidate % prime == 0:
                break
        else:
            if len(primes) == index:
                return candidate
            primes.append(candidate)
        candidate += 1


def plan_primes(*, count: int = 1000) -> Work:
    """Plan the primes. The default is the tutorial's.

    Args:
        count: How many primes, from the first.

    Raises:
        StokerError: The count is out of range.
    """
    check_whole("primes", "count", count, low=1, high=_MOST)
    return Work(
        name="primes",
        parameters=(("count", count),),
        task=nth_prime,
        items=range(count),
        serial_items=range(count),
        judge=_judge,
    )


def sieve_primes(count: int) -> list[int]:
    """Compute the first ``count`` primes with the sieve of Eratosthenes."""
    # Rosser and Schoenfeld (1962): the k-th prime is below k (ln k + ln ln k) for k of 6 and more.
    limit = 15 if count < 6 else int(count * (math.log(count) + math.log(math.log(count)))) + 1
    prime = bytearray([1]) * limit
    prime[:2] = b"\0\0"
    for number in range(2, math.isqrt(limit) + 1):
        if prime[number]:
            prime[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return [number for number in range(limit) if prime[number]][:count]


def _judge(items: Sequence[int], results: Sequence[object]) -> Verdict:
    correct = list(results) == sieve_primes(len(items)) and all(
        _last_and_sum(results[:count]) == known for count, known in KNOWN.items() if count <= len(items)
    )
    last, total = _last_and_sum(results)
    return Verdict(correct=correct, figures=(("last", last), ("sum", total)))


def _last_and_sum(results: Sequence[object]) -> tuple[int | None, int | None]:
    numbers = [result for result in results if isinstance(result, int)]
    if not results or len(numbers) < len(results):
        return (whole(results[-1]) if results else None), None
    return numbers[-1], sum(numbers)
