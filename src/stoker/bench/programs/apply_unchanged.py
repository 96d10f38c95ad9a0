"""Measures ``stoker apply`` on a profile that nothing has touched since, or a bare interpreter, as whole processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

BARE = "STOKER_BENCH_BARE"
_TIMES = 15
_COMMANDS = {"interpreter": ["-c", "pass"], "stoker": ["-m", "stoker", "apply"]}


def main(contender: str) -> None:
    """Print the fastest of several runs: what is beyond it is other work on the machine."""
    argv = [sys.executable, *_COMMANDS[contender]]
    # Twice: the first writes the profile, the second leaves nothing to write.
    for _ in range(2):
        subprocess.run(argv, check=True, capture_output=True)
    taken = []
    for _ in range(_TIMES):
        start = time.perf_counter()
        subprocess.run(argv, check=True, capture_output=True)
        taken.append((time.perf_counter() - start) * 1000)
    print(f"measured: {json.dumps({'wall': min(taken)})}")  # noqa: T201


if __name__ == "__main__":
    main("interpreter" if BARE in os.environ else "stoker")
