"""``scripts/hosts``: builds hosts as tests have them, runs a command that reaches them by ssh, and removes them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from host_network import HostNetwork, find_hindrance

USAGE = "usage: scripts/hosts NAME... -- COMMAND..."


def main(words: Sequence[str]) -> int:
    """Run the command after ``--`` with hosts of the names before it; its exit status, or 1 where there can be none."""
    if "--" not in words[1:-1]:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    mark = words.index("--")
    if hindrance := find_hindrance():
        sys.stderr.write(f"scripts/hosts: no hosts can be built here: {hindrance}\n")
        return 1
    with _scratch() as scratch, HostNetwork.build(scratch / "network", *words[:mark]) as network:
        return _run(words[mark + 1 :], {**os.environ, "PATH": f"{network.programs}:{os.environ['PATH']}"})


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="stoker-hosts-") as scratch:
        yield Path(scratch)


def _run(argv: Sequence[str], env: dict[str, str]) -> int:
    """Run a command to its end. What would end this program is for the command to hear, and hosts outlive it."""
    command = subprocess.Popen(argv, env=env)
    # A terminal sends SIGINT to both.
    signal.signal(signal.SIGINT, lambda *_: None)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda signum, _: command.send_signal(signum))
    status = command.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
