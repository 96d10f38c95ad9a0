"""The hosts that other tests use: whether they are what they say, and leave no trace."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from host_network import HOME, HostNetwork, find_hindrance

pytestmark = pytest.mark.live

CUT_OFF = "timed out|No route"
TRY_CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()
    print("open")
except OSError as error:
    print(type(error).__name__, error.errno)
"""


def test_three_hosts_are_reached_by_ssh_and_are_machines_of_their_own(host_network: HostNetwork) -> None:
    script = "hostname; echo $$ > mine; pwd; ls -A . /home/root; id -un"

    answers = [host_network.ssh(name, "sh", "-c", script).stdout for name in host_network.hosts]

    names = ("node1", "node2", "node3")
    assert answers == [f"{name}\n{HOME}\n.:\nmine\n\n{HOME}:\nmine\nroot\n" for name in names]
    assert [host.list_changes() for host in host_network.hosts.values()] == [[f"{HOME}/mine"]] * 3
    assert not Path(HOME).exists()
    assert host_network["node1"].run("ls", "/root/.ssh").returncode != 0


def test_hosts_have_this_projects_python_and_see_each_other_by_name(host_network: HostNetwork) -> None:
    node1, node2 = host_network["node1"], host_network["node2"]

    version = node1.run(sys.executable, "-c", "import ipyparallel, stoker; print(ipyparallel.__name__)").stdout
    found = node1.run(sys.executable, "-c", TRY_CONNECT, "node2", 22).stdout

    assert version == "ipyparallel\n"
    assert found == "open\n"
    assert node2.address != node1.address


def test_a_host_that_is_cut_off_answers_nothing_until_it_is_reconnected(
    host_network: HostNetwork, wait_until: Callable[..., Any]
) -> None:
    node1 = host_network["node1"]
    node1.start(sys.executable, "-c", "import socket; s = socket.create_server(('', 700)); s.accept()[0].recv(1)")
    wait_until(lambda: any(each.local[1] == 700 for each in node1.list_sockets()))
    peer = socket.create_connection((node1.address, 700), 5)

    node1.cut()
    with pytest.raises(OSError, match=CUT_OFF):
        socket.create_connection((node1.address, 22), 0.3)
    node1.reconnect()
    socket.create_connection((node1.address, 22), 10).close()

    # The connection that was there has lived through it.
    assert [
        each.remote[1] for each in node1.list_sockets() if each.local[1] == 700 and each.state == "established"
    ] == [peer.getsockname()[1]]
    peer.close()
    wait_until(lambda: not node1.list_processes())


@pytest.mark.parametrize(
    ("silently", "expected"), [(False, "OSError 101\n"), (True, "TimeoutError None\n")], ids=["told", "silently"]
)
def test_a_host_whose_ports_are_closed_can_only_be_reached_by_ssh(
    host_network: HostNetwork, silently: bool, expected: str
) -> None:
    node1 = host_network["node1"]
    server = socket.create_server((host_network.address, 0))
    words = (sys.executable, "-c", TRY_CONNECT)
    ours = (*words, host_network.address, server.getsockname()[1])

    before = node1.run(*ours).stdout
    node1.close_ports(silently=silently)
    closed = node1.run(*ours).stdout
    theirs = subprocess.run([*words, node1.address, "800"], capture_output=True, text=True, check=False).stdout
    itself = [node1.run(*words, address, 22).stdout for address in ("127.0.0.1", node1.address)]
    by_ssh = host_network.ssh("node1", "echo", "here").stdout
    node1.open_ports()
    again = node1.run(*ours).stdout
    server.close()

    assert (before, closed, by_ssh, again) == ("open\n", expected, "here\n", "open\n")
    assert theirs == "TimeoutError None\n"
    assert itself == ["open\n", "open\n"]


def test_a_host_is_frozen_and_goes_on(host_network: HostNetwork, wait_until: Callable[..., Any]) -> None:
    node1 = host_network["node1"]

    node1.freeze()
    with pytest.raises(subprocess.TimeoutExpired):
        host_network.ssh("node1", "true", timeout=0.5)
    node1.thaw()

    assert host_network.ssh("node1", "true").returncode == 0


def test_a_host_that_ends_takes_everything_with_it(host_network: HostNetwork, wait_until: Callable[..., Any]) -> None:
    node1 = host_network["node1"]
    node1.start("sh", "-c", "setsid sleep 1000 & sleep 1000")
    wait_until(lambda: len(node1.list_processes()) == 3)
    mine = set(node1.list_processes())

    node1.end()

    assert not any(Path(f"/proc/{pid}").exists() for pid in mine)
    with pytest.raises(OSError, match=CUT_OFF):
        socket.create_connection((node1.address, 22), 0.3)


def test_an_orphan_on_a_host_leaves_no_zombie(host_network: HostNetwork, wait_until: Callable[..., Any]) -> None:
    node1 = host_network["node1"]

    node1.run("sh", "-c", "setsid sleep 0.05 </dev/null >/dev/null 2>&1 &")

    wait_until(lambda: not node1.list_processes())


