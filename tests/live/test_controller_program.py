"""The controller's own program: it ends with its parts and its lease, and comes back as the same controller."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import ipyparallel
import psutil
import pytest

from stoker.launch.hub_program import parse_engine_state
from stoker.system.files import read_or_none

pytestmark = pytest.mark.live

CHILDREN = (
    "IOPubScheduler",
    "DirectScheduler",
    "ControlScheduler",
    "TaskScheduler",
    "BroadcastScheduler(depth=0, id=0)",
    "BroadcastScheduler(depth=1, id=00)",
    "BroadcastScheduler(depth=1, id=01)",
    "HeartMonitor",
)
PORTS = 18
"""Sockets that a sound controller listens at, with the default depth of broadcast schedulers."""

SLACK = 5.0
"""Seconds within which must happen, on a busy machine too, what takes less than a tenth of one on an idle one."""


class Controller:
    """A profile directory, the controllers that were started on it one after the other, and its engines."""

    def __init__(self, directory: Path, poll: Callable[..., Any]) -> None:
        self.profile = directory / "profile_test"
        self.lease, self.note, self.keys = (directory / name for name in ("lease", "ended", "keys"))
        self.log = directory / "log"
        self.lease.touch()
        self._poll = poll
        self._started: list[subprocess.Popen[bytes]] = []
        self._clients: list[Any] = []
        self.process: psutil.Process

    @property
    def files(self) -> tuple[Path, Path]:
        """The connection files: the client's and the engines'."""
        security = self.profile / "security"
        return security / "ipcontroller-client.json", security / "ipcontroller-engine.json"

    def start(
        self,
        *arguments: str,
        lease: float = 120.0,
        encrypted: bool = True,
        options: tuple[str, ...] = (),
        beats: tuple[str, ...] = ("--HeartMonitor.period=100", "--HeartMonitor.max_heartmonitor_misses=300"),
    ) -> None:
        """Start a controller."""
        argv = [
            *(sys.executable, "-m", "stoker.launch.controller"),
            *("--lease-file", str(self.lease), "--lease", str(lease)),
            *("--end-note", str(self.note), "--keys", str(self.keys), *options, "--"),
            *(f"--profile-dir={self.profile}", f"--IPController.enable_curve={encrypted}"),
            *(*beats, *arguments),
        ]
        with self.log.open("ab") as log:
            self._hub = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        self._started.append(self._hub)
        self.process = psutil.Process(self._hub.pid)

    def wait_until_sound(self) -> list[psutil.Process]:
        """Wait until all listens, and give the children."""
        self._poll(lambda: count_listening(self.process) == PORTS)
        self._poll(lambda: all(file.exists() for file in self.files))
        children: list[psutil.Process] = self.process.children()
        return children

    def wait(self) -> int:
        """Wait until the hub has ended, and give its exit status."""
        return self._hub.wait(timeout=20)

    def stop(self) -> int:
        """Tell it to stop, and give its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> list[psutil.Process]:
        """Kill the hub alone, and give the children of it that are left after a moment."""
        children = self.process.children()
        self.process.kill()
        self.wait()
        with contextlib.suppress(AssertionError):
            self._poll(lambda: not any(map(is_alive, children)), timeout=SLACK)
        return [child for child in children if is_alive(child)]

    def connect(self) -> Any:
        """Connect a client that waits for answers 20 seconds at the most."""
        client = ipyparallel.Client(str(self.files[0]), timeout=20)
        self._clients.append(client)
        return client

    def start_engine(self, client: Any, number: int = 0, *arguments: str) -> None:
        """Start an engine and wait until a client knows it."""
        argv = [
            *(sys.executable, "-m", "ipyparallel.engine", f"--profile-dir={self.profile}"),
            *("--IPEngine.enable_nanny=False", f"--IPEngine.id={number}", *arguments),
        ]
        with self.log.open("ab") as log:
            self._started.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        self._poll(lambda: number in client.ids, message=f"engine {number} did not come:\n{self.log.read_text()}")

    def end(self) -> None:
        """End all that was started."""
        for client in self._clients:
            client.close()
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait(timeout=20)
        for file in self.files:
            file.unlink(missing_ok=True)


