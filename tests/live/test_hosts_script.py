"""``scripts/hosts``: a command beside hosts that ssh reaches by name."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("can_build_hosts")]

SCRIPTS = Path(__file__).parents[2] / "scripts"
HOSTS = SCRIPTS / "hosts"
NO_NAMESPACES = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
"""What comes after them may make no namespaces, whoever runs it."""


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    return scratch


def test_a_command_reaches_hosts_by_name_and_its_status_is_given(scratch: Path, run: Callable[..., Any]) -> None:
    ran = run(HOSTS, "node1", "node2", "--", "sh", "-c", "ssh node1 hostname; ssh node2 hostname; exit 7")

    assert (ran.out, ran.code) == ("node1\nnode2\n", 7)
    assert list(scratch.iterdir()) == []


def test_who_is_asked_to_end_ends_the_command_and_removes_the_hosts(
    scratch: Path, processes: Callable[[], list[str]]
) -> None:
    argv = [HOSTS, "node1", "--", "sh", "-c", "echo ready; exec sleep 60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as ran:
        assert ran.stdout is not None
        assert ran.stdout.readline() == b"ready\n"

        begin = time.monotonic()
        ran.send_signal(signal.SIGTERM)
        status = ran.wait(20)

    assert status == 128 + signal.SIGTERM
    assert time.monotonic() - begin < 10
    assert processes() == []
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    "command", [(HOSTS, "node1", "--", "true"), (SCRIPTS / "demo", "--hosts")], ids=["hosts", "demo"]
)
def test_where_namespaces_are_not_allowed_one_line_says_so(
    command: tuple[object, ...], scratch: Path, run: Callable[..., Any]
) -> None:
    ran = run(*NO_NAMESPACES, *command)

    expected = "scripts/hosts: no hosts can be built here: unshare: unshare failed: Operation not permitted\n"
    assert (ran.code, ran.out, ran.err) == (1, "", expected)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("words", [(), ("node1",), ("node1", "--"), ("--", "true")], ids=" ".join)
def test_wrong_usage_builds_nothing(words: tuple[str, ...], scratch: Path, run: Callable[..., Any]) -> None:
    ran = run(HOSTS, *words)

    assert (ran.code, ran.out, ran.err) == (2, "", "usage: scripts/hosts NAME... -- COMMAND...\n")
    assert list(scratch.iterdir()) == []
