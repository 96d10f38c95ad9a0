"""Engines on other hosts: reached over one ssh connection each, kept through its end, and gone when they should be."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import ipyparallel
import pytest
from host_network import HOME, HostNetwork
from traitlets.config import Config

import stoker
from stoker.cluster import Cluster
from stoker.cluster.client import catch_up
from stoker.cluster.record import read_record
from stoker.errors import NotRunningError
from stoker.system.processes import find_marked

pytestmark = pytest.mark.live

LOGS = f"{HOME}/.local/state/stoker/"


@pytest.fixture
def up(host_network: HostNetwork, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Starts a cluster with engines on hosts, from this test's process."""
    clusters = []

    def start(
        hosts: str = '"node1", {name = "node2", count = 4}, {name = "node3", count = 1}',
        *,
        group: str = "",
        cluster: str = "",
        ip: str = "*",
    ) -> Cluster:
        spec = tmp_path / "hosts.toml"
        spec.write_text(
            f'[cluster]\n{cluster}\n[controller]\nip = "{ip}"\n[[engines]]\nlauncher = "ssh"\ncount = 2\n'
            f'python = "{sys.executable}"\nhosts = [{hosts}]\n{group}\n'
        )
        clusters.append(stoker.up(spec))
        return clusters[-1]

    yield start

    for cluster in clusters:
        with contextlib.suppress(NotRunningError):
            cluster.down()


@ipyparallel.interactive
def where() -> tuple[str, int]:
    import os
    import socket

    return socket.gethostname(), os.getpid()


def list_ids(cluster: Cluster) -> dict[int, tuple[str, int]]:
    """Ask each engine where it runs."""
    return dict(enumerate(cluster.client[:].apply_sync(where)))


@ipyparallel.interactive
def slow_square(number: int) -> int:
    import time

    time.sleep(0.1)
    return number * number


def is_prime(number: int) -> bool:
    return number > 1 and all(number % each for each in range(2, number))


def list_foreign(network: HostNetwork) -> dict[str, list[str]]:
    """List what runs on hosts, what listens there, who is logged in, and what was written that is no log."""
    found = {}
    for name, host in network.hosts.items():
        files = [path for path in host.list_changes() if not path.startswith(LOGS)]
        found[name] = [*host.list_processes().values(), *files, *["a login"] * host.count_logins()]
    return {name: each for name, each in found.items() if each}


