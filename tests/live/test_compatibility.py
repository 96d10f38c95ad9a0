"""It stays an ipyparallel cluster: what plain ipyparallel users do works on one that stoker started, and back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from stoker.cluster.record import read_record, record_file
from stoker.launch import ConnectionFiles
from stoker.profile import ProfileDirectory, apply_plan, find_ipython_dir, read_plan
from stoker.spec import parse_spec

pytestmark = pytest.mark.live

SOON = 60.0
"""Seconds that an answer may take on a busy machine."""
SPEC = parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": 2}]})
SMALL = parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": 1}]})
TUTORIAL = """
import time
import ipyparallel
client = ipyparallel.Client(profile={profile!r}, timeout=30)
# A client that connects while an engine registers may never hear of that one.
deadline = time.monotonic() + 60
while len(client.ids) < 2 and time.monotonic() < deadline:
    client.close()
    time.sleep(0.2)
    client = ipyparallel.Client(profile={profile!r}, timeout=30)
client.wait_for_engines(2, timeout=60, interactive=False)
view = client.load_balanced_view()
result = view.map(lambda x: sum(range(x)), range(10), block=False)
assert result.wait(60)
print(client.ids, list(result))
"""
SUMS = "[0, 1] [0, 0, 1, 3, 6, 10, 15, 21, 28, 36]\n"


def lab() -> ProfileDirectory:
    return ProfileDirectory.named("lab")


def read_pids(directory: ProfileDirectory) -> list[int]:
    record = read_record(record_file(directory, ""))
    assert record is not None
    return [process.pid for process in record.processes()]


def connect_plainly(run: Callable[..., Any], profile: str) -> str:
    """What the tutorial's lines print in a Python of their own."""
    ran = run(sys.executable, "-c", TUTORIAL.format(profile=profile))
    assert ran.code == 0, ran.err
    return str(ran.out)


# What stoker started, used plainly.


def test_a_plain_client_finds_the_cluster_by_its_profiles_name(shared_dir: Path, run: Callable[..., Any]) -> None:
    printed = connect_plainly(run, "shared")

    assert printed == SUMS


def test_ipcluster_list_shows_the_cluster(
    shared_dir: Path, run: Callable[..., Any], programs: Callable[[str], str]
) -> None:
    ran = run(programs("ipcluster"), "list").check()
    data = run(programs("ipcluster"), "list", "-o", "json").check().data

    heading, row = (line.split() for line in ran.out.splitlines())
    assert heading == ["PROFILE", "CLUSTER", "ID", "RUNNING", "ENGINES", "LAUNCHER"]
    # The cluster id is empty, and shown as two quotes.
    assert row == ["shared", "''", "True", "2", "Stoker"]
    # Whoever stops controller or engines is to reach the one who keeps both.
    record = read_record(record_file(ProfileDirectory.named("shared"), ""))
    assert record is not None
    assert record.supervisor is not None
    assert [entry["controller"]["state"]["pid"] for entry in data] == [record.supervisor.pid]
    assert [entry["cluster"]["n"] for entry in data] == [2]


def test_px_works_in_a_real_ipython(
    shared_dir: Path, tmp_path: Path, run: Callable[..., Any], programs: Callable[[str], str]
) -> None:
    script = tmp_path / "lines.ipy"
    script.write_text(
        textwrap.dedent("""
        import ipyparallel
        client = ipyparallel.Client(profile='shared', timeout=30)
        %px value = 6 * 7
        %px print(value)
        print('here:', client[:].pull('value', block=True))
        """)
    )

    ran = run(programs("ipython"), "--no-banner", "--colors=NoColor", script).check()

    # Engines print in any order.
    assert sorted(ran.out.split()) == sorted(["[stdout:0]", "42", "[stdout:1]", "42", "here:", "[42,", "42]"])


@pytest.mark.parametrize("owner", ["a command that has ended", "a Python that lives on"])
def test_ipcluster_stop_ends_the_cluster_and_stoker_sees_it(
    owner: str,
    tmp_path: Path,
    start: Callable[..., Any],
    run: Callable[..., Any],
    run_stoker: Callable[..., Any],
    programs: Callable[[str], str],
    processes: Callable[[], list[str]],
    wait_until: Callable[..., Any],
) -> None:
    apply_plan(read_plan(SMALL))
    if owner == "a command that has ended":
        run_stoker("up", "lab").check()
    else:
        start("lab")

    begin = time.monotonic()
    stopped = run(programs("ipcluster"), "stop", "--profile=lab")
    seconds = time.monotonic() - begin
    wait_until(lambda: processes() == [])
    status = run_stoker("status", "lab", "--json").check().data
    again = start("lab")

    assert stopped.code == 0, stopped.err
    assert seconds < 20
    assert (status["state"], status["engines"]) == ("stopped", [])
    assert again.started


# What stoker applied, started plainly.


