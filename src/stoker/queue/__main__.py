"""``python -m stoker.queue serve`` and ``work``: for machines that have these files and nothing else."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from stoker.errors import StokerError
from stoker.queue.directory import QueueDirectory, parse_address
from stoker.queue.line import Line
from stoker.queue.serve import LOOPBACK, serve
from stoker.queue.work import run_workers

__all__ = ["main"]


def main() -> int:
    """Run the command; give 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    options = _parser().parse_args()
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _leave)
    directory = QueueDirectory.default() if options.directory is None else QueueDirectory(options.directory)
    try:
        if options.command == "serve":
            given = {name: getattr(options, name) for name in ("ip", "port", "lease", "attempts", "time_limit", "new")}
            serve(directory, **given, tell=_tell, warn=_tell)
            return 0
        address = None if options.address is None else parse_address(options.address)
        sys.path.insert(0, "")
        done = run_workers(
            options.workers,
            lambda: Line(directory, address=address, key=options.key, wait=options.wait, tell=_tell),
            tell=_tell,
        )
        _tell(f"all is done; {done} results came from here")
    except StokerError as error:
        _tell(f"stoker: {error}")
        return 1
    except KeyboardInterrupt:
        return 0 if options.command == "serve" else 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stoker.queue", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve", help="serve a queue")
    server.add_argument("--directory", type=Path, help="where key and journal are")
    server.add_argument("--ip", default=LOOPBACK, help="the address of an interface, or *")
    server.add_argument("--port", type=int, help="default: as last time, else any free one")
    server.add_argument("--lease", type=float, default=30.0, help="seconds of silence that lose a worker its jobs")
    server.add_argument("--attempts", type=int, default=3, help="workers that a job may kill")
    server.add_argument("--time-limit", type=float, help="seconds that a job may take")
    server.add_argument("--new", action="store_true", help="put the old journal aside")
    work = commands.add_parser("work", help="run jobs")
    work.add_argument("-n", "--workers", type=int, default=1, help="processes")
    work.add_argument("--directory", type=Path, help="where address and key are, unless given")
    work.add_argument("--address", help="HOST:PORT of the server")
    work.add_argument("--key", type=Path, help="the file with the server's key")
    work.add_argument("--wait", type=float, default=60.0, help="seconds to try for when the server does not answer")
    return parser


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def _leave(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
