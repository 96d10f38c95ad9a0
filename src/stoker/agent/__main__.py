"""``python -m stoker.agent``: an agent whose supervisor speaks on its standard input and output."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

__all__ = ["main"]


def main() -> None:
    """Be an agent; and, in each process that it forks, an engine."""
    parser = argparse.ArgumentParser(prog="python -m stoker.agent", description=__doc__)
    parser.add_argument("--socket", type=Path, help="where a later supervisor can attach")
    parser.add_argument("--log", type=Path, help="the file that standard error goes to, to be kept short")
    parser.add_argument("--lease", type=float, default=120.0, help="seconds it goes on without a supervisor")
    parser.add_argument("--tidy", action="store_true", help="remove the socket's directory at the end")
    words = parser.parse_args()
    if words.log is not None:
        output = os.open(words.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(output, 2)
        os.close(output)

    from stoker.agent.run import run_agent
    from stoker.agent.server import split_standard_handles

    handles = split_standard_handles()
    run_agent(*handles, socket_path=words.socket, log=words.log, lease=words.lease, tidy=words.tidy)


if __name__ == "__main__":
    main()
