"""ipyparallel's own ways on stoker's engines: Cluster(engines="stoker"), ipcluster, signals and shutdown."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipyparallel
import psutil
import pytest
from ipyparallel.cluster.launcher import LauncherError, NotRunning

from stoker.cluster import Cluster
from stoker.cluster.client import catch_up
from stoker.compute import portable
from stoker.launch.launchers import StokerControllerLauncher, StokerEngineSetLauncher
from stoker.profile import ProfileDirectory
from stoker.spec import parse_spec

pytestmark = pytest.mark.live

SPEC = parse_spec({"cluster": {"profile": "lab", "frozen_after": 1.0}, "engines": [{"count": 2}]})


@pytest.fixture
def plain() -> Iterator[Callable[..., ipyparallel.Cluster]]:
    """Makes clusters of plain ipyparallel's with stoker's launchers, and stops those that run at the end."""
    made: list[ipyparallel.Cluster] = []

    def make(**options: Any) -> ipyparallel.Cluster:
        options = {
            "engines": "stoker",
            "controller": "stoker",
            "profile": "plain",
            "log_level": 40,
            "delay": 0,
            **options,
        }
        made.append(ipyparallel.Cluster(**options))
        return made[-1]

    yield make

    for cluster in made:
        cluster.stop_cluster_sync()


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A directory in which engines that nap leave word."""
    directory = tmp_path / "begun"
    directory.mkdir()
    return directory


def read_environment() -> dict[str, str]:
    import os

    return dict(os.environ)


def nap(directory: str) -> None:
    """Sleep, and leave word of it."""
    import os
    import time
    from pathlib import Path

    Path(directory, str(os.getpid())).touch()
    time.sleep(30)


def find_agents(cluster: ipyparallel.Cluster) -> list[psutil.Process]:
    return [psutil.Process(engine_set.pid) for engine_set in cluster.engines.values()]


@pytest.mark.parametrize("controller", ["local", "stoker"])
def test_one_agent_forks_the_engines_of_a_plain_cluster_and_no_key_is_in_an_environment(
    controller: str,
    plain: Callable[..., ipyparallel.Cluster],
    processes: Callable[[], list[str]],
    wait_until: Callable[..., Any],
) -> None:
    cluster = plain(controller=controller, n=3)

    with cluster.start_and_connect_sync() as client:
        pids = client[:].apply_async(os.getpid).get(20)
        environments = client[:].apply_async(portable(read_environment)).get(20)
        key = client.session.key.decode()
        agent = find_agents(cluster)[0]
        wait_until(lambda: sorted(child.pid for child in agent.children()) == sorted(pids))
        squares = client.load_balanced_view().map_async(pow, range(20), [2] * 20).get(20)
    cluster.stop_cluster_sync()

    assert squares == [number**2 for number in range(20)]
    assert not any(key and key in value for each in environments for value in each.values())
    assert not any("IPP_CONNECTION_INFO" in each for each in environments)
    assert processes() == []


def test_what_a_plain_cluster_can_be_told_its_engines_obey(
    plain: Callable[..., ipyparallel.Cluster], begun: Path
) -> None:
    cluster = plain(n=2)
    client = cluster.start_and_connect_sync()
    before = client[:].apply_async(os.getpid).get(20)

    sleeping = client[:].apply_async(portable(nap), str(begun))
    _until(lambda: len(list(begun.iterdir())) == 2)
    cluster.signal_engines_sync(signal.SIGINT)
    assert sleeping.wait(10)
    output = next(iter(cluster.engines.values())).get_output()
    cluster.restart_engines_sync()
    deadline = time.monotonic() + 30
    while (after := _ask(client, 2)) is None or set(after) & set(before):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    state = cluster.to_dict()
    client.close()

    assert "KeyboardInterrupt" in str(sleeping.exception())
    assert "KeyboardInterrupt" in output
    assert state["engines"]["class"] == "stoker"
    assert [each["n"] for each in state["engines"]["sets"].values()] == [2]


