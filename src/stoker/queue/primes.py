"""The tutorial's job, where nothing but the queue's own files is there."""

from __future__ import annotations

__all__ = ["nth_prime"]


def nth_prime(index: int) -> int:
    """Compute the prime with the given index, where 2 has index 0, by trial division by all smaller primes.

    On purpose as plain and slow as the workloads' function of this name, whose place workers may not have.
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