def test_ssh_connections_alone_are_killed(host_network: HostNetwork, wait_until: Callable[..., Any]) -> None:
    node1 = host_network["node1"]
    argv = ["ssh", "-o", "BatchMode=yes", "node1", "exec nohup sleep 1000"]
    client = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: list(node1.list_processes().values()) == ["sleep 1000"])

    logins = node1.count_logins()
    node1.end_logins()

    assert logins == 1
    assert client.wait(10) == 255
    assert list(node1.list_processes().values()) == ["sleep 1000"]
    assert host_network.ssh("node1", "true").returncode == 0


REFUSALS = {
    "unknown key": (lambda network: network.trust("node1", key=""), "Host key verification failed"),
    "changed key": (lambda network: network["node1"].change_key(), "REMOTE HOST IDENTIFICATION HAS CHANGED"),
    "login refused": (lambda network: network["node1"].refuse_logins(), "Permission denied (publickey)"),
    "no sshd": (lambda network: network["node1"].stop_sshd(), "Connection refused"),
    "unknown name": (
        lambda network: network.write_ssh_config("Host node1", "  HostName nowhere.invalid"),
        "Could not resolve hostname nowhere.invalid",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_ssh_fails_as_it_should(host_network: HostNetwork, name: str) -> None:
    make, expected = REFUSALS[name]

    make(host_network)
    ended = host_network.ssh("node1", "true")

    assert ended.returncode == 255
    assert expected in ended.stderr
    assert host_network.ssh("node2", "true").returncode == 0


def test_a_login_that_is_never_answered(host_network: HostNetwork) -> None:
    host_network["node1"].stall_logins()

    with pytest.raises(subprocess.TimeoutExpired):
        host_network.ssh("node1", "true", timeout=0.5)
    host_network["node1"].restart_sshd("ForceCommand=sleep 1000")
    with pytest.raises(subprocess.TimeoutExpired):
        host_network.ssh("node1", "true", timeout=0.7)
    host_network["node1"].restart_sshd()

    assert host_network.ssh("node1", "true").returncode == 0


def test_files_can_be_hidden_and_places_made_unwritable(host_network: HostNetwork) -> None:
    node1 = host_network["node1"]
    shared = host_network.shared / "file"
    shared.write_text("from here")

    node1.hide("/usr/bin/python3", "/usr/local/bin/python3")
    node1.fill_disk(HOME)
    node1.forbid_writing("/var/tmp")

    assert "not found" in host_network.ssh("node1", "python3", "-V").stderr
    assert "No space left" in host_network.ssh("node1", "cp", "/etc/passwd", "copy").stderr
    assert "Read-only" in host_network.ssh("node1", "touch", "/var/tmp/file").stderr
    assert host_network.ssh("node1", "cat", str(shared)).stdout == "from here"
    assert host_network.ssh("node2", "ls", str(shared.parent.parent)).stdout == "shared\n"
    assert host_network.ssh("node2", "python3", "-V").returncode == 0


def test_another_user_has_a_home_and_a_limit_of_processes(host_network: HostNetwork) -> None:
    node1 = host_network["node1"]
    node1.add_user("guest", 6001)

    home = host_network.ssh("guest@node1", "sh", "-c", "cd; pwd; touch file; id -un")
    node1.limit_processes(4)
    crowd = host_network.ssh("guest@node1", "sh", "-c", "for i in 1 2 3 4 5 6; do sleep 1 & done")

    assert home.stdout == "/home/guest\nguest\n"
    assert "Cannot fork" in crowd.stderr
    assert node1.run("cat", "/etc/ssh/fixture_key", user="guest").returncode != 0


def test_a_capture_holds_what_went_over_the_switch_in_order(host_network: HostNetwork) -> None:
    node1, node2 = host_network["node1"], host_network["node2"]
    secret = os.urandom(300_000)
    script = "import socket, sys; s = socket.create_server(('', 900)); s.accept()[0].sendall(sys.stdin.buffer.read())"
    server = node1.start(sys.executable, "-c", script, stdin=subprocess.PIPE)
    assert server.stdin is not None
    threading.Thread(target=lambda: (server.stdin.write(secret), server.stdin.close())).start()
    _wait_for_port(node1, 900)
    fetch = "import socket; s = socket.create_connection(('node1', 900))\nwhile s.recv(65536): pass"

    with host_network.capture() as capture:
        node2.run(sys.executable, "-c", fetch).check_returncode()
    server.wait(10)

    assert capture.lost == 0
    (flow,) = capture.find(secret)
    assert (flow[0], flow[1], flow[2]) == (node1.address, 900, node2.address)
    assert capture.find(os.urandom(20)) == []


def _wait_for_port(host: Any, port: int) -> None:
    deadline = time.monotonic() + 10
    while not any(each.local[1] == port for each in host.list_sockets()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nothing_is_left_when_who_made_it_is_killed(tmp_path: Path, wait_until: Callable[..., Any]) -> None:
    if hindrance := find_hindrance():
        pytest.skip(hindrance)
    script = (
        "import pathlib, sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from host_network import HostNetwork\n"
        "with HostNetwork.build(pathlib.Path(sys.argv[2]), 'node1') as network:\n"
        "    network['node1'].start('sleep', '1000')\n"
        "    print(network.link, network['node1'].pid, flush=True); time.sleep(1000)\n"
    )
    argv = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / "network")]
    maker = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    link, pid = maker.stdout.readline().split()
    assert Path("/sys/class/net", link).exists()

    maker.kill()
    maker.wait()

    wait_until(lambda: not Path("/sys/class/net", link).exists() and not Path("/proc", pid).exists())
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