def check_clean(network: HostNetwork) -> None:
    """Fail where something is left; what passed things on ends a moment after its connection."""
    deadline = time.monotonic() + 15
    while (left := list_foreign(network)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == {}


def list_commands() -> dict[int, list[str]]:
    """List the command lines of what this test has started, by process number."""
    found = {}
    for process in find_marked("STOKER_TEST", os.environ["STOKER_TEST"]):
        with contextlib.suppress(OSError):
            found[process.pid] = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode().split("\0")
    return found


def find_ssh(host: str) -> list[int]:
    """Find the ssh processes by which this test's clusters are connected to a host."""
    return [
        pid
        for pid, words in list_commands().items()
        if Path(words[0]).name == "ssh" and "-O" not in words and words[words.index("--") + 1] == host
    ]


def find_processes(word: str) -> list[int]:
    """Find the processes of this test with a word in their command lines."""
    return [pid for pid, words in list_commands().items() if word in words]


def test_the_tutorial_runs_on_three_hosts(up: Callable[..., Cluster], host_network: HostNetwork) -> None:
    cluster = up()

    with cluster:
        places = cluster.client[:].apply_sync(where)
        plain = ipyparallel.Client(profile="hosts")
        plain_sum = sum(plain[:].map_sync(sum, [range(10), range(20)]))
        plain.close()
        total, primes = cluster.map(sum, [range(1000)]), cluster.map(is_prime, range(50))
        status = cluster.status()

    assert [host for host, _ in places] == ["node1"] * 2 + ["node2"] * 4 + ["node3"]
    assert plain_sum == 235
    assert total == [499500]
    assert sum(primes) == 15
    assert [(agent.host, agent.phase, agent.way) for agent in status.agents] == [
        (name, "ready", host_network.address) for name in host_network.hosts
    ]
    assert [engine.host for engine in status.engines] == ["node1"] * 2 + ["node2"] * 4 + ["node3"]
    check_clean(host_network)


def test_one_connection_to_each_host_and_no_key_on_its_disk(
    up: Callable[..., Cluster], host_network: HostNetwork
) -> None:
    cluster = up()

    logins = [host.count_logins() for host in host_network.hosts.values()]
    files = [path for host in host_network.hosts.values() for path in host.list_changes()]
    cluster.down()

    assert logins == [1, 1, 1]
    assert [path for path in files if "json" in path or "key" in path] == []
    check_clean(host_network)


def test_a_connection_that_is_killed_is_made_again_and_engines_go_on(
    up: Callable[..., Cluster], host_network: HostNetwork, wait_until: Callable[..., Any]
) -> None:
    cluster = up()
    client = cluster.client
    client[:].push({"kept": 42}, block=True)
    before = client[:].apply_sync(where)
    (ssh,) = find_ssh("node2")

    os.kill(ssh, signal.SIGKILL)
    wait_until(lambda: find_ssh("node2") not in ([], [ssh]))
    wait_until(lambda: all(agent.phase == "ready" for agent in cluster.status().agents))

    assert client[:].apply_sync(where) == before
    assert client[:]["kept"] == [42] * 7
    assert host_network["node2"].count_logins() == 1
    assert any("is within reach again" in event for event in cluster.status().events)
    cluster.down()
    check_clean(host_network)


def test_an_engine_that_dies_on_a_host_is_replaced_there_under_its_number(
    up: Callable[..., Cluster], host_network: HostNetwork, wait_until: Callable[..., Any]
) -> None:
    cluster = up('"node1"')
    client = cluster.client
    _, pid = client[1].apply_sync(where)

    host_network["node1"].run("kill", "-9", pid)
    wait_until(lambda: cluster.status().engines[1].restarts == 1 and cluster.status().engines[1].state == "ready")
    catch_up(client)  # the supervisor knew first

    host, fresh = client[1].apply_sync(where)
    assert (host, fresh != pid) == ("node1", True)
    assert cluster.status().engines[1].last_death.cause == "died of SIGKILL"


@pytest.mark.parametrize("seconds", [6, pytest.param(20, marks=pytest.mark.long)])
def test_a_map_goes_on_through_a_host_that_is_cut_off_for_a_while(
    seconds: float, up: Callable[..., Cluster], host_network: HostNetwork, wait_until: Callable[..., Any]
) -> None:
    cluster = up()
    before = list_ids(cluster)
    cluster.client[:].push({"kept": 42}, block=True)

    with ThreadPoolExecutor(1) as pool:
        squares = pool.submit(cluster.map, slow_square, range(600))
        time.sleep(1.0)
        host_network["node2"].cut()
        time.sleep(seconds)
        host_network["node2"].reconnect()
        results = squares.result(60)
    wait_until(lambda: all(agent.phase == "ready" for agent in cluster.status().agents), timeout=40)

    assert results == [n * n for n in range(600)]
    assert list_ids(cluster) == before
    assert cluster.client[:]["kept"] == [42] * 7
    assert [engine.restarts for engine in cluster.status().engines] == [0] * 7
    cluster.down()
    check_clean(host_network)


def test_after_the_lease_nothing_runs_on_a_host_that_is_cut_off(
    up: Callable[..., Cluster], host_network: HostNetwork, wait_until: Callable[..., Any]
) -> None:
    cluster = up(cluster="lease = 4.0", group='ssh_options = {ServerAliveInterval = "1", ServerAliveCountMax = "2"}')
    before = list_ids(cluster)
    node2 = host_network["node2"]

    node2.cut()
    wait_until(lambda: cluster.status().agents[1].phase == "away", timeout=20)
    wait_until(lambda: not node2.list_processes(), timeout=20)
    wait_until(lambda: cluster.status().agents[1].last_death is not None, timeout=30)
    status = cluster.status()

    assert "node2" in status.detail
    assert "out of reach for the 4 s of its lease" in status.agents[1].last_death.cause
    assert cluster.map(slow_square, range(20)) == [n * n for n in range(20)]
    node2.reconnect()
    wait_until(lambda: cluster.status().state == "running", timeout=60)
    cluster.client.wait_for_engines(7, timeout=20, interactive=False)
    after = list_ids(cluster)
    assert {n: place for n, place in after.items() if place[0] != "node2"} == {
        n: place for n, place in before.items() if place[0] != "node2"
    }
    assert [host for host, _ in after.values()] == [host for host, _ in before.values()]
    cluster.down()
    check_clean(host_network)


def test_after_kill_9_of_everything_here_hosts_are_left_clean(
    up: Callable[..., Cluster], host_network: HostNetwork, wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    cluster = up(cluster="lease = 4.0")
    run = read_record(tmp_path / "home" / "ipython" / "profile_hosts" / "pid" / "stoker.json").run

    for process in find_marked("STOKER_RUN", run):
        os.kill(process.pid, signal.SIGKILL)

    wait_until(lambda: list_foreign(host_network) == {}, timeout=20)
    assert not find_marked("STOKER_RUN", run)
    cluster.down()


def test_a_supervisor_that_is_killed_is_replaced_and_finds_its_hosts_again(
    up: Callable[..., Cluster], host_network: HostNetwork, tmp_path: Path
) -> None:
    cluster = up()
    before = list_ids(cluster)

    os.kill(cluster.status().supervisor.pid, signal.SIGKILL)
    again = stoker.up(tmp_path / "hosts.toml")

    assert list_ids(again) == before
    assert [host.count_logins() for host in host_network.hosts.values()] == [1, 1, 1]
    again.down()
    check_clean(host_network)


def test_down_ends_hosts_whose_supervisor_was_killed(
    up: Callable[..., Cluster], host_network: HostNetwork, wait_until: Callable[..., Any]
) -> None:
    cluster = up()

    os.kill(cluster.status().supervisor.pid, signal.SIGKILL)
    cluster.down()

    check_clean(host_network)


@pytest.mark.parametrize("ip", ["*", pytest.param("127.0.0.1", marks=pytest.mark.long)])
def test_engines_come_through_a_tunnel_that_outlives_its_connections(
    up: Callable[..., Cluster], host_network: HostNetwork, ip: str, wait_until: Callable[..., Any]
) -> None:
    host_network["node1"].close_ports()
    cluster = up('"node1"', ip=ip)
    before = list_ids(cluster)
    cluster.client[:].push({"kept": 42}, block=True)

    # Schedulers would wait for ever for what is lost.
    squares = cluster.view.map_async(slow_square, range(40))
    for _ in range(3):
        (ssh,) = wait_until(lambda: find_ssh("node1"))
        os.kill(ssh, signal.SIGKILL)
        wait_until(lambda ssh=ssh: find_ssh("node1") not in ([], [ssh]))
        wait_until(lambda: cluster.status().agents[0].phase == "ready")
    results = squares.get(30)

    assert [agent.way for agent in cluster.status().agents] == ["tunnel"]
    assert results == [n * n for n in range(40)]
    assert list_ids(cluster) == before
    assert cluster.client[:]["kept"] == [42] * 2
    assert [engine.restarts for engine in cluster.status().engines] == [0] * 2
    assert cluster.map(len, [b"x" * 5_000_000] * 4) == [5_000_000] * 4
    cluster.down()
    check_clean(host_network)


@pytest.mark.parametrize("seconds", [4, pytest.param(20, marks=pytest.mark.long)])
def test_engines_behind_a_tunnel_work_on_after_their_host_was_cut_off(
    seconds: float, up: Callable[..., Cluster], host_network: HostNetwork, wait_until: Callable[..., Any]
) -> None:
    # So that the connection is given up meanwhile.
    cluster = up(group='tunnel = true\nssh_options = {ServerAliveInterval = "1", ServerAliveCountMax = "2"}')
    before = list_ids(cluster)

    squares = cluster.view.map_async(slow_square, range(200))
    time.sleep(1.0)
    host_network["node2"].cut()
    time.sleep(seconds)
    host_network["node2"].reconnect()
    results = squares.get(60)
    wait_until(lambda: all(agent.phase == "ready" for agent in cluster.status().agents), timeout=40)

    assert results == [n * n for n in range(200)]
    assert any("is within reach again" in event for event in cluster.status().events)
    assert list_ids(cluster) == before
    assert [engine.restarts for engine in cluster.status().engines] == [0] * 7
    cluster.down()
    check_clean(host_network)


def test_a_tunnel_outlives_the_supervisor(
    up: Callable[..., Cluster], host_network: HostNetwork, tmp_path: Path
) -> None:
    cluster = up('"node1"', group="tunnel = true")
    before = list_ids(cluster)

    os.kill(cluster.status().supervisor.pid, signal.SIGKILL)
    again = stoker.up(tmp_path / "hosts.toml")

    assert list_ids(again) == before
    assert again.map(slow_square, range(20)) == [n * n for n in range(20)]
    again.down()
    check_clean(host_network)


def test_engines_begin_anew_where_their_tunnel_has_ended_here(
    up: Callable[..., Cluster], host_network: HostNetwork, wait_until: Callable[..., Any]
) -> None:
    cluster = up('"node1"', group="tunnel = true")
    before = {engine.pid for engine in cluster.status().engines}
    (near,) = find_processes("stoker.launch.tunnel_program")

    os.kill(near, signal.SIGKILL)
    wait_until(lambda: not before & {engine.pid for engine in cluster.status().engines})
    wait_until(lambda: cluster.status().state == "running")

    # A scheduler would wait for ever for what the tunnel held, and send these engines nothing more.
    assert any("starts its engines anew" in event for event in cluster.status().events)
    assert cluster.map(slow_square, range(20)) == [n * n for n in range(20)]
    cluster.down()
    check_clean(host_network)


@pytest.mark.parametrize("fork", ["true", "false"])
def test_a_host_needs_neither_stoker_nor_cloudpickle(
    up: Callable[..., Cluster], host_network: HostNetwork, fork: str
) -> None:
    host_network["node1"].run("mkdir", f"{HOME}/data")
    host_network["node1"].hide(str(Path(stoker.__file__).parent), str(Path(cloudpickle.__file__).parent))

    cluster = up('"node1"', group=f"fork = {fork}\nstartup = 'import math'\nwork_dir = 'data'")

    assert cluster.map(lambda n: slow_square(n), range(10)) == [n * n for n in range(10)]
    assert [place for place, _ in list_ids(cluster).values()] == ["node1"] * 2
    assert (
        cluster.client[:].apply_sync(ipyparallel.interactive(lambda: __import__("os").getcwd())) == [f"{HOME}/data"] * 2
    )
    assert cluster.client[:].apply_sync(ipyparallel.interactive(lambda: math.pi)) == [math.pi] * 2
    cluster.down()


def test_a_host_gets_as_many_engines_as_it_has_cores(up: Callable[..., Cluster], host_network: HostNetwork) -> None:
    cores = int(host_network["node3"].run("nproc").stdout)

    cluster = up('{name = "node3", count = "cores"}, {name = "node1", count = 1}')

    assert sorted(host for host, _ in list_ids(cluster).values()) == ["node1"] + ["node3"] * cores


def test_the_ready_made_spec_of_three_hosts_starts_as_it_stands(
    host_network: HostNetwork, start: Callable[..., Cluster], wait_until: Callable[..., Any]
) -> None:
    python = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    for name in ("node1", "node2"):
        host_network[name].write("/opt/lab/bin/python3", python, mode=0o755)
        host_network[name].restart_sshd("SetEnv=PATH=/opt/lab/bin:/usr/bin:/bin")
    gpu = host_network["node3"]
    gpu.add_user("me", 4711)
    gpu.run("chmod", "755", "/root")
    gpu.write("/home/me/env/bin/python", python, mode=0o755)
    # To sshd it is one option, given twice: it listens at both.
    gpu.restart_sshd("Port=22", "port=2222")
    host_network.write_ssh_config("Host gpu", f"  HostName {gpu.address}", "  HostKeyAlias node3")

    cluster = start(Path(__file__).parents[2] / "cluster_profiles" / "three_hosts.toml")

    assert [place for place, _ in list_ids(cluster).values()] == ["node1"] * 2 + ["node2"] * 4 + ["node3"]
    assert cluster.client[6].apply_sync(ipyparallel.interactive(lambda: __import__("os").getuid())) == 4711
    cluster.down()
    # What passed things on ends a moment after its connection.
    wait_until(lambda: [host.list_processes() for host in host_network.hosts.values()] == [{}, {}, {}])


def _rename(network: HostNetwork) -> None:
    network.write_ssh_config("Host node1", "  HostName no-such-host.invalid")


def _old_python(network: HostNetwork) -> None:
    lie = "import sys; sys.version_info = (3, 9, 1); sys.version = '3.9.1 (x)'; exec(sys.argv.pop(1))"
    network["node1"].write("/opt/old/bin/python", f'#!/bin/sh\nshift\nexec python3 -c "{lie}" "$@"\n', mode=0o755)


def _few_processes(network: HostNetwork) -> None:
    host = network["node1"]
    host.add_user("few", 4711)
    # Where this project's Python may be.
    host.run("chmod", "755", "/root")
    host.limit_processes(2)


def _slow_shell(network: HostNetwork) -> None:
    network["node1"].write(f"{HOME}/.bashrc", "sleep 60\n")
    network["node1"].write(f"{HOME}/.profile", "sleep 60\n")


FAILURES = [
    pytest.param(_rename, "", "resolve: no such host is known", id="unknown name"),
    pytest.param(lambda n: n["node1"].stop_sshd(), "", "connect: nothing listens at its ssh port", id="port closed"),
    pytest.param(
        lambda n: n.trust("node1", key=""), "", "authenticate: its host key is not known here", id="unknown host key"
    ),
    pytest.param(
        lambda n: n["node1"].change_key(), "", "authenticate: its host key is not the one", id="changed host key"
    ),
    pytest.param(lambda n: n["node1"].refuse_logins(), "", "authenticate: it refuses the login", id="login refused"),
    pytest.param(
        lambda n: n["node1"].stall_logins(),
        "",
        "authenticate: the login was not decided within 10 s",
        id="slow login",
        marks=pytest.mark.long,
    ),
    pytest.param(
        _slow_shell, "", "shell: its login shell said nothing within 10 s", id="slow shell", marks=pytest.mark.long
    ),
    pytest.param(lambda n: None, 'python = "/opt/none/bin/python"', "python: there is no Python", id="no python"),
    pytest.param(_old_python, 'python = "/opt/old"', "python: its Python is 3.9.1", id="wrong minor version"),
    pytest.param(
        lambda n: None, 'python = "/usr/bin/python3"', "import: its Python has no ipyparallel", id="no ipyparallel"
    ),
    pytest.param(lambda n: n["node1"].fill_disk(HOME), "", "agent: its disk, or your quota, is full", id="disk full"),
    pytest.param(
        lambda n: n["node1"].forbid_writing(HOME), "", "agent: nothing can be written there", id="home not writable"
    ),
    pytest.param(
        _few_processes, 'name = "few@node1"', "agent: it gives this user no more processes", id="process limit"
    ),
    pytest.param(
        lambda n: n["node1"].close_ports(), "tunnel = false", "connect back: it cannot reach the controller", id="ports"
    ),
]


@pytest.mark.parametrize(("spoil", "words", "expected"), FAILURES)
def test_a_host_that_fails_says_why_and_others_come_up(
    up: Callable[..., Cluster],
    host_network: HostNetwork,
    spoil: Callable[[HostNetwork], None],
    words: str,
    expected: str,
) -> None:
    spoil(host_network)
    name = "few@node1" if "few@" in words else "node1"
    own = f", {words}" if words.startswith("python") else ""
    begin = time.monotonic()

    with pytest.warns(UserWarning, match="node1"):
        cluster = up(
            f'{{name = "{name}"{own}}}, "node2"',
            group=f"min_engines = 2\n{words if words.startswith('tunnel') else ''}",
        )

    assert time.monotonic() - begin < 15
    assert [host for host, _ in list_ids(cluster).values()] == ["node2"] * 2
    (notice,) = cluster.notices
    assert notice.startswith(f"{name}: {expected}")
    print(notice)
    assert cluster.status().state == "degraded"
    cluster.down()


def test_plain_ipyparallel_starts_engines_on_hosts_with_the_launcher(host_network: HostNetwork, tmp_path: Path) -> None:
    cluster = ipyparallel.Cluster(
        profile_dir=str(tmp_path / "home" / "ipython" / "profile_plain"),
        engines="stoker-ssh",
        controller_ip="*",
        shutdown_atexit=False,
        log_level=40,
        config=Config(
            StokerSSHEngineSetLauncher={
                "engines": {"node1": 2, "node2": {"n": 1}, "node9": 1},
                "remote_python": sys.executable,
            }
        ),
    )
    cluster.start_cluster_sync()
    client = cluster.connect_client_sync()
    client.wait_for_engines(3, timeout=30, interactive=False)

    found = client[:].apply_sync(where)
    again = ipyparallel.Cluster.from_file(cluster.cluster_file)
    client.close()
    again.stop_cluster_sync()
    # It would try to attach once more, well before the lease ends.
    cluster.stop_cluster_sync()

    assert sorted(host for host, _ in found) == ["node1", "node1", "node2"]
    check_clean(host_network)
