"""Who may do what with a queue's server: tried with real connections."""

from __future__ import annotations

import os
import pickle
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing import connection, managers
from pathlib import Path
from typing import Any

import pytest

import stoker
import stoker.queue
from stoker.errors import JobError, QueueError
from stoker.queue.desk import VERSION

pytestmark = pytest.mark.live

TUTORIAL = """
import sys
from multiprocessing.managers import BaseManager
from queue import Queue

queue = Queue()
BaseManager.register("queue", callable=lambda: queue)
server = BaseManager(address=("127.0.0.1", 0), authkey=b"some secret password").get_server()
print(server.address[1], flush=True)
server.serve_forever()
"""
POISON = """
import ctypes, os

def crash(): ctypes.string_at(0)
def leave(): os._exit(3)
def spin():
    while True: pass
def fail(): {}["gone"]
def odd(): return lambda: None
"""


class Bomb:
    """Unpickling it writes the process number into a file."""

    def __init__(self, marker: Path) -> None:
        self.code = f"import os, pathlib; pathlib.Path({str(marker)!r}).write_text(str(os.getpid()))"

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.code,)


class Served:
    """A server in a process of its own."""

    def __init__(self, directory: Path, *words: str) -> None:
        self.directory = directory
        argv = [sys.executable, "-m", "stoker.queue", "serve", "--directory", str(directory), "--lease", "2", *words]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    @property
    def address(self) -> tuple[str, int]:
        with stoker.queue.connect(self.directory) as queue:
            host, _, port = queue.status().address.rpartition(":")
        return host, int(port)

    @property
    def key(self) -> bytes:
        return (self.directory / "key").read_bytes().strip()

    def work(self, count: int = 1) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "stoker.queue", "work", "--directory", str(self.directory), "-n", str(count)]
        return subprocess.Popen(argv, cwd=self.directory.parent, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def check_alive(self) -> None:
        """Fail unless it answers, soon."""
        assert self.process.poll() is None
        with stoker.queue.connect(self.directory, wait=5) as queue:
            queue.status()


@pytest.fixture
def served(tmp_path: Path, wait_until: Callable[..., Any]) -> Iterator[Served]:
    server = Served(tmp_path / "queue")
    wait_until(lambda: _answers(server.directory))
    yield server
    server.process.send_signal(signal.SIGTERM)
    server.process.communicate(timeout=20)
    assert server.process.returncode == 0


def _answers(directory: Path) -> bool:
    try:
        with stoker.queue.connect(directory, wait=0):
            return True
    except QueueError:
        return False


def _ask(served: Served, name: str, *arguments: object, ident: str | None = None) -> tuple[str, Any]:
    """Send one request as a plain manager's client would, and give the raw reply."""
    with connection.Client(served.address, authkey=served.key) as client:
        if ident is not None:
            client.send((None, "accept_connection", ("client",), {}))
            client.recv()
        client.send((ident, name, arguments, {}))
        reply = pickle.loads(client.recv_bytes())
    return reply[0], reply[1]


def test_another_key_is_refused_with_a_message_that_says_so(served: Served, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("0" * 64)
    other.chmod(0o600)

    with pytest.raises(QueueError, match=r"the server has another key than .*other; copy its key file here"):
        stoker.queue.connect(served.directory, key=other)

    served.check_alive()


def test_a_key_that_others_can_read_is_refused(served: Served, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copyfile(served.directory / "key", copy)
    copy.chmod(0o644)

    with pytest.raises(QueueError, match=f"others can read this key; type: chmod 600 {copy}"):
        stoker.queue.connect(served.directory, key=copy)


def test_the_key_is_in_a_file_for_its_owner_alone_and_nowhere_else(served: Served) -> None:
    worker = served.work()
    key = served.key
    with stoker.queue.connect(served.directory) as queue:
        (result,) = list(queue.results(queue.put("os:getpid", []) or queue.put_calls("os:getpid", [((), {})])))
        for pid in (served.process.pid, worker.pid, result.get()):
            assert key not in Path(f"/proc/{pid}/cmdline").read_bytes()
            assert key not in Path(f"/proc/{pid}/environ").read_bytes()
        queue.close()
    worker.wait(timeout=20)

    assert served.directory.stat().st_mode & 0o777 == 0o700
    assert (served.directory / "key").stat().st_mode & 0o777 == 0o600
    assert (served.directory / "journal.sqlite").stat().st_mode & 0o777 == 0o600


def test_random_bytes_leave_it_serving(served: Served) -> None:
    draw = random.Random(4)
    address = served.address

    for _ in range(5000):
        with socket.create_connection(address, timeout=10) as sock:
            try:
                sock.sendall(draw.randbytes(draw.randrange(300)))
            except ConnectionError:
                continue

    served.check_alive()


def test_a_thousand_that_never_speak_do_not_keep_others_out(served: Served) -> None:
    low, high = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, high), high))
    address = served.address
    try:
        silent = [socket.create_connection(address, timeout=10) for _ in range(1000)]

        served.check_alive()

        for sock in silent:
            sock.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (low, high))
    served.check_alive()


