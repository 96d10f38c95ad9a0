"""The commands for a cluster that runs: what they ask for, what they show, and how they exit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stoker.cluster import Address, Cluster
from stoker.cluster.log_view import LogLine
from stoker.errors import NotRunningError, SupervisorError
from stoker.faces import cluster_commands
from stoker.faces.command_line import run
from stoker.faces.magics import StokerMagics
from stoker.faces.screen import Screen
from stoker.profile import ProfileDirectory, find_ipython_dir


class Lines(Screen):
    """Keeps everything as text, each line with where it went."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def show(self, value: object, *, as_json: bool = False) -> None:
        self.lines.append(f"json {json.dumps(value)}" if as_json and not isinstance(value, tuple) else f"out {value}")

    def stream(self, line: str) -> None:
        self.lines.append(f"stream {line}")

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
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was asked of a cluster ``lab``, which answers everything."""
    calls: list[tuple[Any, ...]] = []

    class FakeCluster:
        def __init__(self, address: Address, *, started: bool) -> None:
            assert not started
            self.name = address.name

        def scale(self, count: int, *, group: int | None) -> dict[str, Any]:
            calls.append((self.name, "scale", count, group))
            return {
                "added": [2, 3] if count == 4 else [],
                "leaving": [1, 0] if count == 1 else [],
                "wanted": count,
            }

        def restart(self, *, engine: int | None, controller: bool) -> list[str]:
            calls.append((self.name, "restart", engine, controller))
            return ["controller"] if controller else [f"engine {n}" for n in ([0, 1] if engine is None else [engine])]

        def interrupt(self, engine: int | None) -> list[int]:
            calls.append((self.name, "interrupt", engine))
            if engine == 9:
                raise SupervisorError("no engine 9; there are: 0, 1")
            return [0, 1] if engine is None else []

    def find(profile: str | None, *, ipython_dir: Path | None) -> Address:
        return Address(directory=ProfileDirectory.named(profile or "lab", ipython_dir=ipython_dir), cluster_id="")

    monkeypatch.setattr(cluster_commands, "Cluster", FakeCluster)
    monkeypatch.setattr(cluster_commands, "find_cluster", find)
    return calls


@pytest.mark.parametrize(
    ("words", "call", "lines"),
    [
        ("scale 4", ("lab", "scale", 4, None), ["out started engine 2, 3\n4 engines are wanted"]),
        (
            "scale 1 other --group 1",
            ("other", "scale", 1, 1),
            ["out leaving when idle: engine 0, 1\n1 engine is wanted"],
        ),
        ("scale 2", ("lab", "scale", 2, None), ["out nothing was changed\n2 engines are wanted"]),
        (
            "scale 4 --json",
            ("lab", "scale", 4, None),
            ['json {"added": [2, 3], "leaving": [], "wanted": 4}'],
        ),
        ("restart", ("lab", "restart", None, False), ["out started again: engine 0, engine 1"]),
        ("restart other --engine 3", ("other", "restart", 3, False), ["out started again: engine 3"]),
        ("restart --controller", ("lab", "restart", None, True), ["out started again: controller"]),
        ("restart --controller --json", ("lab", "restart", None, True), ['json {"restarted": ["controller"]}']),
        ("interrupt", ("lab", "interrupt", None), ["out interrupted: engine 0, 1"]),
        ("interrupt other --engine 1", ("other", "interrupt", 1), ["out interrupted: no engine"]),
        ("interrupt --json", ("lab", "interrupt", None), ['json {"engines": [0, 1]}']),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_command_makes_one_call_and_shows_what_it_gave(
    words: str, call: tuple[Any, ...], lines: list[str], asked: list[tuple[Any, ...]], screen: Lines
) -> None:
    code = run(words.split(), screen)

    assert (code, asked, screen.lines) == (0, [call], lines)


def test_what_a_supervisor_refuses_is_one_message_and_exits_with_1(asked: list[tuple[Any, ...]], screen: Lines) -> None:
    code = run(["interrupt", "--engine", "9"], screen)

    assert (code, screen.lines) == (1, ["fail stoker: no engine 9; there are: 0, 1"])


@pytest.mark.parametrize("words", ["scale 2", "restart", "interrupt", "logs", "logs --follow"])
def test_without_a_cluster_each_says_so_and_exits_with_1(words: str, screen: Lines) -> None:
    codes = [run(words.split(), screen), run([*words.split(), "lab"], screen)]

    nothing, unknown = screen.lines
    assert codes == [1, 1]
    assert nothing == f"fail stoker: no cluster runs below {find_ipython_dir()}; start one with: stoker up"
    assert unknown.startswith("fail stoker: lab: no cluster that stoker started runs under this profile")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("scale", "Missing argument 'N'"),
        ("scale many", "Invalid value for 'N'"),
        ("restart --engine 0 --controller", "--engine and --controller: give one of them"),
        ("restart --engine -1", "Invalid value for '--engine'"),
        ("logs -n -1", "Invalid value for '--lines'"),
    ],
)
def test_words_that_make_no_command_exit_with_2(
    words: str, problem: str, screen: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(words.split(), screen)

    assert (code, screen.lines) == (2, [])
    assert problem in capsys.readouterr().err


# Logs.


@pytest.fixture
def logs(asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Two logs of which one is empty; keeps what was chosen."""
    chosen: dict[str, Any] = {}
    (tmp_path / "controller.log").write_text("one\ntwo\nthree\n")

    def choose(address: Address, **choice: Any) -> dict[str, Path]:
        chosen.update(name=address.name, **choice)
        found = {"controller": tmp_path / "controller.log", "engine 0": tmp_path / "engine.log"}
        return {"engine 0": found["engine 0"]} if choice["engine"] == 0 else found

    def follow(choose: Callable[[], Mapping[str, Path]], *, lines: int) -> Iterator[LogLine]:
        yield LogLine(origin=f"engine {len(choose())}", text=f"{lines} lines")
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster_commands, "choose_logs", choose)
    monkeypatch.setattr(cluster_commands, "follow_logs", follow)
    return chosen


