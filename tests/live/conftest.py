"""What live tests get: stoker's command line, clusters that are taken down again, and proof that no file is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_hosts import Host, Hub, run_hub
from host_network import HostNetwork, find_hindrance

import stoker
from requirements import do_without
from stoker.cluster import Cluster
from stoker.cluster.record import name_runtime_directory
from stoker.errors import NotRunningError
from stoker.profile import ProfileDirectory
from stoker.system.processes import find_marked

COMMAND_TIMEOUT = 90.0
"""Seconds that one command may take at the most, also on a busy machine."""

SHARED_SPEC = """
[controller]
scheduler = "leastload"

[[engines]]
count = 2
"""


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)

    def check(self) -> Ran:
        """Fail with what it printed where it did not end well."""
        assert self.code == 0, f"ended with {self.code}\n{self.out}\n{self.err}"
        return self


@pytest.fixture(autouse=True)
def no_file_left(request: pytest.FixtureRequest, nothing_left: None, tmp_path: Path) -> Iterator[None]:
    """After a live test there is no connection file, record, cluster file or half-written file below its directory."""
    yield
    assert find_traces(tmp_path) == []


@pytest.fixture
def traces() -> Callable[[Path], list[str]]:
    """Names the files below a directory that only a running cluster has."""
    return find_traces


@pytest.fixture
def processes() -> Callable[[], list[str]]:
    """Gives the command lines of what this test started and still runs."""

    def find() -> list[str]:
        found = find_marked("STOKER_TEST", os.environ["STOKER_TEST"])
        return [line for process in found if process.pid != os.getpid() and (line := _read_command(process.pid))]

    return find


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """Waits until a condition gives something true, and gives that; fails after ``timeout`` seconds."""
    return poll


@pytest.fixture
def run() -> Callable[..., Ran]:
    """Runs a program to its end."""
    return run_to_end


@pytest.fixture
def run_stoker() -> Callable[..., Ran]:
    """Runs ``stoker`` with these words to its end."""

    def run_words(*words: object, **options: Any) -> Ran:
        return run_to_end(program("stoker"), *words, **options)

    return run_words


@pytest.fixture
def programs() -> Callable[[str], str]:
    """Gives the path of a program that was installed beside this Python."""
    return program


@pytest.fixture
def start() -> Iterator[Callable[..., Cluster]]:
    """Starts clusters from this process as ``stoker.up`` does; takes down those that run at the end."""
    clusters: list[Cluster] = []

    def up(target: Any = None, **options: Any) -> Cluster:
        cluster = stoker.up(target, **options)
        clusters.append(cluster)
        return cluster

    yield up

    for cluster in clusters:
        with contextlib.suppress(NotRunningError):
            cluster.down()


@pytest.fixture
def free_ports() -> Callable[[int], tuple[int, ...]]:
    """Finds so many ports in a row that nobody uses, below those that the system hands out by itself."""

    def find(count: int) -> tuple[int, ...]:
        # Another test run on this machine, which looks at the same time, starts elsewhere.
        first = 10_200 + os.getpid() % 900 * 20
        for base in range(first, 32_000 - count, count):
            ports = tuple(range(base, base + count))
            if all(_is_free(port) for port in ports):
                return ports
        raise AssertionError(f"no {count} free ports in a row from {first} on")

    return find


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The IPython directory of a cluster ``shared`` of two engines, which tests leave as it is."""
    base = tmp_path_factory.mktemp("shared")
    spec = base / "shared.toml"
    spec.write_text(SHARED_SPEC)
    with apart(base):
        run_to_end(program("stoker"), "up", spec).check()
    yield base / "ipython"
    with contextlib.suppress(NotRunningError):
        stoker.connect("shared", ipython_dir=base / "ipython").down()
    check_nothing_left(base)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two engines that is this module's own: what tests kill of it comes back."""
    base = tmp_path_factory.mktemp("own")
    spec = base / "own.toml"
    spec.write_text(SHARED_SPEC)
    with apart(base):
        run_to_end(program("stoker"), "up", spec).check()
    with stoker.connect("own", ipython_dir=base / "ipython") as connected:
        yield connected
    connected.down()
    check_nothing_left(base)


@pytest.fixture(scope="module")
def plain_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a cluster of ipyparallel's own, of eight engines, that is this module's own.

    Tests may kill two each: nobody starts them again, and two at least are to be left for the last.
    """
    base = tmp_path_factory.mktemp("plain")
    with plain_cluster(base) as client:
        yield client
    check_nothing_left(base)


@pytest.fixture
def shared_dir(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, and found by its profile's name alone in this test and all that it starts."""
    monkeypatch.setenv("IPYTHONDIR", str(shared))
    return shared


