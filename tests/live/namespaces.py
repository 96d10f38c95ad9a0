"""Linux namespaces: processes that hold them, and what is done within. Needs root, iproute2 and util-linux."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["MARK", "PATH", "WAIT", "hold", "list_pids", "make_key", "poll", "read_namespace", "read_process", "run_ip"]

MARK = "STOKER_HOST_FIXTURE"
"""In the environment of the processes that make a host, and of no other."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

WAIT = 20.0
"""Seconds that anything may take on a busy machine."""


def make_key(path: Path) -> None:
    """Make a key pair."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)


def hold(argv: list[str], *, log: Path) -> subprocess.Popen[bytes]:
    """Start what keeps namespaces; it dies with this process."""
    env = {"PATH": PATH, MARK: "1"}
    words = ["setpriv", "--pdeathsig", "KILL", *argv]
    with log.open("wb") as file:
        return subprocess.Popen(
            words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file, start_new_session=True
        )


def run_ip(pid: int, *commands: str) -> None:
    """Run ip's commands where a process is."""
    argv = ["nsenter", "-t", str(pid), "-n", "ip", "-batch", "-"]
    ended = subprocess.run(argv, input="\n".join(commands), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{commands}: {ended.stderr}"


def list_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def read_namespace(pid: int, kind: str) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/{kind}").readlink())
    except OSError:
        return ""


def read_process(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def poll(condition: Callable[[], object], *, message: str = "") -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, message or f"not after {WAIT:g} s"
        time.sleep(0.005)
