"""What others on the network, and on a host, can see of a cluster; and what becomes of those who may not use it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from host_network import Host, HostNetwork
from test_join import FILE, Joined, carry

from stoker.cluster import Cluster
from stoker.cluster.client import connect_client
from stoker.errors import ConnectError
from stoker.launch import ConnectionFiles
from stoker.profile import ProfileDirectory
from stoker.spec import parse_spec

pytestmark = pytest.mark.live

CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as peer:
    peer.connect(sys.argv[1])
"""
# What any user may look into: files, and command lines and environments of processes.
SEARCH = """
import glob, os, sys
key = sys.stdin.buffer.read()
places = ("/tmp", "/home", "/root", "/run", "/dev/shm")
files = [os.path.join(top, name) for place in places for top, _, names in os.walk(place) for name in names]
for path in sorted(files) + glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
    try:
        if "/.pyenv/" not in path and key in open(path, "rb").read():
            print(path)
    except OSError:
        pass
"""


@pytest.fixture
def join() -> Iterator[Callable[..., Joined]]:
    started: list[Joined] = []

    def make(host: Host) -> Joined:
        started.append(Joined(host, "-n", 1))
        return started[-1]

    yield make
    for each in started:
        each.process.kill()
        each.process.wait()


def start_lab(
    start: Callable[..., Cluster], network: HostNetwork, *, encrypted: bool = True
) -> tuple[Cluster, dict[str, Any]]:
    """Start a cluster here that hosts can reach; give it, and the content of the clients' connection file."""
    controller = {"ip": network.address, "encryption": encrypted}
    cluster = start(parse_spec({"cluster": {"profile": "lab"}, "controller": controller, "engines": [{"count": 1}]}))
    return cluster, json.loads(list_files().client.read_text())


def list_files() -> ConnectionFiles:
    return ConnectionFiles.of(ProfileDirectory.named("lab"), "")


def join_hosts(
    cluster: Cluster, hosts: list[Host], join: Callable[..., Joined], wait_until: Callable[..., Any]
) -> list[Joined]:
    for host in hosts:
        carry(list_files().engine, host)
    joined = [join(host) for host in hosts]
    wait_until(lambda: all(each.said for each in joined) and len(cluster.client.ids) == 1 + len(hosts))
    return joined


def turn_round(item: str) -> str:
    """Say FUNCTION-IN-PLAIN-TEXT: this line travels with the function."""
    return item[::-1]


@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "plain"])
def test_nobody_on_the_network_reads_functions_arguments_results_or_keys(
    encrypted: bool,
    host_network: HostNetwork,
    start: Callable[..., Cluster],
    join: Callable[..., Joined],
    wait_until: Callable[..., Any],
) -> None:
    nodes = [host_network["node1"], host_network["node2"]]
    cluster, connection = start_lab(start, host_network, encrypted=encrypted)
    items = [f"ARGUMENT-{number:03}-" for number in range(100)]

    with host_network.capture() as capture:
        join_hosts(cluster, nodes, join, wait_until)
        before = {node.address: capture_size(capture, node) for node in nodes}
        results = cluster.map(turn_round, items, batch=1)

    assert results == [item[::-1] for item in items]
    assert capture.lost == 0
    # Each of them took part.
    assert all(capture_size(capture, node) > before[node.address] + 1000 for node in nodes)
    secrets = [b"FUNCTION-IN-PLAIN-TEXT", b"ARGUMENT-", b"-TNEMUGRA"]
    assert [bool(capture.find(secret)) for secret in secrets] == [not encrypted] * 3
    keys = [connection[name].encode() for name in ("key", "curve_serverkey") if connection.get(name)]
    assert keys
    assert [capture.find(key) for key in keys] == [[]]


def capture_size(capture: Any, host: Host) -> int:
    return sum(len(data) for flow, data in capture.streams().items() if host.address in flow)


STALE = "it has ended, or the file is an older controller's"
OTHER_KEY = {"curve_serverkey": "x" * 40}