@pytest.fixture
def controller(tmp_path: Path, wait_until: Callable[..., Any]) -> Iterator[Controller]:
    """A profile for controllers; what runs of them in the end is killed."""
    controller = Controller(tmp_path, wait_until)
    yield controller
    controller.end()


def is_alive(process: psutil.Process) -> bool:
    """Say whether a process runs, or is stopped; what has ended may wait to be reaped."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def count_listening(process: psutil.Process) -> int:
    """Count the ports at which a process and its children listen; children hold those of the hub too."""
    pids = {process.pid, *(child.pid for child in process.children())}
    sockets = psutil.net_connections("tcp")
    return len({each.laddr for each in sockets if each.pid in pids and each.status == psutil.CONN_LISTEN})


def find_child(log: Path, name: str, children: list[psutil.Process]) -> psutil.Process:
    """Find the child of a name. The log names all but the heart monitor, at level DEBUG."""
    told = {int(pid) for pid in re.findall(r"Started process .*: (\d+)$", log.read_text(), re.MULTILINE)}
    named = re.search(rf"Started process {re.escape(name)}: (\d+)$", log.read_text(), re.MULTILINE)
    return next(each for each in children if (each.pid == int(named[1]) if named else each.pid not in told))


def fixed_ports(ports: tuple[int, ...]) -> tuple[str, ...]:
    """Give arguments for three pools of ports, as a spec's are shared out."""
    engine, client, internal = ports[:9], ports[9:15], ports[15:18]
    pools = {"engine_ports": engine, "client_ports": client, "ports": internal}
    return tuple(f"--IPController.{name}={pool[0]}-{pool[-1]}" for name, pool in pools.items())


# --- start and stop


@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.long)])
def test_it_starts_whole_every_time_without_ipyparallels_pause(controller: Controller, times: int) -> None:
    faults = []

    for _ in range(times):
        controller.start()
        faults += [fault for fault in [len(controller.wait_until_sound()) - 8] if fault]
        faults += [fault for fault in [controller.stop()] if fault]

    assert faults == []


def test_it_loads_neither_numpy_nor_pydantic(controller: Controller) -> None:
    controller.start()
    processes = [controller.process, *controller.wait_until_sound()]

    loaded = {Path(library.path).parts for each in processes for library in each.memory_maps() if "/" in library.path}

    assert any("zmq" in parts for parts in loaded)
    assert not [parts for parts in loaded if {"numpy", "pydantic_core"} & set(parts)]


def test_told_to_stop_it_leaves_at_once_with_all_that_is_its_own(controller: Controller) -> None:
    controller.start()
    children = controller.wait_until_sound()
    # It would not hear a SIGTERM.
    children[3].suspend()
    before = time.monotonic()

    status = controller.stop()

    took = time.monotonic() - before
    assert (status, [child for child in children if is_alive(child)]) == (0, [])
    assert took < SLACK
    assert not any(file.exists() for file in controller.files)
    assert not controller.note.exists()


def test_a_signal_to_its_whole_group_is_a_stop_too(controller: Controller) -> None:
    controller.start()
    controller.wait_until_sound()

    os.killpg(controller.process.pid, signal.SIGTERM)

    assert controller.wait() == 0
    assert "leaving" not in controller.log.read_text()


def test_a_port_that_is_taken_is_no_controller_with_a_part_missing(
    controller: Controller, free_ports: Callable[[int], tuple[int, ...]]
) -> None:
    import socket

    ports = free_ports(PORTS)
    # The engines' first is the hub's own; the third is a relay's.
    with socket.create_server(("127.0.0.1", ports[2])):
        controller.start(*fixed_ports(ports))

        assert controller.wait() == 70

    assert re.search(r"DirectScheduler \(process \d+\) left with exit status 1: ", controller.log.read_text())


# --- beats


def test_an_engine_does_not_wait_for_a_beat(controller: Controller) -> None:
    controller.start(beats=("--HeartMonitor.period=60000",))
    controller.wait_until_sound()
    client = controller.connect()

    # It would be there after one or two.
    for number in range(2):
        controller.start_engine(client, number)

    assert client[:].apply_async(abs, -1).get(20) == [1, 1]


