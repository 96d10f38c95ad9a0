"""Stoker's queue, with its server and its workers as its commands start them: from the first put to the last result."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stoker.errors import StokerError
from stoker.queue import connect
from stoker.workloads.primes import sieve_primes

_UP = 60.0
"""Seconds that the server, and then the workers, have to be there."""

_DOWN = 20.0
"""Seconds that each has to end by itself, before it is killed."""

_POLL = 0.02


def main() -> None:
    case = json.loads(sys.argv[1])
    workers, jobs, primes = case["engines"], case["jobs"], case["primes"]
    # The program's own directory: it is gone with it.
    directory = Path.cwd() / "queue"
    directory.mkdir(mode=0o700)

    with ExitStack() as stack:
        server = start(stack, "serve", "--directory", str(directory))
        queue = wait_for_server(directory, server)
        working = start(stack, "work", "--directory", str(directory), "-n", str(workers))
        wait_for_workers(queue, workers, working)

        trivial = measure(queue, "operator:neg", [-item for item in range(jobs)])
        seconds = measure(queue, "stoker.queue.primes:nth_prime", sieve_primes(primes))

        queue.close()
        working.wait(_DOWN)

    # After the others have ended: what they printed comes before it.
    sys.stdout.write(f"\nmeasured: {json.dumps({'trivial': jobs / trivial, 'primes': seconds})}\n")


def measure(queue: Any, function: str, right: list[int]) -> float:
    """Run a function for 0, 1, 2, ...; give the seconds that it took, after a check of the results."""
    items = list(range(len(right)))
    begin = time.perf_counter()
    numbers = queue.put(function, items)
    values = [result.get() for result in queue.results(numbers)]
    seconds = time.perf_counter() - begin
    if values != right:
        sys.exit(f"{function}: the results are wrong")
    return seconds


def start(stack: ExitStack, *words: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-P", "-m", "stoker.queue", *words]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    stack.callback(end, process)
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_DOWN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for_server(directory: Path, server: subprocess.Popen[bytes]) -> Any:
    """Connect as soon as the server answers."""
    deadline = time.monotonic() + _UP
    problem: Exception | None = None
    while server.poll() is None and time.monotonic() < deadline:
        if (directory / "server.json").exists():
            try:
                queue = connect(directory)
                queue.status()
                return queue
            except (StokerError, OSError, EOFError) as error:
                problem = error
        time.sleep(_POLL)
    sys.exit(f"the server is not there; status {server.poll()}, {problem or 'it wrote no server.json'}")


def wait_for_workers(queue: Any, workers: int, working: subprocess.Popen[bytes]) -> None:
    """Wait until as many processes as there should be have each run a job."""
    deadline = time.monotonic() + _UP
    seen: set[int] = set()
    while working.poll() is None and time.monotonic() < deadline:
        seen |= {result.pid for result in queue.results(queue.put("time:sleep", [0.1] * workers))}
        if len(seen) >= workers:
            return
    sys.exit(f"only {len(seen)} of {workers} workers ran a job; status {working.poll()}")


if __name__ == "__main__":
    main()