@pytest.fixture
def background(wait_until: Callable[..., Any]) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts programs that run until the test ends them; ends those that run on."""
    started: list[subprocess.Popen[bytes]] = []

    def launch(*argv: str) -> subprocess.Popen[bytes]:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen(argv, start_new_session=True, **quiet))  # type: ignore[call-overload]
        return started[-1]

    yield launch

    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(SOON)
    # ipcontroller leaves them behind.
    ConnectionFiles.of(lab(), "").remove()


def test_the_tutorials_own_way_works_on_an_applied_profile(
    background: Callable[..., subprocess.Popen[bytes]],
    run: Callable[..., Any],
    programs: Callable[[str], str],
    wait_until: Callable[..., Any],
    processes: Callable[[], list[str]],
) -> None:
    apply_plan(read_plan(SPEC))

    controller = background(programs("ipcontroller"), "--profile=lab")
    wait_until(ConnectionFiles.of(lab(), "").engine.exists)
    engines = background(programs("ipcluster"), "engines", "--profile=lab", "-n", "2")
    printed = connect_plainly(run, "lab")
    keys = _keys_of(lab())
    # Ctrl-C in the shell of `ipcluster engines` only interrupts what the engines are doing.
    engines.send_signal(signal.SIGTERM)
    engines.wait(SOON)
    controller.send_signal(signal.SIGINT)
    controller.wait(SOON)

    assert printed == SUMS
    assert keys["curve_serverkey"]
    wait_until(lambda: processes() == [])


def test_ipcluster_start_works_on_an_applied_profile(
    run: Callable[..., Any],
    programs: Callable[[str], str],
    processes: Callable[[], list[str]],
    wait_until: Callable[..., Any],
) -> None:
    apply_plan(read_plan(SPEC))

    run(programs("ipcluster"), "start", "--profile=lab", "--daemonize").check()
    printed = connect_plainly(run, "lab")
    found = hunt(_secrets(lab()), pids=_mine(), below=find_ipython_dir())
    stopped = run(programs("ipcluster"), "stop", "--profile=lab")
    ConnectionFiles.of(lab(), "").remove()  # which it leaves behind

    assert printed == SUMS
    assert found == []
    assert stopped.code == 0, stopped.err
    wait_until(lambda: processes() == [])


# Where keys are.

_PLACES = ("environ", "cmdline")


def hunt(secrets: Iterable[str], *, pids: Iterable[int], below: Path) -> list[str]:
    """Find secrets in the environments and arguments of processes, and in files outside ``security``."""
    wanted = [secret.encode() for secret in secrets]
    places = [Path(f"/proc/{pid}/{name}") for pid in pids for name in _PLACES]
    places += [path for path in below.rglob("*") if path.is_file() and path.parent.name != "security"]
    return sorted(str(place) for place in places if any(secret in place.read_bytes() for secret in wanted))


def _keys_of(directory: ProfileDirectory) -> dict[str, str]:
    data = json.loads(ConnectionFiles.of(directory, "").engine.read_text())
    return {name: value for name, value in data.items() if name in ("key", "curve_serverkey")}


def _secrets(directory: ProfileDirectory) -> list[str]:
    secrets = [value for value in _keys_of(directory).values() if value]
    assert secrets
    assert all(len(secret) >= 32 for secret in secrets)
    return secrets


def _mine() -> list[int]:
    """The processes of this test but this one."""
    mark = f"STOKER_TEST={os.environ['STOKER_TEST']}".encode()
    found = []
    for process in psutil.process_iter():
        try:
            if mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                found.append(process.pid)
        except OSError:
            continue
    return found


def test_no_key_is_in_an_environment_an_argument_or_a_log(shared_dir: Path) -> None:
    directory = ProfileDirectory.named("shared")
    pids = read_pids(directory)

    found = hunt(_secrets(directory), pids=pids, below=shared_dir)

    assert len(pids) == 13  # supervisor, hub, heart monitor, seven relays and schedulers, agent, two engines
    assert (directory.log / "ipcontroller.log").read_bytes()
    assert found == []
    assert _modes(directory) == OWNER_ALONE | {"ipcontroller-keys.json": 0o600}


def test_without_encryption_the_key_that_lets_in_is_no_more_in_the_open(start: Callable[..., Any]) -> None:
    unencrypted = {"cluster": {"profile": "lab"}, "controller": {"encryption": False}, "engines": [{"count": 1}]}
    with pytest.warns(UserWarning, match="encryption = false"):
        start(parse_spec(unencrypted))

    found = hunt(_secrets(lab()), pids=read_pids(lab()), below=find_ipython_dir())

    assert _secrets(lab()) == [_keys_of(lab())["key"]]
    assert found == []
    assert _modes(lab()) == OWNER_ALONE


def _modes(directory: ProfileDirectory) -> dict[str, int]:
    """The permissions of the directory for connection files and of what is in it."""
    return {path.name: path.stat().st_mode & 0o777 for path in (directory.security, *directory.security.iterdir())}


OWNER_ALONE = {
    "security": 0o700,
    **dict.fromkeys(("cluster-.json", "ipcontroller-client.json", "ipcontroller-engine.json"), 0o600),
}


def test_the_hunt_for_keys_finds_one_that_was_planted(tmp_path: Path, wait_until: Callable[..., Any]) -> None:
    secret = "0123456789abcdef0123456789abcdef"
    (tmp_path / "log").mkdir()
    (tmp_path / "security").mkdir()
    (tmp_path / "security" / "engine.json").write_text(secret)
    (tmp_path / "log" / "some.log").write_text(f"key: {secret}\n")
    with (
        subprocess.Popen(["sleep", "600"], env={**os.environ, "IPP_CONNECTION_INFO": secret}) as by_environment,
        subprocess.Popen(["tail", "-f", "/dev/null", secret], stderr=subprocess.DEVNULL) as by_argument,
    ):
        pids = [by_environment.pid, by_argument.pid]
        # A process that is just being started has neither for a moment.
        wait_until(lambda: all(Path(f"/proc/{pid}/{name}").read_bytes() for pid in pids for name in _PLACES))
        found = hunt([secret], pids=pids, below=tmp_path)
        by_environment.kill()
        by_argument.kill()

    expected = [tmp_path / "log" / "some.log"]
    expected += [Path(f"/proc/{by_environment.pid}/environ"), Path(f"/proc/{by_argument.pid}/cmdline")]
    assert found == sorted(str(place) for place in expected)
