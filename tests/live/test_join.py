"""Engines by hand: one file is carried to another machine, and engines are started from it there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipyparallel
import pytest
from host_network import HOME, Host, HostNetwork

from stoker.cluster import Cluster
from stoker.compute import portable
from stoker.spec import parse_spec

pytestmark = pytest.mark.live

STOKER = str(Path(sys.executable).with_name("stoker"))
FILE = f"{HOME}/lab-engines.json"
LOGS = f"{HOME}/.local/state/stoker/joined"
SPEC = {"cluster": {"profile": "lab"}, "controller": {"ip": "*"}, "engines": [{"count": 1}]}


@pytest.fixture
def lab(host_network: HostNetwork, start: Callable[..., Cluster], run_stoker: Callable[..., Any]) -> Cluster:
    """A cluster of one engine here, whose bundle lies on node1."""
    cluster = start(parse_spec(SPEC))
    run_stoker("bundle", "lab", "-o", host_network.directory / "bundle.json").check()
    carry(host_network.directory / "bundle.json", host_network["node1"])
    return cluster


def carry(file: Path, host: Host) -> None:
    host.write(FILE, file.read_text(), mode=0o600)


class Joined:
    """``stoker engines --join`` on a host."""

    def __init__(self, host: Host, *options: object) -> None:
        self.host = host
        self.log = host.network.directory / f"{host.name}-engines.log"
        with self.log.open("wb") as log:
            self.process = host.start(STOKER, "engines", "--join", FILE, *options, stdout=log, stderr=log)

    @property
    def said(self) -> list[str]:
        """What it said so far, but for the first line."""
        return self.log.read_text().splitlines()[1:]

    def signal(self, signum: int) -> None:
        (pid,) = (
            pid
            for pid, line in self.host.list_processes().items()
            # It carries the name of an interpreter, and the agent has none of its words.
            if "engines --join" in line
        )
        os.kill(pid, signum)

    def wait(self) -> int:
        return self.process.wait(40)


@pytest.fixture
def join() -> Iterator[Callable[..., Joined]]:
    started: list[Joined] = []

    def make(host: Host, *options: object) -> Joined:
        started.append(Joined(host, *options))
        return started[-1]

    yield make
    for each in started:
        each.process.kill()
        each.process.wait()


def tell_host(value: int) -> str:
    import socket

    return f"{socket.gethostname()} {value}"


def kill_itself() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def set_name() -> int:
    import os
    import sys

    sys.modules["__main__"].kept = 7
    return os.getpid()


def get_name() -> int:
    import sys

    return sys.modules["__main__"].kept


def test_engines_on_another_host_work_heal_and_leave(
    lab: Cluster, host_network: HostNetwork, join: Callable[..., Joined], wait_until: Callable[..., Any]
) -> None:
    node1 = host_network["node1"]
    address = f"{host_network.address}:{read_port(lab)}"

    joined = join(node1, "-n", 2)
    wait_until(lambda: lab.client.ids == [0, 1, 2])
    results = lab.client[:].apply_sync(portable(tell_host), 1)
    wait_until(lambda: joined.said)
    lab.client[2].apply_async(portable(kill_itself))
    wait_until(lambda: joined.said[1:] == ["engine 2 died of SIGKILL; it is started again", "engine 2 is back"])
    again = lab.client[2].apply_sync(portable(tell_host), 2)
    listed = lab.status().joined
    joined.signal(signal.SIGTERM)
    code = joined.wait()

    assert sorted(results) == sorted([f"{socket.gethostname()} 1", "node1 1", "node1 1"])
    assert again == "node1 2"
    assert listed == (1, 2)
    assert code == 0
    assert joined.said[0] == f"2 engines have joined {address}: 1, 2"
    wait_until(lambda: lab.client.ids == [0])
    assert lab.status().joined == ()
    assert node1.list_processes() == {}
    assert [path for path in node1.list_changes() if not path.startswith(LOGS)] == [FILE]


def read_port(cluster: Cluster) -> int:
    import json

    from stoker.launch import ConnectionFiles
    from stoker.profile import ProfileDirectory

    return int(json.loads(ConnectionFiles.of(ProfileDirectory.named("lab"), "").engine.read_text())["registration"])


def test_a_cluster_that_is_taken_down_takes_joined_engines_along(
    lab: Cluster, host_network: HostNetwork, join: Callable[..., Joined], wait_until: Callable[..., Any]
) -> None:
    joined = join(host_network["node1"], "-n", 1)
    wait_until(lambda: joined.said)

    lab.down()

    assert joined.wait() == 0
    assert joined.said[1:] == ["engine 1 left, as a client told it", "the engines were told to leave by a client"]
    assert host_network["node1"].list_processes() == {}


def test_engines_of_a_host_that_is_cut_off_for_a_while_keep_their_names(
    lab: Cluster, host_network: HostNetwork, join: Callable[..., Joined], wait_until: Callable[..., Any]
) -> None:
    node1 = host_network["node1"]
    joined = join(node1, "-n", 1)
    wait_until(lambda: joined.said)
    lab.client[1].apply_sync(portable(set_name))

    node1.cut()
    wait_until(lambda: any("does not answer" in line for line in joined.said))
    node1.reconnect()
    kept = lab.client[1].apply_async(portable(get_name)).get(30)
    wait_until(lambda: any("answers again" in line for line in joined.said))

    assert kept == 7
    assert len(joined.said) == 3


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_an_agent_that_is_ended_comes_back_with_its_engines(
    signum: int,
    lab: Cluster,
    host_network: HostNetwork,
    join: Callable[..., Joined],
    wait_until: Callable[..., Any],
) -> None:
    node1 = host_network["node1"]
    joined = join(node1, "-n", 2)
    wait_until(lambda: joined.said)
    before = lab.client[1:].apply_sync(portable(set_name))
    agent = next(pid for pid, line in node1.list_processes().items() if "stoker.agent" in line)

    os.kill(agent, signum)

    wait_until(lambda: sorted(joined.said[-2:]) == ["engine 1 is back", "engine 2 is back"])
    wait_until(lambda: lab.client.ids == [0, 1, 2])
    assert not set(before) & set(lab.client[1:].apply_sync(portable(set_name)))
    assert len([line for line in joined.said if line.startswith("the agent died of")]) == 1


def test_what_a_killed_command_leaves_is_gone_after_the_lease(
    lab: Cluster, host_network: HostNetwork, join: Callable[..., Joined], wait_until: Callable[..., Any]
) -> None:
    node1 = host_network["node1"]
    joined = join(node1, "-n", 1, "--lease", 2)
    wait_until(lambda: lab.client.ids == [0, 1])

    joined.signal(signal.SIGKILL)

    wait_until(lambda: node1.list_processes() == {} and lab.client.ids == [0])
    assert [path for path in node1.list_changes() if not path.startswith(LOGS)] == [FILE]


@pytest.mark.parametrize("encrypted", [True, pytest.param(False, marks=pytest.mark.long)], ids=["encrypted", "plain"])
def test_a_controller_of_ipyparallels_own_gets_engines_until_it_is_gone_for_the_lease(
    encrypted: bool,
    host_network: HostNetwork,
    join: Callable[..., Joined],
    wait_until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    node1, node2 = host_network["node1"], host_network["node2"]
    argv = [sys.executable, "-m", "ipyparallel.controller", f"--profile-dir={tmp_path / 'profile'}"]
    with (tmp_path / "controller.log").open("wb") as log:
        controller = subprocess.Popen(
            [*argv, f"--ip={host_network.address}", f"--IPController.enable_curve={encrypted}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    security = tmp_path / "profile" / "security"
    files = [security / f"ipcontroller-{who}.json" for who in ("engine", "client")]
    wait_until(lambda: all(file.exists() and file.read_text().endswith("}") for file in files))
    client = ipyparallel.Client(str(files[1]), timeout=20)
    for host in (node1, node2):
        carry(files[0], host)

    joined = [join(host, "-n", 1, "--lease", 3) for host in (node1, node2)]
    wait_until(lambda: client.ids == [0, 1], timeout=40)
    hosts = client[:].apply_sync(portable(tell_host), 1)
    client.close()
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    codes = [each.wait() for each in joined]

    assert sorted(hosts) == ["node1 1", "node2 1"]
    assert codes == [1, 1]
    assert "nobody listens at" in joined[0].said[-1]
    assert ("not encrypted" in joined[0].log.read_text()) is not encrypted
    assert node1.list_processes() == node2.list_processes() == {}


def test_a_file_of_another_controller_is_refused_in_words(
    lab: Cluster, host_network: HostNetwork, join: Callable[..., Joined]
) -> None:
    import json

    node1 = host_network["node1"]
    content = json.loads(node1.path(FILE).read_text())

    def say(**changes: Any) -> str:
        node1.write(FILE, json.dumps({**content, **changes}), mode=0o600)
        ended = join(node1, "-n", 1)
        assert ended.wait() == 1
        return ended.log.read_text().splitlines()[-1]

    place = f"{host_network.address}:{content['registration']}"
    older = "it has ended, or the file is an older controller's"
    assert say(curve_serverkey="x" * 40) == (
        f"stoker: {FILE}: the controller at {place} has another key than the file says: {older}"
    )
    assert say(curve_serverkey="").endswith(
        f"{FILE}: the controller at {place} is encrypted, and the file holds no key for that"
    )
    assert say(interface="tcp://127.0.0.1").startswith(
        f"stoker: {FILE}: its controller listens at 127.0.0.1 of {socket.gethostname()} only"
    )
    assert node1.list_processes() == {}


def test_engines_that_cannot_live_are_given_up_with_the_end_of_their_log(
    lab: Cluster, host_network: HostNetwork, join: Callable[..., Joined]
) -> None:
    node1 = host_network["node1"]
    profile = f"{HOME}/.ipython/profile_broken/ipengine_config.py"
    node1.write(
        profile, "c = get_config()\nc.IPEngine.startup_command = 'import os; print(4711, flush=True); os._exit(3)'\n"
    )

    joined = join(node1, "-n", 1, "--profile", "broken")
    code = joined.wait()

    assert code == 1
    assert joined.said.count("a new engine died of exit status 3; it is started again") == 5
    assert "stoker: engines: died again and again, at last of exit status 3" in joined.said
    assert "    4711" in joined.said
    assert lab.client.ids == [0]