def test_engines_with_the_least_patience_stay_and_one_that_is_silent_is_given_up_in_time(
    controller: Controller, wait_until: Callable[..., Any]
) -> None:
    controller.start(beats=("--HeartMonitor.period=100", "--HeartMonitor.max_heartmonitor_misses=40"))
    controller.wait_until_sound()
    client = controller.connect()
    for number in range(2):
        controller.start_engine(client, number, "--IPEngine.max_heartbeat_misses=1")
    pids = client[:].apply_async(os.getpid).get(20)
    time.sleep(2)
    before = client.ids

    os.kill(pids[0], signal.SIGSTOP)
    stopped = time.monotonic()
    wait_until(lambda: client.ids == [1])

    assert before == [0, 1]
    assert 3.5 < time.monotonic() - stopped < 4.5 + SLACK


# --- deaths


def test_its_children_die_with_the_hub(controller: Controller) -> None:
    controller.start()
    children = controller.wait_until_sound()
    children[2].suspend()

    left = controller.kill()

    assert (len(children), left) == (8, [])


@pytest.mark.parametrize(
    ("name", "signum"),
    [(name, (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV)[place % 3]) for place, name in enumerate(CHILDREN)],
    ids=[name.replace(" ", "") for name in CHILDREN],
)
def test_it_leaves_when_a_child_dies(controller: Controller, name: str, signum: signal.Signals) -> None:
    controller.start("--log-level=DEBUG")
    children = controller.wait_until_sound()
    child = find_child(controller.log, name, children)
    before = time.monotonic()

    child.send_signal(signum)

    status, took = controller.wait(), time.monotonic() - before
    assert (status, [child for child in children if is_alive(child)]) == (70, [])
    assert took < SLACK
    said = f"CRITICAL | {name} (process {child.pid}) died of {signum.name}"
    assert said in controller.log.read_text()
    # For the one that is started again.
    assert all(file.exists() for file in controller.files)


# --- the lease


def test_it_leaves_when_its_lease_is_over_and_not_before(controller: Controller) -> None:
    controller.start(lease=2.5)
    children = controller.wait_until_sound()
    for _ in range(30):
        time.sleep(0.1)
        os.utime(controller.lease)
    controller.lease.unlink()
    alive, before = is_alive(controller.process), time.monotonic()

    status = controller.wait()

    took = time.monotonic() - before
    assert (alive, status, [child for child in children if is_alive(child)]) == (True, 69, [])
    assert 0.5 < took < 3.5 + SLACK
    assert "no supervisor for 2.5 s: the lease is over, leaving" in controller.log.read_text()
    assert not any(file.exists() for file in controller.files)


def test_the_time_for_which_it_was_stopped_is_not_counted(
    controller: Controller, wait_until: Callable[..., Any]
) -> None:
    controller.start(lease=4.5)
    controller.wait_until_sound()
    # Not touched meanwhile: the first look afterwards would find that, and begin anew.
    controller.process.suspend()
    time.sleep(5.0)

    controller.process.resume()

    time.sleep(0.3)
    assert is_alive(controller.process)
    assert controller.stop() == 0


# --- an ordered end


def test_an_end_that_a_client_orders_leaves_a_note_at_once(
    controller: Controller, wait_until: Callable[..., Any]
) -> None:
    controller.start()
    children = controller.wait_until_sound()
    client = controller.connect()
    close, seen = client.close, []

    def look_and_close() -> None:
        seen.append((controller.note.read_text(), is_alive(controller.process)))
        close()

    # What it does as soon as the hub has answered.
    client.close = look_and_close

    client.shutdown(hub=True)

    assert seen[0] == ("shutdown_request\n", True)
    assert controller.wait() == 0
    assert [child for child in children if is_alive(child)] == []


# --- keys and files