def test_logs_are_shown_with_their_origins(logs: dict[str, Any], screen: Lines) -> None:
    code = run(["logs", "other", "-n", "2", "--supervisor", "--agent"], screen)

    assert (code, screen.lines) == (0, ["out controller | two\ncontroller | three"])
    assert logs == {"name": "other", "engine": None, "controller": False, "supervisor": True, "agent": True}


def test_where_all_chosen_logs_are_empty_their_files_are_named(
    logs: dict[str, Any], screen: Lines, tmp_path: Path
) -> None:
    code = run(["logs", "--engine", "0"], screen)

    assert (code, screen.lines) == (0, [f"out engine 0 | nothing in {tmp_path}/engine.log"])


@pytest.mark.parametrize(
    ("more", "line"),
    [([], "engine 2 | 7 lines"), (["--json"], '{"origin": "engine 2", "text": "7 lines"}')],
    ids=["text", "json"],
)
def test_followed_logs_are_shown_line_by_line_until_ctrl_c(
    more: list[str], line: str, logs: dict[str, Any], screen: Lines
) -> None:
    code = run(["logs", "-f", "-n", "7", *more], screen)

    assert (code, screen.lines) == (130, [f"stream {line}", "fail stoker: interrupted"])


def test_in_ipython_followed_logs_are_shown_as_they_come(
    logs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    magics = StokerMagics(shell=None)

    with pytest.raises(KeyboardInterrupt):
        magics.stoker("logs --follow")

    assert capsys.readouterr().out == "engine 2 | 10 lines\n"


def test_in_ipython_a_command_gives_what_it_shows(asked: list[tuple[Any, ...]]) -> None:
    magics = StokerMagics(shell=None)
    magics.shell = SimpleNamespace(user_ns={})

    shown = magics.stoker("restart --engine 1")

    assert repr(shown) == "started again: engine 1"


def test_an_object_of_a_cluster_reads_its_logs() -> None:
    cluster = Cluster(Address(directory=ProfileDirectory.named("lab"), cluster_id=""), started=False)

    with pytest.raises(NotRunningError, match="the logs of ended ones are in"):
        cluster.logs(3, lines=5)