def test_another_process_finds_a_plain_cluster_by_its_file_and_stops_it(
    plain: Callable[..., ipyparallel.Cluster], run: Callable[..., Any], processes: Callable[[], list[str]]
) -> None:
    cluster = plain(n=2, cluster_id="")
    cluster.start_cluster_sync()
    code = (
        "import ipyparallel\n"
        "cluster = ipyparallel.Cluster.from_file(profile='plain', cluster_id='')\n"
        "client = cluster.connect_client_sync()\n"
        "client.wait_for_engines(2, timeout=20)\n"
        "print(client[:].apply_sync(abs, -1))\n"
        "client.close()\n"
        "cluster.stop_cluster_sync()\n"
    )

    stopped = run(sys.executable, "-c", code).check()

    assert stopped.out == "[1, 1]\n"
    assert processes() == []
    assert not Path(cluster.cluster_file).exists()


def test_in_a_loop_the_end_of_a_set_is_told(plain: Callable[..., ipyparallel.Cluster]) -> None:
    told: list[dict[str, Any]] = []

    async def live() -> None:
        cluster = plain(n=2)
        client = await cluster.start_and_connect()
        next(iter(cluster.engines.values())).on_stop(told.append)
        for pid in client[:].apply_async(os.getpid).get(20):
            os.kill(pid, signal.SIGKILL)
        for _ in range(200):
            if told:
                break
            await asyncio.sleep(0.05)
        client.close()
        await cluster.stop_cluster()

    asyncio.run(live())

    assert told[0]["exit_code"] == -signal.SIGKILL
    assert told[0]["engines"] == {"0": {"exit_code": -9}, "1": {"exit_code": -9}}


def test_ipcluster_starts_and_stops_stokers_engines(
    programs: Callable[[str], str], run: Callable[..., Any], processes: Callable[[], list[str]]
) -> None:
    words = ("--engines=stoker", "--controller=stoker", "-n", "2", "--profile=plain", "--daemonize")

    run(programs("ipcluster"), "start", *words).check()
    client = ipyparallel.Client(profile="plain", timeout=30)
    client.wait_for_engines(2, timeout=30)
    answer = client[:].apply_async(abs, -3).get(20)
    client.close()
    listed = run(programs("ipcluster"), "list").check()
    run(programs("ipcluster"), "stop", "--profile=plain").check()

    assert answer == [3, 3]
    assert "plain" in listed.out
    _until(lambda: processes() == [])


def read_patience() -> tuple[int, float]:
    from ipyparallel.engine.app import IPEngine

    engine = IPEngine.instance()
    return engine.max_heartbeat_misses, engine.hb_check_period


def read_start() -> tuple[str, str, str, bool]:
    import os
    import sys
    from pathlib import Path

    parent = Path(f"/proc/{os.getppid()}/cmdline").read_text()
    return os.environ["COLOUR"], sys.executable, str(globals()["greeting"]), "stoker.agent" in parent


def test_without_a_loop_too_the_end_of_a_set_is_told(plain: Callable[..., ipyparallel.Cluster]) -> None:
    told: list[dict[str, Any]] = []
    cluster = plain(n=2)

    with cluster.start_and_connect_sync() as client:
        engine_set = cluster.engine_set
        engine_set.on_stop(told.append)
        for pid in client[:].apply_async(os.getpid).get(20):
            os.kill(pid, signal.SIGKILL)
        _until(lambda: bool(told))

    assert told[0]["engines"] == {"0": {"exit_code": -9}, "1": {"exit_code": -9}}
    assert engine_set.state == "after"


def test_a_program_that_ends_ends_its_cluster(run: Callable[..., Any], processes: Callable[[], list[str]]) -> None:
    code = (
        "import ipyparallel\n"
        "cluster = ipyparallel.Cluster(engines='stoker', controller='stoker', n=2, delay=0, log_level=40)\n"
        "print(cluster.start_and_connect_sync()[:].apply_sync(abs, -1))\n"
    )

    ended = run(sys.executable, "-c", code).check()

    assert ended.out == "[1, 1]\n"
    assert ended.err.splitlines()[1:] == []
    assert processes() == []


