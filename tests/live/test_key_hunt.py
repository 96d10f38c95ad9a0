"""Keys are where their owners keep them and nowhere else: a hunt through processes, files, logs and answers."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import stoker
from stoker.cluster import Cluster
from stoker.compute import portable
from stoker.system.processes import find_marked

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

SPEC = """
[cluster]
profile = "lab"
{more}

[[engines]]
count = 2

[[engines]]
count = 1
fork = false
"""
PLAIN = "[controller]\nencryption = false"
WORDS = ("hello", "status", "logs", "nonsense", "setup", "update")


class Hunt:
    """Looks for keys, and notes each place where it has found one."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        assert keys
        assert all(len(key) >= 20 for key in keys.values())
        self._keys = {
            name: (key.encode(), base64.b64encode(key.encode()).rstrip(b"=")[:-1], json.dumps(key)[1:-1].encode())
            for name, key in keys.items()
        }
        self.found: set[str] = set()
        self.looks = 0

    def look(self, place: str, data: bytes) -> None:
        """Look at what somebody else could read at a place."""
        self.looks += 1
        for name, forms in self._keys.items():
            if any(form in data for form in forms):
                self.found.add(f"{name} in {place}")

    def look_at_processes(self, pids: Iterable[int]) -> None:
        """Look at what every user of the machine, and every program of this one, can see of processes."""
        for pid in pids:
            for name in ("cmdline", "environ", "comm"):
                try:
                    data = Path(f"/proc/{pid}/{name}").read_bytes()
                except OSError:
                    continue
                self.look(f"the {name} of a process", data)

    def look_at_files(self, directory: Path) -> None:
        """Look at every file that others can read, or that people show around: logs."""
        for path in directory.rglob("*"):
            if path.is_symlink() or not path.is_file():
                continue
            if path.stat().st_mode & 0o077 or path.suffix == ".log" or path.parent.name == "log":
                self.look(str(path.relative_to(directory)), path.read_bytes())


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where sockets go; its name is short enough for them."""
    with tempfile.TemporaryDirectory(prefix="hunt-", dir="/tmp") as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield Path(name)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go; it is hunted through too."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    return place


def own_key() -> tuple[str, str]:
    from ipyparallel.engine.app import IPEngine

    engine = IPEngine.instance()
    return engine.curve_secretkey.decode(), engine.session.key.decode()


def start_sleepers() -> None:
    """Start what a task may start: in every way, and for longer than the hunt takes."""
    import multiprocessing
    import os
    import subprocess
    import time

    subprocess.Popen(["sleep", "60"])
    subprocess.Popen(["setsid", "sleep", "60"])
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True).start()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "60"])


def find_keys(cluster: Cluster, home: Path, *, encrypted: bool) -> dict[str, str]:
    """Give every key of a cluster by name."""
    engine_file, client_file = (
        json.loads(next(home.rglob(f"security/ipcontroller*{kind}.json")).read_text()) for kind in ("engine", "client")
    )
    owned = cluster.client[:].apply_async(portable(own_key)).get(30)
    if not encrypted:
        assert engine_file["key"] == client_file["key"]
        assert {hmac for _, hmac in owned} == {engine_file["key"]}
        return {"the key of signatures": engine_file["key"]}
    pairs = [json.loads(path.read_text()) for path in home.rglob("*") if path.is_file() and _holds_pair(path)]
    assert len(pairs) == 1
    assert pairs[0]["public"] == engine_file["curve_serverkey"] == client_file["curve_serverkey"]
    return {
        # Whoever knows this one may connect.
        "the controller's public key": pairs[0]["public"],
        "the controller's secret key": pairs[0]["secret"],
        **{f"engine {number}'s secret key": secret for number, (secret, _) in enumerate(owned)},
    }


def _holds_pair(path: Path) -> bool:
    try:
        return set(json.loads(path.read_bytes())) == {"public", "secret"}
    except (ValueError, TypeError):
        return False


class Watch:
    """Keeps what can be seen of all processes of this test while a block runs, also of those that live briefly."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, bytes]] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(0.02):
            for process in find_marked("STOKER_TEST", os.environ["STOKER_TEST"]):
                if process.pid != os.getpid():
                    for name in ("cmdline", "environ"):
                        try:
                            self.seen.add((name, Path(f"/proc/{process.pid}/{name}").read_bytes()))
                        except OSError:
                            continue


