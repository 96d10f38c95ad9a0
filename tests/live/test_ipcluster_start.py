"""Plain ``ipcluster start`` on an applied profile: engines by mpiexec, and over an ssh that stays on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ipyparallel
import pytest

from stoker.launch import ConnectionFiles, read_connection
from stoker.profile import apply_plan, read_plan
from stoker.spec import parse_spec

pytestmark = pytest.mark.live

SOON = 60.0
"""Seconds that an answer may take on a busy machine."""

SSH = """\
#!/bin/sh
echo "$@" >> {calls}
while :; do case "$1" in -*) shift 2;; *) break;; esac; done
mkdir -p "{hosts}/$1" && cd "{hosts}/$1" && export HOME="$PWD" && unset IPYTHONDIR && shift && exec sh -c "$*"
"""
SCP = """\
#!/bin/sh
while :; do case "$1" in -*) shift 2;; *) break;; esac; done
place() {{ case "$1" in *:*) echo "{hosts}/${{1%%:*}}/${{1#*:}}";; *) echo "$1";; esac; }}
exec cp "$(place "$1")" "$(place "$2")"
"""


@contextmanager
def _started(group: dict[str, Any], count: int) -> Iterator[ipyparallel.Client]:
    """A client of a cluster of these engines, which plain ipcluster started and ends."""
    plan = read_plan(parse_spec({"cluster": {"profile": "lab"}, "engines": [group]}))
    apply_plan(plan)
    log = plan.directory.path / "ipcluster.out"
    with log.open("wb") as out:
        argv = [sys.executable, "-m", "ipyparallel.cluster", "start", "--profile=lab"]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        with _connected(plan.directory, process) as client:
            client.wait_for_engines(count, timeout=SOON, interactive=False)
            yield client
    except BaseException:
        print(log.read_text())
        raise
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=SOON)


@contextmanager
def _connected(directory: Any, process: subprocess.Popen[bytes]) -> Iterator[ipyparallel.Client]:
    files = ConnectionFiles.of(directory, "")
    deadline = time.monotonic() + SOON
    while read_connection(files) is None:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client = ipyparallel.Client(str(files.client), timeout=SOON)
    try:
        yield client
    finally:
        client.close()


def _evaluate(client: ipyparallel.Client, code: str) -> list[Any]:
    """What each engine makes of an expression."""
    view = client[:]
    view.execute(f"found = {code}").get(timeout=SOON)
    return list(view.pull("found").get(timeout=SOON))


def test_engines_over_ssh_run_on_their_hosts_with_what_the_spec_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, hosts, calls = tmp_path / "bin", tmp_path / "hosts", tmp_path / "calls"
    programs.mkdir()
    for name, script in {"ssh": SSH, "scp": SCP}.items():
        (programs / name).write_text(script.format(hosts=hosts, calls=calls))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    group = {
        "launcher": "ssh",
        "count": 1,
        "hosts": ["me@b:2222", "a"],
        "ssh_options": {"ProxyJump": "gate"},
        "python": sys.executable,
        "env": {"MARK": "it's {x}"},
        "startup": "import os; here = os.environ['MARK']",
    }

    with _started(group, 2) as client:
        seen = _evaluate(client, "os.getcwd(), here")
    # ipyparallel leaves the keys there.
    shutil.rmtree(hosts)

    assert sorted(seen) == [(str(hosts / "a"), "it's {x}"), (str(hosts / "me@b"), "it's {x}")]
    words = {line.partition(" /")[0] for line in calls.read_text().splitlines() if " /" in line}
    assert words == {"-o ProxyJump=gate a", "-o ProxyJump=gate -p 2222 me@b"}


def test_engines_by_mpiexec_are_ranks_of_one_program(
    require: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require("mpiexec")
    require("mpi4py")
    # OpenMPI refuses to run as root, as which CI runs, unless it is told twice.
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    group = {"launcher": "mpi", "count": 2, "startup": "from mpi4py import MPI", "mpi_args": ["--oversubscribe"]}

    with _started(group, 2) as client:
        ranks = _evaluate(client, "MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size()")

    assert sorted(ranks) == [(0, 2), (1, 2)]