@pytest.fixture
def cluster(shared_dir: Path) -> Iterator[Cluster]:
    """A connection to the cluster ``shared``."""
    with stoker.connect("shared") as connected:
        yield connected


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A stock controller."""
    yield from run_hub(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def host(tmp_path: Path, hub: Hub) -> Iterator[Host]:
    """An agent that forks, with the test as its supervisor; the test opens it."""
    host = Host(tmp_path, hub)
    yield host
    host.close()


@pytest.fixture(params=[True, False], ids=["fork", "interpreter"])
def both(request: pytest.FixtureRequest, host: Host) -> Host:
    """An agent that forks, and then one that starts interpreters."""
    host.fork = request.param
    return host


@pytest.fixture
def can_build_hosts() -> None:
    """Skips the test where there can be no hosts; fails it where STOKER_REQUIRE says ``hosts``."""
    if hindrance := find_hindrance():
        do_without("hosts", hindrance)


@pytest.fixture
def host_network(can_build_hosts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostNetwork]:
    """Three hosts, node1 to node3, this test's own; ``ssh`` knows them by name, and by nobody's real settings."""
    with HostNetwork.build(tmp_path / "network", "node1", "node2", "node3") as network:
        monkeypatch.setenv("PATH", f"{network.programs}:{os.environ['PATH']}")
        yield network


@contextlib.contextmanager
def apart(base: Path) -> Iterator[None]:
    """Have what is started belong below a directory, and to no test: not to the one that happens to ask first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(base))
        patch.setenv("IPYTHONDIR", str(base / "ipython"))
        patch.setenv("STOKER_TEST", str(base))
        yield


@contextlib.contextmanager
def plain_cluster(base: Path) -> Iterator[Any]:
    """Start eight engines as ipyparallel does by itself, and give a client."""
    import ipyparallel

    with apart(base):
        cluster = ipyparallel.Cluster(n=8, profile="plain", log_level=40)
        client = cluster.start_and_connect_sync()
    yield client
    client.close()
    cluster.stop_cluster_sync()


def check_nothing_left(base: Path) -> None:
    """Fail where something that was started below a directory still runs, or left files that only a cluster has."""
    deadline = time.monotonic() + 5
    # ipyparallel's own do not wait for the processes that watch engines.
    while (left := find_marked("STOKER_TEST", str(base))) and time.monotonic() < deadline:
        time.sleep(0.02)
    commands = [_read_command(process.pid) for process in left]
    for process in left:
        os.kill(process.pid, signal.SIGKILL)
    assert commands == []
    assert find_traces(base) == []


def find_traces(directory: Path) -> list[str]:
    """Name the files below a directory, and of its profiles' clusters elsewhere, that only a running cluster has.

    Half-written ones too. The runtime directories are named after profile and cluster id; below a directory of the
    test's own all of them are its own, in /tmp those of the clusters that left a log.
    """
    patterns = ("security/*.json", "pid/*.json", "pid/*.pid", "**/.*.toml.*", "**/.*.json.*", "**/.*.py.*")
    profiles = [path for path in directory.rglob("profile_*") if path.is_dir()]
    found = {path for profile in profiles for pattern in patterns for path in profile.glob(pattern)}
    found |= {place for profile in profiles for place in _list_runtime_directories(ProfileDirectory(profile))}
    base = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if base.is_relative_to(directory) or directory.is_relative_to(base / "ipython"):
        found |= set((base / "stoker").glob("*"))
    # What was verified stays so.
    return sorted(str(path) for path in found if path.name != "profile-verified.json")


def _list_runtime_directories(directory: ProfileDirectory) -> list[Path]:
    logs = {path.name.removesuffix(".log") for path in directory.log.glob("supervisor*.log")}
    places = [name_runtime_directory(directory, log.removeprefix("supervisor").removeprefix("-")) for log in logs]
    # Where a path is too long for a socket, or there is no such variable.
    fallback = Path(f"/tmp/stoker-{os.getuid()}")
    return [path for place in places for path in (place, fallback / place.name) if path.exists()]


def poll(condition: Callable[[], Any], *, timeout: float = 20.0, message: str = "") -> Any:
    """Wait until a condition gives something true, and give that."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, message or f"not after {timeout} s"
        time.sleep(0.02)
    return found


def run_to_end(*argv: object, timeout: float = COMMAND_TIMEOUT, **options: Any) -> Ran:
    """Run a program to its end, without a terminal; ``input`` is what it reads."""
    words = [str(word) for word in argv]
    if "input" not in options:
        options["stdin"] = subprocess.DEVNULL
    ended = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False, **options)
    return Ran(code=ended.returncode, out=ended.stdout, err=ended.stderr)


def program(name: str) -> str:
    """Give the path of a program that was installed beside this Python."""
    return str(Path(sys.executable).with_name(name))


def _read_command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