def test_a_cluster_whose_starter_was_killed_goes_on_for_its_lease_and_no_longer(
    run: Callable[..., Any], programs: Callable[[str], str], processes: Callable[[], list[str]]
) -> None:
    code = """
    import time, ipyparallel
    from traitlets.config import Config
    config = Config()
    config.StokerEngineSetLauncher.lease = config.StokerControllerLauncher.lease = 8.0
    cluster = ipyparallel.Cluster(
        engines="stoker", controller="stoker", n=2, profile="plain", cluster_id="", delay=0, log_level=40, config=config
    )
    cluster.start_and_connect_sync()
    print("up", flush=True)
    time.sleep(600)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        starter.kill()
    killed = time.monotonic()

    # Whoever only looks changes nothing but the moment from which the lease counts.
    listed = run(programs("ipcluster"), "list").check()
    client = ipyparallel.Client(profile="plain", timeout=20)
    answer = client[:].apply_async(abs, -1).get(20)
    client.close()
    _until(lambda: processes() == [])
    seconds = time.monotonic() - killed
    again = ipyparallel.Cluster.from_file(profile="plain", cluster_id="")

    assert listed.out.split()[-5:] == ["plain", "''", "True", "2", "Stoker"]
    assert answer == [1, 1]
    assert 8.0 < seconds < 30.0
    assert (again.controller, again.engines) == (None, {})


def test_what_a_gone_cluster_left_in_its_file_is_not_running(plain: Callable[..., ipyparallel.Cluster]) -> None:
    cluster = plain(n=1)
    cluster.start_cluster_sync()
    state = cluster.to_dict()
    (engines,) = state["engines"]["sets"].values()
    cluster.stop_cluster_sync()

    # Their numbers may be another process's by now.
    engines["pid"] = state["controller"]["state"]["pid"] = os.getpid()

    with pytest.raises(NotRunning):
        StokerEngineSetLauncher.from_dict(engines, parent=cluster)
    with pytest.raises(NotRunning):
        StokerControllerLauncher.from_dict(state["controller"]["state"], parent=cluster)
    with pytest.raises(NotRunning):
        StokerEngineSetLauncher.from_dict({**engines, "control_socket": "/nowhere/control.sock"}, parent=cluster)


@pytest.mark.parametrize("fork", [True, False])
def test_a_configuration_file_says_how_engines_are_started(
    fork: bool, plain: Callable[..., ipyparallel.Cluster], tmp_path: Path
) -> None:
    directory = ProfileDirectory.named("plain").path
    directory.mkdir(parents=True)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (directory / "ipcluster_config.py").write_text(
        textwrap.dedent(f"""
        c.Cluster.engine_launcher_class = "stoker"
        c.Cluster.n = 2
        c.StokerEngineSetLauncher.engine_args = ["--IPEngine.startup_command=greeting = 'hello'"]
        c.StokerEngineSetLauncher.engine_cmd = [{str(python)!r}]
        c.StokerEngineSetLauncher.environment = {{"COLOUR": "red"}}
        c.StokerEngineSetLauncher.fork = {fork}
        c.StokerEngineSetLauncher.lease = 60.0
        """)
    )
    (directory / "ipcontroller_config.json").write_text(json.dumps({"HeartMonitor": {"period": 250}}))
    cluster = plain(engines=None)

    with cluster.start_and_connect_sync() as client:
        starts = client[:].apply_async(portable(read_start)).get(20)
        patience = client[:].apply_async(portable(read_patience)).get(20)
        state = cluster.engine_set.to_dict()

    assert starts == [("red", sys.executable, "hello", True)] * 2
    # 90 s of silence, at one look every 750 ms: what the file says of the heart monitor holds.
    assert patience == [(120, 750)] * 2
    assert (state["lease"], state["n"]) == (60.0, 2)


def test_two_sets_are_signalled_and_stopped_each_by_itself(
    plain: Callable[..., ipyparallel.Cluster], begun: Path
) -> None:
    cluster = plain(n=2, cluster_id="")
    client = cluster.start_and_connect_sync()
    first = cluster.engine_set
    cluster.start_engines_sync(n=2)
    client.wait_for_engines(4, timeout=20)
    pids = client[:].apply_async(os.getpid).get(20)
    os.kill(pids[0], signal.SIGKILL)
    _until(lambda: client.ids == [1, 2, 3])
    sleeping = [client[number].apply_async(portable(nap), str(begun)) for number in (1, 2)]
    _until(lambda: len(list(begun.iterdir())) == 2)

    # By one who did not see the death: the living one of the first set is the second.
    found = ipyparallel.Cluster.from_file(profile="plain", cluster_id="")
    found.signal_engines_sync(signal.SIGINT, first.engine_set_id)
    assert sleeping[0].wait(10)
    others = sleeping[1].ready()
    count = found.engines[first.engine_set_id].n
    found.stop_engines_sync(first.engine_set_id)
    _until(lambda: client.ids == [2, 3])
    found.signal_engines_sync("INT")
    assert sleeping[1].wait(10)
    after = client[2, 3].apply_async(os.getpid).get(20)
    client.close()

    assert "KeyboardInterrupt" in str(sleeping[0].exception())
    assert "KeyboardInterrupt" in str(sleeping[1].exception())
    assert not others
    assert count == 1
    assert after == pids[2:]


def test_an_interpreter_that_is_none_is_named(plain: Callable[..., ipyparallel.Cluster]) -> None:
    cluster = plain(n=1)
    cluster.start_controller_sync()

    for command in ("/bin/false", "/nowhere/python"):
        with pytest.raises(LauncherError, match=f"no agent could be started with {command}: "):
            cluster.start_engines_sync(engine_cmd=[command])


# Clusters that stoker keeps.


def stop_by_ipcluster(run: Callable[..., Any], programs: Callable[[str], str]) -> None:
    run(programs("ipcluster"), "stop", "--profile=lab").check()


def stop_by_cluster(run: Callable[..., Any], programs: Callable[[str], str]) -> None:
    ipyparallel.Cluster.from_file(profile="lab", cluster_id="").stop_cluster_sync()


def stop_by_engines(run: Callable[..., Any], programs: Callable[[str], str]) -> None:
    ipyparallel.Cluster.from_file(profile="lab", cluster_id="").stop_engines_sync()


def stop_by_controller(run: Callable[..., Any], programs: Callable[[str], str]) -> None:
    ipyparallel.Cluster.from_file(profile="lab", cluster_id="").stop_controller_sync()


def stop_by_manager(run: Callable[..., Any], programs: Callable[[str], str]) -> None:
    # As the clusters tab of JupyterLab does, in the server's loop (nbextension/handlers.py).
    async def delete() -> None:
        manager = ipyparallel.ClusterManager()
        manager.load_clusters(init_default_clusters=True)
        cluster = manager.get_cluster("lab:")
        json.dumps(cluster.to_dict())
        await cluster.stop_cluster()
        manager.remove_cluster("lab:")

    asyncio.run(delete())


def stop_by_client(run: Callable[..., Any], programs: Callable[[str], str]) -> None:
    ipyparallel.Client(profile="lab", timeout=20).shutdown(hub=True, block=True)


@pytest.mark.parametrize(
    "stop", [stop_by_ipcluster, stop_by_cluster, stop_by_engines, stop_by_controller, stop_by_manager, stop_by_client]
)
def test_an_end_that_ipyparallel_orders_ends_a_kept_cluster(
    stop: Callable[..., None],
    start: Callable[..., Cluster],
    run: Callable[..., Any],
    programs: Callable[[str], str],
    processes: Callable[[], list[str]],
    traces: Callable[[Path], list[str]],
) -> None:
    cluster = start(SPEC)
    cluster.close()

    stop(run, programs)

    _until(lambda: processes() == [])
    _until(lambda: traces(ProfileDirectory.named("lab").path.parent) == [])
    with pytest.raises((FileNotFoundError, NotRunning)):
        ipyparallel.Cluster.from_file(profile="lab", cluster_id="")


def test_ipyparallels_cluster_object_stands_for_a_kept_cluster(start: Callable[..., Cluster], begun: Path) -> None:
    kept = start(SPEC)

    cluster = ipyparallel.Cluster.from_file(profile="lab", cluster_id="")
    client = cluster.connect_client_sync()
    client.wait_for_engines(2, timeout=20)
    sleeping = client[:].apply_async(portable(nap), str(begun))
    _until(lambda: len(list(begun.iterdir())) == 2)
    cluster.signal_engines_sync(signal.SIGINT)
    assert sleeping.wait(10)
    output = next(iter(cluster.engines.values())).get_output()
    again = ipyparallel.Cluster.from_dict(cluster.to_dict())
    client.close()

    assert "KeyboardInterrupt" in str(sleeping.exception())
    assert "Output for engine 1" in output
    assert next(iter(again.engines.values())).n == 2
    assert [engine.restarts for engine in kept.status().engines] == [0, 0]


def test_a_kept_cluster_whose_supervisor_is_paused_stays_known(
    start: Callable[..., Cluster], run: Callable[..., Any], programs: Callable[[str], str]
) -> None:
    kept = start(SPEC)
    supervisor = psutil.Process(ipyparallel.Cluster.from_file(profile="lab", cluster_id="").controller.pid)

    supervisor.suspend()
    listed = run(programs("ipcluster"), "list").check()
    supervisor.resume()
    cluster = ipyparallel.Cluster.from_file(profile="lab", cluster_id="")

    assert listed.out.split()[-5:] == ["lab", "''", "True", "2", "Stoker"]
    assert cluster.controller.control_socket
    assert Path(cluster.cluster_file).stat().st_mode & 0o777 == 0o600
    assert kept.status().state == "running"


@pytest.mark.parametrize(
    ("signum", "restarts"),
    [(signal.SIGINT, 0), (signal.SIGKILL, 1), (signal.SIGTERM, 1), (signal.SIGSEGV, 1), (signal.SIGUSR1, 1)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_client_signals_an_engine_and_one_that_dies_of_it_is_replaced(
    signum: signal.Signals, restarts: int, start: Callable[..., Cluster]
) -> None:
    cluster = start(SPEC)
    client = cluster.client
    before = client[:].apply_async(os.getpid).get(20)
    running = client[0].apply_async(time.sleep, 30)
    _until(lambda: cluster.status().engines[0].busy > 0)

    client.send_signal(signum, targets=0, block=True)
    assert running.wait(20)
    _until(lambda: cluster.status().engines[0].restarts == restarts and cluster.status().state == "running")
    catch_up(client)  # the supervisor knew first
    _until(lambda: 0 in client.ids)
    after = client[0].apply_async(os.getpid).get(20)

    assert (after == before[0]) == (restarts == 0)
    assert client[1].apply_async(os.getpid).get(20) == before[1]
    assert running.exception() is not None


def test_a_shutdown_of_one_engine_is_no_death_but_its_exit_in_a_task_is(start: Callable[..., Cluster]) -> None:
    cluster = start(SPEC)
    client = cluster.client

    client[0].apply_async(os._exit, 0)
    _until(lambda: cluster.status().engines[0].restarts == 1 and cluster.status().state == "running")
    client.shutdown(targets=[1], block=True)
    _until(lambda: len(cluster.status().engines) == 1)
    time.sleep(1.0)
    status = cluster.status()

    assert [(engine.number, engine.state) for engine in status.engines] == [(0, "ready")]
    assert status.state == "running"
    assert "engine 1 left, as it was told" in status.events
    assert client[0].apply_async(abs, -1).get(20) == 1


def _ask(client: Any, count: int) -> list[int] | None:
    if len(client.ids) < count:
        return None
    result = client[:].apply_async(os.getpid)
    return list(result.get()) if result.wait(2) and result.successful() else None


def _until(condition: Callable[[], bool], timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not after {timeout} s"
        time.sleep(0.05)