def ask(control: Path, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(str(control))
        peer.sendall(line)
        peer.shutdown(socket.SHUT_WR)
        with peer.makefile("rb") as file:
            return file.read()


@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "not encrypted"])
def test_no_key_is_where_others_can_see_it(
    encrypted: bool, tmp_path: Path, runtime: Path, run_stoker: Callable[..., Any]
) -> None:
    spec = tmp_path / "lab.toml"
    spec.write_text(SPEC.format(more="" if encrypted else PLAIN))
    with Watch() as watch:
        up = run_stoker("up", spec).check()
    try:
        with stoker.connect("lab") as cluster:
            keys = find_keys(cluster, tmp_path, encrypted=encrypted)
            cluster.client[:].apply_async(portable(start_sleepers)).get(30)
            # A task that fails, an engine that dies and one that comes back: all of it is told.
            cluster.client[0].execute("1 / 0", silent=False).wait(30)
            cluster.client[1].execute("import os; os._exit(3)")
            _wait_for(lambda: "exit status 3" in run_stoker("status", "lab", "--json").out)
            _wait_for(lambda: len(cluster.client.ids) == 3)
            keys |= {f"later, {name}": key for name, key in find_keys(cluster, tmp_path, encrypted=encrypted).items()}

            hunt = Hunt(keys)
            _hunt_everywhere(hunt, (tmp_path, runtime), run_stoker)
            hunt.look("what `stoker up` said", (up.out + up.err).encode())
            for name, data in watch.seen:
                hunt.look(f"{name} of something that ran while the cluster started", data)
            hunt.look("a repr", f"{cluster!r} {cluster.status()!r}".encode())

            assert hunt.found == set()
            # The three of engines, agent, supervisor, controller with 8 children, and four of each engine's tasks.
            assert hunt.looks > 3 * 20
            programs = b"".join(data for name, data in watch.seen if name == "cmdline").replace(b"\0", b" ")
            parts = (b"stoker up", b"stoker.agent ", b"stoker.launch.controller ", b"stoker.cluster.supervise ", b"-c")
            assert [part for part in parts if part not in programs] == []
    finally:
        down = run_stoker("down", "lab").check()
    hunt.look("what `stoker down` said", (down.out + down.err).encode())
    hunt.look_at_files(tmp_path)
    assert hunt.found == set()


def _hunt_everywhere(hunt: Hunt, places: Sequence[Path], run_stoker: Callable[..., Any]) -> None:
    processes = find_marked("STOKER_TEST", os.environ["STOKER_TEST"])
    assert len(processes) > 12
    hunt.look_at_processes(process.pid for process in processes if process.pid != os.getpid())
    for place in places:
        hunt.look_at_files(place)
    for words in (["status", "lab"], ["status", "lab", "--json"], ["status"], ["logs", "lab"]):
        told = run_stoker(*words)
        hunt.look(f"`stoker {' '.join(words)}`", (told.out + told.err).encode())
    (control,) = places[1].rglob("control.sock")
    assert control.stat().st_mode & 0o777 == 0o600
    for word in WORDS:
        for version in (1, 99):
            hunt.look(
                f"the answer to {word}", ask(control, json.dumps({"version": version, "do": word}).encode() + b"\n")
            )
    hunt.look("the answer to nonsense", ask(control, b"nonsense\n"))


def _wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes that are ended."""
    started: list[subprocess.Popen[bytes]] = []

    def plant(argv: list[str], **env: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(argv, env={**os.environ, **env}))
        # Both are empty for a moment while the program begins.
        for name in ("cmdline", "environ"):
            _wait_for(Path(f"/proc/{started[-1].pid}/{name}").read_bytes)
        return started[-1]

    yield plant
    for process in started:
        process.kill()
        process.wait()


KEY = "J*?e>W#Fk^5@zJ!pZ-8%uGn]4/xR{t+mQ.b}s<yC"


@pytest.mark.parametrize("form", [KEY, base64.b64encode(KEY.encode()).decode()], ids=["as it is", "base64"])
@pytest.mark.parametrize(
    ("place", "expected"),
    [
        pytest.param("argv", "planted in the cmdline of a process", id="argv"),
        pytest.param("environ", "planted in the environ of a process", id="environment"),
        pytest.param("0644", "planted in a/b.json", id="a file that others can read"),
        pytest.param("0640", "planted in a/b.json", id="a file that the group can read"),
        pytest.param("log", "planted in profile/log/b", id="a log"),
        pytest.param("answer", "planted in an answer", id="an answer"),
        pytest.param("0600", None, id="a file that its owner alone can read is its place"),
    ],
)
def test_a_planted_key_is_found(
    place: str, expected: str | None, form: str, tmp_path: Path, planted: Callable[..., subprocess.Popen[bytes]]
) -> None:
    home = tmp_path / "hunted"
    for name in ("a", "profile/log"):
        (home / name).mkdir(parents=True)
    hunt = Hunt({"planted": KEY, "other": "x" * 40})
    processes = [planted(["sleep", "60"])]
    match place:
        case "argv":
            processes.append(planted([sys.executable, "-c", "import time; time.sleep(60)", f"--key={form}"]))
        case "environ":
            processes.append(planted(["sleep", "60"], IPP_KEY=form))
        case "log":
            (home / "profile/log/b").write_text(f"using key {form}\n")
            (home / "profile/log/b").chmod(0o600)
        case "answer":
            hunt.look("an answer", json.dumps({"config": {"key": form}}).encode())
        case mode:
            (home / "a/b.json").write_text(json.dumps({"key": form}))
            (home / "a/b.json").chmod(int(mode, 8))

    hunt.look_at_processes(process.pid for process in processes)
    hunt.look_at_files(home)

    assert hunt.found == ({expected} if expected else set())