def test_its_key_pair_is_kept_and_shows_nowhere(controller: Controller) -> None:
    seen, modes = [], set()

    for arguments in ((), ("--reuse",), ("--restore",)):
        controller.start("--log-level=DEBUG", *arguments)
        processes = [controller.process, *controller.wait_until_sound()]
        seen += [" ".join([*each.cmdline(), str(each.environ())]) for each in processes]
        modes |= {file.stat().st_mode & 0o777 for file in (*controller.files, controller.keys)}
        told = {json.loads(file.read_text())["curve_serverkey"] for file in controller.files}
        assert told == {json.loads(controller.keys.read_text())["public"]}
        assert controller.kill() == []

    secret = json.loads(controller.keys.read_text())["secret"]
    assert not [text for text in [*seen, controller.log.read_text()] if secret in text]
    assert modes == {0o600}


def test_without_encryption_it_has_no_pair_and_hides_the_messages_key(controller: Controller) -> None:
    for arguments in ((), ("--reuse",)):
        controller.start("--log-level=DEBUG", *arguments, encrypted=False)
        controller.wait_until_sound()
        assert controller.kill() == []

    assert not controller.keys.exists()
    assert json.loads(controller.files[0].read_text())["key"] not in controller.log.read_text()


def test_a_pair_that_others_can_read_is_refused(controller: Controller) -> None:
    controller.keys.write_text('{"public": "", "secret": "SECRET"}')
    controller.keys.chmod(0o644)

    controller.start()

    assert controller.wait() == 1
    last = controller.log.read_text().splitlines()[-1]
    assert last.startswith(f"{controller.keys}: others can read the controller's secret key (mode 0644, user ")
    assert "SECRET" not in controller.log.read_text()


def test_connection_files_that_name_a_lost_key_are_written_anew(controller: Controller) -> None:
    controller.start()
    controller.wait_until_sound()
    controller.kill()
    old = [json.loads(file.read_text()) for file in controller.files]
    controller.keys.unlink()
    controller.files[0].chmod(0o644)

    controller.start("--restore")

    controller.wait_until_sound()
    new = [json.loads(file.read_text()) for file in controller.files]
    key = json.loads(controller.keys.read_text())["public"]
    assert new == [{**content, "curve_serverkey": key} for content in old]
    assert old[0]["curve_serverkey"] != key
    assert controller.files[0].stat().st_mode & 0o777 == 0o600
    assert controller.connect().ids == []


@pytest.mark.parametrize("state", [None, b"", b'{"engines": {"0": "ab', b'{"engines": {"0": 1}, "next_id": 1}', b"[]"])
def test_a_broken_engine_state_is_told_and_leaves_no_engine(controller: Controller, state: bytes | None) -> None:
    (controller.profile / "log").mkdir(parents=True)
    file = controller.profile / "log" / "engines.json"
    if state is not None:
        file.write_bytes(state)

    controller.start("--restore")

    controller.wait_until_sound()
    assert (
        f"{file} is {'missing' if state is None else 'broken'}: starting without engines" in controller.log.read_text()
    )
    assert controller.connect().ids == []


# --- schedulers and databases without numpy


@pytest.mark.parametrize(
    ("scheme", "database"), [("weighted", "NoDB"), ("pure", "SQLiteDB"), ("twobin", "DictDB")], ids=str
)
def test_schedulers_and_databases_work_where_numpy_was_left_out(
    controller: Controller, wait_until: Callable[..., Any], scheme: str, database: str
) -> None:
    controller.start(f"--TaskScheduler.scheme_name={scheme}", f"--IPController.db_class={database}")
    controller.wait_until_sound()
    client = controller.connect()
    controller.start_engine(client)

    before = datetime.now(UTC)
    pending = client.load_balanced_view().map_async(abs, [-1, 2, -3])
    found = pending.get(timeout=20)

    assert found == [1, 2, 3]
    if database != "NoDB":
        wanted = {"msg_id": pending.msg_ids[0]}
        wait_until(lambda: client.db_query(wanted, keys=["completed"])[0]["completed"] is not None)
        record = client.db_query(wanted, keys=["submitted", "started", "completed"])[0]
        assert before <= record["submitted"] <= record["started"] <= record["completed"] <= datetime.now(UTC)


