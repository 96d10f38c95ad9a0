"""What a cluster takes of hosts: processes there, and ssh connections from here. Read in a contender's own program."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from stoker.bench.parts import read_processes

__all__ = ["HOSTS", "PROFILE", "PYTHON", "HostCount"]

HOSTS = "STOKER_BENCH_HOSTS"
"""The environment variable that names the hosts, with blanks between them."""

PYTHON = "STOKER_BENCH_PYTHON"
"""That which says the interpreter there."""

PROFILE = "stoker_bench"
"""The profile of what is measured: stock writes into the one of that name on each host."""

T = TypeVar("T")

_TIMEOUT = 30.0
_SSH = ("-o", "BatchMode=yes")
_NO_CONNECTION = ("-G", "-O", "-Q", "-V")
"""With one of these, ssh connects to nobody."""

# By process number and start: those of this user, but for sshd's and its own session's.
_LIST = """
import json, os
found = []
for pid in filter(str.isdecimal, os.listdir("/proc")):
    try:
        if os.stat("/proc/" + pid).st_uid != os.getuid() or os.getsid(int(pid)) == os.getsid(0):
            continue
        name, _, rest = open("/proc/" + pid + "/stat").read().partition("(")[2].rpartition(")")
    except OSError:
        continue
    words = rest.split()
    if not name.startswith("sshd") and words[0] not in "ZX":
        found.append([int(pid), int(words[19])])
print(json.dumps(found))
"""

_WRAPPER = """#!/bin/sh
for word; do
    case "$word" in {none}) exec {program} "$@";; esac
done
echo {name} >>{log}
exec {program} "$@"
"""


class HostCount:
    """Counts what comes to be on hosts from its own start on, and the connections that are made to them.

    Connections are counted where ``ssh`` and ``scp`` are started, by programs of these names that it puts on PATH.
    """

    def __init__(self, directory: Path) -> None:
        """Look at the hosts as they are, and begin to count.

        Args:
            directory: For the programs; it must be this program's alone.
        """
        self.hosts = os.environ[HOSTS].split()
        self.python = os.environ[PYTHON]
        self._ssh = _find_program("ssh")
        self._log = directory / "connections"
        self._log.touch()
        self._before = self._each(self._list)
        _write_wrappers(directory / "bin", self._log)
        os.environ["PATH"] = f"{directory / 'bin'}:{os.environ['PATH']}"

    @property
    def connections(self) -> float:
        """How many were made until now, for each host."""
        return len(self._log.read_text().splitlines()) / len(self.hosts)

    @property
    def kept(self) -> float:
        """How many there are now, for each host."""
        kept = [seen for seen in read_processes() if seen.marked and Path(seen.command[0]).name == "ssh"]
        return len(kept) / len(self.hosts)

    @property
    def processes(self) -> float:
        """How many run now that did not before, for each host."""
        return sum(len(now - self._before[host]) for host, now in self._each(self._list).items()) / len(self.hosts)

    def remove_profile(self) -> None:
        """Remove what stock wrote on the hosts, keys among it."""
        self._each(lambda host: self._run(host, "rm", "-rf", f".ipython/profile_{PROFILE}"))

    def _each(self, ask: Callable[[str], T]) -> dict[str, T]:
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            return dict(zip(self.hosts, pool.map(ask, self.hosts), strict=True))

    def _list(self, host: str) -> set[tuple[int, int]]:
        return {(pid, begin) for pid, begin in json.loads(self._run(host, self.python, "-c", _LIST))}

    def _run(self, host: str, *argv: str) -> str:
        words = [self._ssh, *_SSH, host, shlex.join(argv)]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
        if done.returncode:
            raise SystemExit(f"{host}: {done.stderr.strip() or f'ssh ended with {done.returncode}'}")
        return done.stdout


def _find_program(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        raise SystemExit(f"{name} is not installed")
    return program


def _write_wrappers(directory: Path, log: Path) -> None:
    directory.mkdir()
    for name in ("ssh", "scp"):
        program, place = shlex.quote(_find_program(name)), directory / name
        text = _WRAPPER.format(name=name, program=program, log=shlex.quote(str(log)), none="|".join(_NO_CONNECTION))
        place.write_text(text)
        place.chmod(0o755)
