"""The command line: what it parses, what it shows, and how it exits."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stoker
from stoker.cluster import Started, Stopped
from stoker.errors import StartError
from stoker.faces import command_line
from stoker.faces.command_line import run
from stoker.faces.screen import Screen
from stoker.profile import Plan, ProfileDirectory, find_ipython_dir
from stoker.spec import ClusterSpec
from stoker.system.locks import hold_lock

OPTIONS = {
    "": {"--version", "--install-completion", "--show-completion"},
    "plan": {"--ipython-dir", "--json"},
    "apply": {"--ipython-dir", "--json"},
    "up": {"--ipython-dir", "--json", "--wait"},
    "status": {"--ipython-dir", "--json"},
    "down": {"--ipython-dir", "--json", "--wait"},
    "run": {
        *("--ipython-dir", "--json", "--via", "--n", "--times", "--serial-times", "--count", "--timeout"),
        "--journal",
    },
    "bench": set(),
    "scale": {"--ipython-dir", "--json", "--group"},
    "restart": {"--ipython-dir", "--json", "--engine", "--controller"},
    "interrupt": {"--ipython-dir", "--json", "--engine"},
    "logs": {
        *("--ipython-dir", "--json", "--follow", "--lines"),
        *("--engine", "--controller", "--supervisor", "--agent"),
    },
    "bundle": {"--ipython-dir", "--output", "--location"},
    "engines": {"--join", "--count", "--location", "--profile", "--lease", "--logs"},
    "journal": set(),
    "journal show": {"--json"},
    "journal export": set(),
    "bench start": {"--engines", "--rounds", "--timeout", "--only", "--output", "--json", "--idle"},
}


class FakeScreen(Screen):
    """Keeps everything, in order."""

    def __init__(self) -> None:
        self.shown: list[tuple[object, bool]] = []
        self.told: list[str] = []
        self.warned: list[str] = []
        self.failed: list[str] = []

    def show(self, value: object, *, as_json: bool = False) -> None:
        self.shown.append((value, as_json))

    def tell(self, line: str) -> None:
        self.told.append(line)

    def warn(self, line: str) -> None:
        self.warned.append(line)

    def fail(self, text: str) -> None:
        self.failed.append(text)


@pytest.fixture
def screen() -> FakeScreen:
    return FakeScreen()


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text("[[engines]]\ncount = 1\n")
    return path


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal on which no line of a help text is folded."""
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TERMINAL_WIDTH", "400")