# --- a restart


def answers(view: Any) -> bool:
    asked = [view.apply_async(abs, -1) for _ in range(4)]
    try:
        return [each.get(timeout=2) for each in asked] == [1] * 4
    except TimeoutError:
        return False


def have_kept(view: Any) -> bool:
    try:
        kept = view.pull("kept", block=False).get(timeout=2)
    except TimeoutError:
        return False
    assert kept == [0, 1]
    return True


def read_engine_numbers(controller: Controller) -> list[str]:
    state = parse_engine_state(read_or_none(controller.profile / "log" / "engines.json") or b"")
    return [] if state is None else sorted(state["engines"])


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed ports", "random ports"])
def test_started_again_it_has_its_engines_with_their_namespaces_and_its_clients(
    controller: Controller,
    free_ports: Callable[[int], tuple[int, ...]],
    wait_until: Callable[..., Any],
    tmp_path: Path,
    fixed: bool,
) -> None:
    ports = fixed_ports(free_ports(PORTS)) if fixed else ()
    controller.start(*ports)
    controller.wait_until_sound()
    client = controller.connect()
    hubs: list[str] = []
    stock = client._notification_handlers["registration_notification"]
    client._notification_handlers["registration_notification"] = lambda message: (
        hubs.append(message["header"]["session"]),
        stock(message),
    )
    for number in (0, 1):
        controller.start_engine(client, number)
        client[number].push({"kept": number}, block=True)
    # It writes them a little after it has told of them.
    wait_until(lambda: read_engine_numbers(controller) == ["0", "1"])
    assert controller.kill() == []
    told = len(hubs)

    controller.start("--restore", *ports)

    controller.wait_until_sound()
    new = controller.connect()
    wait_until(lambda: hubs[told:], message="the old client was not told")
    assert len(set(hubs)) == 2
    for each in (client, new):
        assert each.ids == [0, 1]
        # What is sent to an engine that has not found the scheduler again is lost, and nobody is told.
        wait_until(partial(have_kept, each[:]), message="an engine has not found the scheduler")
        wait_until(partial(answers, each.load_balanced_view()), message="no engine has found the scheduler")
        assert each.load_balanced_view().map_async(abs, range(-9, 0)).get(timeout=20) == list(range(9, 0, -1))
    # Told of an engine again, the scheduler must not take it for one more.
    time.sleep(max(0.0, 2.5 - (time.time() - controller.process.create_time())))
    go = tmp_path / "go"
    argv = ["sh", "-c", 'until [ -e "$0" ]; do sleep 0.05; done', str(go)]
    waiting = [new.load_balanced_view().apply_async(subprocess.call, argv) for _ in range(4)]
    wait_until(lambda: new.queue_status()["unassigned"] == 2)
    go.touch()
    assert [each.get(timeout=20) for each in waiting] == [0] * 4
    state = parse_engine_state((controller.profile / "log" / "engines.json").read_bytes())
    assert state is not None
    assert (sorted(state["engines"]), state["next_id"]) == (["0", "1"], 2)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda value: value.name)
def test_a_signal_that_comes_while_it_starts_leaves_no_connection_file(
    signum: signal.Signals, controller: Controller
) -> None:
    for _ in range(3):
        controller.start()
        while not controller.files[0].exists():
            time.sleep(0.001)
        controller.process.send_signal(signum)

        assert controller.wait() == 0
        assert [file for file in controller.files if file.exists()] == []


def test_beats_are_as_its_starter_wants_them_where_nothing_is_configured(
    controller: Controller, wait_until: Callable[..., Any]
) -> None:
    said = []
    for config in (None, {"HeartMonitor": {"period": 700}}):
        if config is not None:
            (controller.profile / "ipcontroller_config.json").write_text(json.dumps(config))
        controller.start(options=("--period", "350", "--silence", "70"), beats=())
        wait_until(lambda: "Heartmonitor beating every" in controller.log.read_text())
        said += re.findall(r"Heartmonitor beating every (\d+)ms", controller.log.read_text())
        controller.stop()
        controller.log.write_text("")

    assert said == ["350", "700"]
