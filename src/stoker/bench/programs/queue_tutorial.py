"""The tutorial's job queue, with its three scripts as roles of this one: from the first put to the last result.

As printed (Rick van Hattem, Mastering Python, 2nd edition, chapter 14, "remote multiprocessing"): ``client``, asking
the manager for each job, has the *server* compute, and holds a proxy of the result, whose text it prints. Only what
measuring needs is different: the results are kept and checked, each script waits until it is told to begin, and a
client does not hang at the end. The clients leave an empty queue, so they begin after the last put.

It is slow mostly because each call makes several connections, and each of these waits about 40 ms: at the end of
multiprocessing's handshake one side writes twice, and Nagle's algorithm holds the second until a delayed ACK.
"""

from __future__ import annotations

import json
import multiprocessing
import operator
import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from multiprocessing import managers
from queue import Empty
from typing import Any

from stoker.workloads.primes import nth_prime, sieve_primes

_RACE = 0.1
_MOST = 300
"""Trivial jobs of the way as printed: each costs the same, and 10,000 would take a quarter of an hour."""

_NODELAY = bool(os.environ.get("STOKER_BENCH_NODELAY"))


def main() -> None:
    case = json.loads(sys.argv[1])
    workers, jobs, primes = case["engines"], case["jobs"], case["primes"]
    jobs = jobs if _NODELAY else min(jobs, _MOST)

    trivial = measure("trivial", workers, [-item for item in range(jobs)])
    seconds = measure("primes", workers, sieve_primes(primes))

    sys.stdout.write(f"\nmeasured: {json.dumps({'trivial': jobs / trivial, 'primes': seconds})}\n")


def measure(task: str, workers: int, right: list[int]) -> float:
    """Run a task for 0, 1, 2, ...; give the seconds that it took, after a check of the results."""
    settings = {"task": task, "count": len(right), "key": secrets.token_hex(), "port": 0}
    with ExitStack() as stack:
        settings["port"] = hear(start_role("server", settings, stack))
        producer = start_role("producer", settings, stack)
        clients = [start_role("client", settings, stack) for _ in range(workers)]
        for process in (producer, *clients):
            hear(process)

        begin = time.perf_counter()
        tell(producer, "go")
        hear(producer)
        for client in clients:
            tell(client, "go")
        answers = [hear(client) for client in clients]

    if sorted(value for answer in answers for value in answer["values"]) != sorted(right):
        sys.exit(f"{task}: the results are wrong")
    # Not when the lists came: the tutorial's clients have no one to send them to. The clock is the system's.
    end: float = max(answer["end"] for answer in answers)
    return end - begin


def start_role(role: str, settings: dict[str, Any], stack: ExitStack) -> subprocess.Popen[str]:
    argv = [sys.executable, "-P", __file__, role]
    process = stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    stack.callback(process.kill)
    tell(process, settings)
    return process


def tell(process: subprocess.Popen[str], message: object) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{json.dumps(message)}\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> Any:
    """Wait for what a script says."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit("a script ended before it had said what it should; its traceback is above")
    return json.loads(line)


def say(message: object) -> None:
    sys.stdout.write(f"{json.dumps(message)}\n")
    sys.stdout.flush()


def wait_for_go() -> None:
    say("ready")
    sys.stdin.readline()


def run_server(settings: dict[str, Any]) -> None:
    queue: multiprocessing.Queue[int] = multiprocessing.Queue()
    manager = make_manager(settings)
    manager.register("queue", callable=lambda: queue)
    manager.register("trivial", callable=operator.neg)
    manager.register("primes", callable=nth_prime)
    server = manager.get_server()
    say(server.address[1])
    server.serve_forever()


def run_producer(settings: dict[str, Any]) -> None:
    manager = make_manager(settings)
    manager.register("queue")
    manager.connect()
    queue = manager.queue()
    wait_for_go()
    for item in range(settings["count"]):
        queue.put(item)
    say("done")


def run_client(settings: dict[str, Any]) -> None:
    manager = make_manager(settings)
    manager.register("queue")
    manager.register(settings["task"])
    manager.connect()
    queue, task = manager.queue(), getattr(manager, settings["task"])
    values, end = [], 0.0
    wait_for_go()
    while not queue.empty():
        # Another client may take the last item between the two calls; the tutorial's waits for ever then.
        try:
            item = queue.get(timeout=_RACE)
        except Empty:
            continue
        # The tutorial prints the proxy, which fetches the text of the result; the proxy itself has no value.
        values.append(int(str(task(item))))
        end = time.perf_counter()
    say({"values": values, "end": end})


class Undelayed(socket.socket):
    """A socket that sends each piece at once."""

    def detach(self) -> int:
        """Hand the connection over to multiprocessing."""
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return super().detach()


def make_manager(settings: dict[str, Any]) -> Any:
    return managers.BaseManager(address=("127.0.0.1", settings["port"]), authkey=settings["key"].encode())


_ROLES = {"server": run_server, "producer": run_producer, "client": run_client}

if __name__ == "__main__":
    if _NODELAY:
        # Both multiprocessing and accept() make their sockets by this name.
        socket.socket = Undelayed  # type: ignore[misc]
    if (run_role := _ROLES.get(sys.argv[1])) is not None:
        run_role(json.loads(sys.stdin.readline()))
    else:
        main()
