"""``stoker bundle`` and ``stoker engines``: what they write, what they start, what they say."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stoker.cluster.join import JoinPlan
from stoker.faces import join_commands
from stoker.faces.command_line import run
from stoker.faces.screen import Screen
from stoker.profile import ProfileDirectory, find_ipython_dir

CONNECTION = {
    **{"interface": "tcp://*", "registration": 10101, "control": 1, "mux": 2, "task": 3, "iopub": 4},
    **{"broadcast": [5, 6], "hb_ping": 7, "hb_pong": 8, "signature_scheme": "hmac-sha256", "pack": "json"},
    **{"unpack": "json", "key": "", "curve_serverkey": "secret", "location": socket.gethostname(), "ssh": ""},
}


class Lines(Screen):
    """Keeps everything as text, each line with where it went."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def show(self, value: object, *, as_json: bool = False) -> None:
        self.lines.append(f"out {value}")

    def tell(self, line: str) -> None:
        self.lines.append(f"tell {line}")

    def warn(self, line: str) -> None:
        self.lines.append(f"warn {line}")

    def fail(self, text: str) -> None:
        self.lines.append(f"fail {text}")


@pytest.fixture
def screen() -> Lines:
    return Lines()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which commands are typed."""
    directory = tmp_path / "place"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def write(place: Path) -> Callable[..., Path]:
    """Writes a file as a controller, or ``stoker bundle``, does."""

    def write_file(path: Path | None = None, **changes: Any) -> Path:
        path = path or place / "lab-engines.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(CONNECTION | changes))
        path.chmod(0o600)
        return path

    return write_file


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[JoinPlan]:
    """The plans that were carried out."""
    plans: list[JoinPlan] = []
    monkeypatch.setattr(join_commands, "join_cluster", lambda plan, *, tell: plans.append(plan))
    monkeypatch.setattr(join_commands, "read_cores", lambda: type("Cores", (), {"logical": 3}))
    return plans


def name_engine_file() -> Path:
    return ProfileDirectory.named("lab").security / "ipcontroller-engine.json"


def test_a_bundle_is_written_here_and_the_next_step_is_said(
    place: Path, screen: Lines, write: Callable[..., Path]
) -> None:
    write(name_engine_file())

    code = run(["bundle", "lab"], screen)

    path = place / "lab-engines.json"
    assert code == 0
    assert json.loads(path.read_text()) == CONNECTION
    assert path.stat().st_mode & 0o777 == 0o600
    assert screen.lines == [
        "out lab-engines.json: carry it to a machine, and start engines there with: "
        "stoker engines --join lab-engines.json"
    ]


def test_a_bundle_says_where_the_controller_is_reached(place: Path, screen: Lines, write: Callable[..., Path]) -> None:
    write(name_engine_file(), interface="tcp://127.0.0.1")

    run(["bundle", "lab", "-o", "first.json"], screen)
    run(["bundle", "lab", "-o", "second.json", "--location", "head.lab"], screen)

    (warning,) = (line for line in screen.lines if line.startswith("warn"))
    assert warning == (
        "warn the controller listens at 127.0.0.1 only: on other machines this file is of no use; "
        'in the spec, [controller] ip = "ADDRESS" opens it'
    )
    assert json.loads((place / "second.json").read_text()) == CONNECTION | {"location": "head.lab"}


def test_without_a_controller_there_is_no_bundle(place: Path, screen: Lines) -> None:
    code = run(["bundle", "lab"], screen)

    assert code == 1
    assert screen.lines == [f"fail stoker: no controller runs here: there is no connection file {name_engine_file()}"]
    assert list(place.iterdir()) == []


def test_engines_are_one_per_core_and_use_one_thread_each(
    place: Path, home: Path, screen: Lines, write: Callable[..., Path], joined: list[JoinPlan]
) -> None:
    code = run(["engines", "--join", str(write())], screen)

    (plan,) = joined
    logs = home / ".local" / "state" / "stoker" / "joined"
    assert code == 0
    assert (plan.count, plan.settings.lease, plan.profile, plan.work_dir) == (3, 120.0, None, place)
    assert plan.bundle.connection == CONNECTION | {"interface": "tcp://127.0.0.1"}
    assert plan.env["OMP_NUM_THREADS"] == "1"
    assert (plan.logs, logs.stat().st_mode & 0o777) == (logs, 0o700)
    assert screen.lines == [f"tell starting 3 engines; logs are in {logs} ..."]


def test_what_is_said_about_engines_is_done(
    place: Path, screen: Lines, write: Callable[..., Path], joined: list[JoinPlan]
) -> None:
    (find_ipython_dir() / "profile_night").mkdir(parents=True)
    words = ["-n", "1", "--lease", "30", "--logs", "logs", "--profile", "night", "--location", "192.0.2.7"]
    code = run(["engines", "--join", str(write(curve_serverkey="")), *words], screen)

    (plan,) = joined
    assert code == 0
    assert (plan.count, plan.settings.lease, plan.logs) == (1, 30.0, place / "logs")
    assert plan.profile == find_ipython_dir() / "profile_night"
    assert plan.bundle.connection["interface"] == "tcp://192.0.2.7"
    assert plan.env == {}
    assert screen.lines[0] == (
        "warn the controller is not encrypted: all that engines say and hear crosses the network as it is"
    )


def test_a_profile_that_is_not_there_is_said_before_anything_starts(
    screen: Lines, write: Callable[..., Path], joined: list[JoinPlan]
) -> None:
    code = run(["engines", "--join", str(write()), "--profile", "night"], screen)

    assert code == 1
    assert joined == []
    assert screen.lines == [
        f"fail stoker: night: there is no profile {find_ipython_dir() / 'profile_night'} on this machine"
    ]


def test_without_a_file_nothing_is_started(screen: Lines, place: Path, joined: list[JoinPlan]) -> None:
    codes = [run(["engines"], screen), run(["engines", "--join", "missing.json"], screen)]

    assert codes == [2, 1]
    assert joined == []
    assert screen.lines == ["fail stoker: missing.json: cannot be read: No such file or directory"]
