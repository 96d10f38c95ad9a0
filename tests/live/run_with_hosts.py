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
_ENDS = (signal.SIGTERM, signal.SIGHUP)


def main(words: Sequence[str]) -> int:
    """Run the command after ``--`` with hosts of the names before it; its exit status, or 1 where there can be none."""
    if "--" not in words[1:-1]:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    mark = words.index("--")
    if hindrance := find_hindrance():
        sys.stderr.write(f"scripts/hosts: no hosts can be built here: {hindrance}\n")
        return 1
    for signum in _ENDS:
        # What has been built is removed.
        signal.signal(signum, _leave)
    with _scratch() as scratch, HostNetwork.build(scratch / "network", *words[:mark]) as network:
        return _run(words[mark + 1 :], {**os.environ, "PATH": f"{network.programs}:{os.environ['PATH']}"})


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="stoker-hosts-") as scratch:
        yield Path(scratch)


def _run(argv: Sequence[str], env: dict[str, str]) -> int:
    """Run a command to its end. What would end this program is for the command to hear, and hosts outlive it."""
    early: list[int] = []
    command: subprocess.Popen[bytes] | None = None

    def pass_on(signum: int, _: object) -> None:
        if command is None:
            early.append(signum)
        else:
            command.send_signal(signum)

    # Before it starts: this program may be asked to end while it does. A terminal sends SIGINT to both.
    signal.signal(signal.SIGINT, lambda *_: None)
    for signum in _ENDS:
        signal.signal(signum, pass_on)
    command = subprocess.Popen(argv, env=env)
    for signum in early:
        command.send_signal(signum)
    status = command.wait()
    return status if status >= 0 else 128 - status


def _leave(signum: int, _: object) -> None:
    sys.exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