def test_a_bomb_runs_on_the_tutorials_server(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    with subprocess.Popen([sys.executable, "-c", TUTORIAL], stdout=subprocess.PIPE, text=True) as server:
        port = int(server.stdout.readline()) if server.stdout else 0
        with connection.Client(("127.0.0.1", port), authkey=b"some secret password") as client:
            client.send((None, "dummy", (Bomb(marker),), {}))
            client.recv()
        server.kill()

    assert marker.read_text() == str(server.pid)


def test_a_bomb_in_a_request_runs_nothing(served: Served, tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    first = _ask(served, "create", VERSION, Bomb(marker))
    ident = _ask(served, "create", VERSION)[1][0]
    later = _ask(served, "put", Bomb(marker), ident=ident)

    assert [first[0], later[0]] == ["#TRACEBACK", "#TRACEBACK"]
    assert "builtins.exec is no plain value" in first[1]
    assert "builtins.exec is no plain value" in later[1]
    assert not marker.exists()
    served.check_alive()


def test_a_bomb_as_argument_or_result_runs_nothing_on_the_server(served: Served, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    bomb = pickle.dumps(Bomb(marker))
    ident = _ask(served, "create", VERSION)[1][0]

    put = _ask(served, "put", "token", 0, "operator:neg", 0.0, [bomb], ident=ident)
    given = _ask(served, "work", "me", 0, [], [], None, False, 1, 0.0, ident=ident)
    row = (1, "value", bomb, "host", 1, 0.0)
    done = _ask(served, "work", "me", 0, [row], [], None, False, 0, 0.0, ident=ident)
    read = _ask(served, "results", 1, 9, 9, True, 0.0, ident=ident)
    served.check_alive()

    assert [put[1][0], given[1][0], done[1][0], read[1][0]] == ["ok"] * 4
    assert given[1][1][1] == ((1, 1, bomb),)
    assert read[1][1][0][0][3] == bomb
    assert not marker.exists()


@pytest.mark.parametrize("name", ["shutdown", "debug_info", "number_of_objects", "get_methods", "decref", "serve"])
def test_no_other_method_of_the_manager_can_be_called(served: Served, name: str) -> None:
    assert _ask(served, name) == ("#TRACEBACK", f"ValueError: {name!r} cannot be called here")
    served.check_alive()


@pytest.mark.parametrize("name", ["watch", "_share", "__class__", "__repr__", "#GETVALUE", "address"])
def test_no_other_method_of_the_desk_can_be_called(served: Served, name: str) -> None:
    ident = _ask(served, "create", VERSION)[1][0]

    assert _ask(served, name, ident=ident)[0] == "#TRACEBACK"
    served.check_alive()


def test_a_plain_managers_client_with_the_key_can_ask_what_is_registered(served: Served) -> None:
    class Plain(managers.BaseManager):
        pass

    Plain.register(VERSION)
    ident, exposed = _ask(served, "create", VERSION)[1]

    assert set(exposed) == {"put", "work", "results", "status", "close"}
    assert _ask(served, "status", ident=ident)[1][0] == "ok"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("t", 0, "f:g", 0.0, ["text"]), id="a text for bytes"),
        pytest.param((1, 0, "f:g", 0.0, [b""]), id="a number for a text"),
        pytest.param(("t", 1 << 80, "f:g", 0.0, [b""]), id="too large a number"),
        pytest.param(("t",), id="too few"),
        pytest.param((None,) * 5, id="nothing"),
    ],
)
def test_what_has_another_form_is_refused(served: Served, arguments: tuple[object, ...]) -> None:
    ident = _ask(served, "create", VERSION)[1][0]

    kind, value = _ask(served, "put", *arguments, ident=ident)

    assert (kind, value[0]) == ("#RETURN", "refused")
    with stoker.queue.connect(served.directory) as queue:
        assert queue.status().put == 0