@pytest.mark.parametrize(
    ("encrypted", "changes", "expected"),
    [
        pytest.param(
            True,
            OTHER_KEY,
            f"the controller at {{}} has another key than the file says: {STALE}",
            id="wrong server key",
        ),
        pytest.param(
            True,
            {"curve_serverkey": None},
            "the controller at {} is encrypted, and the file holds no key for that",
            id="plain client",
        ),
        pytest.param(
            False,
            {"key": ""},
            f"the controller at {{}} does not answer what is signed with the file's key: {STALE}; or it is busy",
            id="no key",
        ),
        pytest.param(
            False,
            OTHER_KEY,
            f"what listens at {{}} is not encrypted, as the file says: {STALE}",
            id="encrypted client of a plain controller",
        ),
    ],
)
def test_who_has_not_the_key_is_refused_in_words_and_the_cluster_goes_on(
    encrypted: bool,
    changes: dict[str, Any],
    expected: str,
    host_network: HostNetwork,
    start: Callable[..., Cluster],
    tmp_path: Path,
) -> None:
    cluster, connection = start_lab(start, host_network, encrypted=encrypted)

    error = catch_refusal(tmp_path, connection | changes)

    place = f"{host_network.address}:{connection['registration']}"
    assert error == expected.format(place)
    assert cluster.map(turn_round, ["abc", "def"]) == ["cba", "fed"]
    assert [engine.restarts for engine in cluster.status().engines] == [0]


def test_a_stale_connection_file_is_said_to_be_one(
    host_network: HostNetwork, start: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster, connection = start_lab(start, host_network)
    cluster.down()

    error = catch_refusal(tmp_path, connection)

    assert error == f"nobody listens at {host_network.address}:{connection['registration']}: {STALE}"


def test_a_controller_that_is_cut_off_is_told_from_one_that_has_ended(
    host_network: HostNetwork, tmp_path: Path, start: Callable[..., Cluster]
) -> None:
    _, connection = start_lab(start, host_network)
    away = host_network["node1"]
    away.close_ports(silently=True)

    error = catch_refusal(tmp_path, connection | {"interface": f"tcp://{away.address}"})

    assert error == (
        f"{away.address}:{connection['registration']} cannot be reached: "
        "no answer; the machine is away, or a firewall lets nothing through"
    )


def catch_refusal(tmp_path: Path, connection: dict[str, Any]) -> str:
    """Connect with a file of this content; give what the error says after the file's name."""
    directory = ProfileDirectory(tmp_path / "other" / "profile_lab")
    file = ConnectionFiles.of(directory, "").client
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(connection))
    with pytest.raises(ConnectError) as caught:
        connect_client(directory, "", timeout=1.0)
    file.unlink()
    assert str(caught.value).startswith(f"{file}: ")
    return str(caught.value).removeprefix(f"{file}: ")


def test_another_user_of_a_host_finds_no_key_no_socket_and_no_way_in(
    host_network: HostNetwork,
    start: Callable[..., Cluster],
    join: Callable[..., Joined],
    wait_until: Callable[..., Any],
) -> None:
    node1 = host_network["node1"]
    node1.add_user("guest", 6001)
    cluster, connection = start_lab(start, host_network)
    join_hosts(cluster, [node1], join, wait_until)
    key = connection["curve_serverkey"]
    sockets = [path for path in node1.run("find", "/tmp", "/run", "-type", "s").stdout.split() if "agent" in path]
    (agent, *_) = (pid for pid, line in node1.list_processes().items() if "stoker.agent" in line)

    found = node1.run(sys.executable, "-c", SEARCH, input=key, user="guest")
    found_by_owner = node1.run(sys.executable, "-c", SEARCH, input=key)
    connected = [node1.run(sys.executable, "-c", CONNECT, path, user="guest") for path in sockets]
    read = node1.run("cat", FILE, user="guest")
    node1.run("sh", "-c", "kill -9 -1", user="guest")

    assert (found.stdout, found.stderr) == ("", "")
    # Not even the owner finds it anywhere else than in the file that was carried there.
    assert found_by_owner.stdout.split() == [FILE]
    assert len(sockets) == 1
    assert all("Permission" in each.stderr for each in (*connected, read))
    assert Path(f"/proc/{agent}").exists()
    assert cluster.map(turn_round, ["abc"] * 4) == ["cba"] * 4