# Help and usage.


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("command", OPTIONS, ids=lambda command: command or "stoker")
def test_help_names_every_option_of_the_command(
    command: str, screen: FakeScreen, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run([*command.split(), "--help"], screen)

    out = capsys.readouterr().out
    assert code == 0
    assert set(re.findall(r"--[a-z][a-z-]*", out)) == OPTIONS[command] | {"--help"}
    assert f"Usage: stoker {command}".rstrip() in out


@pytest.mark.usefixtures("wide")
def test_help_lists_every_command_with_what_it_does(screen: FakeScreen, capsys: pytest.CaptureFixture[str]) -> None:
    run(["--help"], screen)

    out = capsys.readouterr().out
    commands = [name for name in OPTIONS if name and " " not in name]
    assert [name for name in commands if not re.search(rf"^│ {name} +\S.*\.", out, re.MULTILINE)] == []


@pytest.mark.usefixtures("wide")
def test_help_tells_the_defaults_of_the_workloads(screen: FakeScreen, capsys: pytest.CaptureFixture[str]) -> None:
    run(["run", "--help"], screen)

    out = capsys.readouterr().out
    assert re.findall(r"--(\S+) .*Default: (\d+)\.", out) == [
        ("n", "10000000"),
        ("times", "100"),
        ("serial-times", "10"),
        ("count", "1000"),
    ]


def test_the_version_is_printed(screen: FakeScreen, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["--version"], screen)

    assert (code, capsys.readouterr().out) == (0, f"stoker {stoker.__version__}\n")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        pytest.param([], "Usage: stoker [OPTIONS] COMMAND", id="no command"),
        pytest.param(["upp"], "No such command 'upp'.", id="an unknown command"),
        pytest.param(["up", "--jason"], "No such option: --jason", id="an unknown option"),
        pytest.param(["up", "a.toml", "b.toml"], "(b.toml)", id="one word too many"),
        pytest.param(["up", "--wait", "soon"], "Invalid value for '--wait'", id="no number"),
        pytest.param(["up", "--wait", "-1"], "Invalid value for '--wait'", id="a number out of range"),
        pytest.param(["run"], "Missing argument", id="one word too few"),
        pytest.param(["run", "product"], "no workload 'product'; there are: sum, primes, all", id="no workload"),
        pytest.param(["bench", "start", "--only", "slurm"], "no contender 'slurm'", id="no contender"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(
    words: list[str], problem: str, screen: FakeScreen, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(words, screen)

    captured = capsys.readouterr()
    assert code == 2
    assert problem in captured.out + captured.err
    assert "Traceback" not in captured.err
    assert (screen.shown, screen.failed) == ([], [])


# Errors.


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["up", "missing.toml"], "missing.toml: cannot be read: No such file or directory"),
        (["plan", "missing.toml"], "missing.toml: cannot be read: No such file or directory"),
        (["apply", "missing.toml"], "missing.toml: cannot be read: No such file or directory"),
        (["down"], "no cluster runs below {ipython_dir}; start one with: stoker up"),
        (["down", "lab"], "lab: no cluster that stoker started runs under this profile"),
        (["run", "sum"], "no cluster runs below {ipython_dir}; start one with: stoker up"),
        (["run", "sum", "lab"], "lab: no cluster runs under this profile; start it with: stoker up"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_exits_with_1_and_is_one_message(words: list[str], problem: str, screen: FakeScreen) -> None:
    code = run(words, screen)

    assert code == 1
    assert screen.failed == [f"stoker: {problem.format(ipython_dir=find_ipython_dir())}"]
    assert screen.shown == []


def test_all_faults_of_a_spec_are_told_at_once(tmp_path: Path, screen: FakeScreen) -> None:
    path = tmp_path / "lab.toml"
    path.write_text('[controller]\nscheduler = "leastlaod"\n[[engines]]\ncount = 0\n')

    code = run(["up", str(path)], screen)

    first, second = screen.failed[0].splitlines()
    assert code == 1
    assert first.startswith(f"stoker: {path}: controller.scheduler: must be one of ")
    assert second == f'{path}: engines[0].count: must be a number from 1 to 10000, "cores" or "physical", got 0'


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StartError("profile", "no room")], ids=["interrupt", "failure"])
def test_a_start_that_is_interrupted_exits_with_130_and_one_that_fails_with_1(
    error: BaseException, spec: Path, screen: FakeScreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(command_line, "start_cluster", fail)

    code = run(["up", str(spec)], screen)

    interrupted = isinstance(error, KeyboardInterrupt)
    assert code == (130 if interrupted else 1)
    assert screen.failed == ["stoker: interrupted" if interrupted else "stoker: profile: no room"]


# Plan and apply.


def test_plan_shows_the_plan_and_changes_nothing(spec: Path, screen: FakeScreen, home: Path) -> None:
    code = run(["plan", str(spec)], screen)

    ((plan, as_json),) = screen.shown
    assert (code, as_json) == (0, False)
    assert isinstance(plan, Plan)
    assert plan.directory == ProfileDirectory.named("lab")
    assert len(plan.changes) == 6
    assert list(home.iterdir()) == []


def test_apply_names_what_it_created_then_what_it_changed_then_that_nothing_changes(
    spec: Path, screen: FakeScreen
) -> None:
    path = ProfileDirectory.named("lab").path
    names = ["ipcontroller_config.py", "ipengine_config.py", "ipcluster_config.py"]
    names += ["ipython_config.py", "ipython_kernel_config.py", "stoker.toml"]

    codes = [run(["apply", str(spec)], screen)]
    spec.write_text("[[engines]]\ncount = 2\n")
    codes += [run(["apply", str(spec)], screen), run(["apply", "lab"], screen)]

    created = [f"created {path / name}" for name in names]
    changed = [f"changed {path / name}" for name in ("ipcluster_config.py", "stoker.toml")]
    *lines, (last, _) = screen.shown
    assert codes == [0, 0, 0]
    assert [line for line, _ in lines] == created + changed
    assert isinstance(last, Plan)
    assert not last


def test_apply_as_json_is_one_document(spec: Path, screen: FakeScreen) -> None:
    run(["apply", str(spec), "--json"], screen)

    ((plan, as_json),) = screen.shown
    assert (type(plan), as_json) == (Plan, True)


@pytest.mark.parametrize("command", ["plan", "apply"])
def test_a_spec_that_is_not_encrypted_brings_a_warning(command: str, tmp_path: Path, screen: FakeScreen) -> None:
    path = tmp_path / "lab.toml"
    path.write_text("[controller]\nencryption = false\n")

    code = run([command, str(path)], screen)

    assert code == 0
    assert [line.partition(":")[0] for line in screen.warned] == ["encryption = false"]


def test_a_directory_for_profiles_is_taken_from_the_option(spec: Path, screen: FakeScreen, tmp_path: Path) -> None:
    run(["apply", str(spec), "--ipython-dir", str(tmp_path / "here")], screen)

    assert (tmp_path / "here" / "profile_lab" / "stoker.toml").exists()


# Up, status and down, with nothing that runs.


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Takes the place of starting; keeps what it was asked for."""
    asked: dict[str, Any] = {}

    class FakeStarted:
        notices = ("mind the gap",)

    def fake(spec: ClusterSpec, *, source: str, wait: float, on_stage: Callable[[str], None]) -> Any:
        asked.update(spec=spec, source=source, wait=wait)
        on_stage("profile")
        return FakeStarted()

    monkeypatch.setattr(command_line, "start_cluster", fake)
    return asked


def test_up_tells_its_stages_warns_and_shows_what_came_up(
    spec: Path, started: dict[str, Any], screen: FakeScreen
) -> None:
    code = run(["up", str(spec), "--wait", "3.5", "--json"], screen)

    ((value, as_json),) = screen.shown
    assert code == 0
    assert (started["spec"].cluster.profile, started["source"], started["wait"]) == ("lab", str(spec), 3.5)
    assert (screen.told, screen.warned) == (["profile ..."], ["mind the gap"])
    assert (type(value).__name__, as_json) == ("FakeStarted", True)


def test_up_without_a_spec_is_the_default_one(started: dict[str, Any], screen: FakeScreen) -> None:
    run(["up"], screen)

    assert (started["spec"], started["source"], started["wait"]) == (ClusterSpec(), "default spec", 120.0)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["status"], ("no cluster runs; start one with: stoker up", False)),
        (["status", "--json"], ((), True)),
    ],
    ids=["text", "json"],
)
def test_status_where_nothing_runs_says_so(words: list[str], shown: tuple[Any, bool], screen: FakeScreen) -> None:
    code = run(words, screen)

    assert (code, screen.shown) == (0, [shown])


def test_status_of_a_profile_where_nothing_runs_is_stopped(screen: FakeScreen) -> None:
    code = run(["status", "lab"], screen)

    ((status, as_json),) = screen.shown
    assert (code, as_json) == (0, False)
    assert (status.name, status.state) == ("lab", "stopped")  # type: ignore[attr-defined]


def test_the_values_that_commands_show_are_known_to_them() -> None:
    # What the fakes above stand for.
    assert {"notices", "address", "record", "new"} <= set(Started.__dataclass_fields__)
    assert {"address", "processes", "killed"} <= set(Stopped.__dataclass_fields__)


# Both ends of a lock, without a cluster.


def test_up_that_does_not_want_to_wait_names_the_holder(spec: Path, screen: FakeScreen) -> None:
    run(["apply", str(spec)], screen)
    lock = ProfileDirectory.named("lab").pid / "stoker.lock"

    with hold_lock(lock, wait=0, purpose="stoker down"):
        code = run(["up", str(spec), "--wait", "0"], screen)

    assert code == 1
    assert screen.failed[0].startswith("stoker: profile_lab: stoker down (process ")