def test_poison_is_named_with_its_cause_and_the_others_finish(served: Served, tmp_path: Path) -> None:
    (tmp_path / "poison.py").write_text(POISON)
    with stoker.queue.connect(served.directory) as queue:
        good = queue.put("operator:neg", range(20))
        names = ("crash", "leave", "spin", "fail", "odd", "missing")
        for name in names:
            # The others end by themselves.
            queue.put_calls(f"poison:{name}", [((), {})], time_limit=0.5 if name == "spin" else 20.0)
        good += queue.put("operator:neg", range(20))
        queue.close()
        worker = served.work(2)
        results = {result.number: result for result in queue.results()}
    worker.wait(timeout=20)

    assert [results[number].get() for number in good] == [-item for item in range(20)] * 2
    bad = [results[number] for number in range(21, 27)]
    assert [result.problem for result in bad[:5]] == [
        "its process died of SIGSEGV",
        "its process left with exit status 3",
        "took longer than its time limit of 0.5 s",
        "KeyError: 'gone'",
        bad[4].problem,
    ]
    assert [result.attempt for result in bad] == [3, 3, 1, 1, 1, 1]
    assert [result.call for result in bad] == [f"poison:{name}()" for name in names]
    assert isinstance(bad[0].error, JobError)
    assert isinstance(bad[3].error, KeyError)
    assert 'poison.py", line 8, in fail' in bad[3].error.__notes__[0]
    assert "has no attribute 'missing'" in (bad[5].problem or "")
    assert worker.returncode == 0


def test_server_and_worker_run_from_their_own_files_alone(tmp_path: Path, wait_until: Callable[..., Any]) -> None:
    source = Path(stoker.__file__).parent
    bare = tmp_path / "bare"
    for name in ("queue", "system"):
        shutil.copytree(source / name, bare / "stoker" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(source / "errors.py", bare / "stoker" / "errors.py")
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    run = [str(python), "-S", "-s", "-m", "stoker.queue"]
    options: dict[str, Any] = {"cwd": bare, "stdin": subprocess.DEVNULL, "env": {**os.environ, "PYTHONPATH": ""}}

    server = subprocess.Popen([*run, "serve", "--directory", str(tmp_path / "queue")], **options)
    try:
        wait_until(lambda: _answers(tmp_path / "queue"))
        with stoker.queue.connect(tmp_path / "queue") as queue:
            numbers = queue.put("stoker.queue.primes:nth_prime", range(100))
            (place,) = queue.put_calls("builtins:eval", [(("__import__('sys').modules['stoker.queue'].__file__",), {})])
            queue.close()
            worker = subprocess.run(
                [*run, "work", "--directory", str(tmp_path / "queue")], **options, timeout=60, check=False
            )
            values = [result.get() for result in queue.results(numbers)]
            (result,) = queue.results([place])
    finally:
        server.terminate()
        server.wait(timeout=20)

    assert worker.returncode == 0
    assert (values[-1], sum(values)) == (541, 24133)
    assert result.get() == str(bare / "stoker" / "queue" / "__init__.py")


def test_beyond_this_machine_it_says_what_is_not_encrypted(tmp_path: Path, wait_until: Callable[..., Any]) -> None:
    server = Served(tmp_path / "open", "--ip", "*")
    wait_until(lambda: _answers(server.directory))
    server.process.terminate()
    _, said = server.process.communicate(timeout=20)

    assert "jobs and results cross the network as they are, not encrypted" in said
    assert "ssh -N -L" in said
