from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from stoker.faces.command_line import run
from stoker.faces.screen import Collector
from stoker.spec.schema import render_schema
from stoker.spec.template import render_template


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _run(*words: str) -> tuple[int, list[object], str]:
    """The exit code of a command, the values it shows, and what it writes beside them."""
    written: list[str] = []
    screen = Collector(written.append)
    code = run(list(words), screen)
    return code, screen.values, "\n".join(written)


@pytest.mark.parametrize("name", ["lab", "lab.toml", "./lab"])
def test_init_writes_a_spec_to_start_from(name: str) -> None:
    code, (said,), problems = _run("init", name)

    assert (code, problems) == (0, "")
    assert said == "wrote lab.toml; change what you like, then: stoker up lab.toml"
    assert Path("lab.toml").read_text() == render_template("lab")


def test_init_never_replaces_a_file_unless_it_is_told_to() -> None:
    Path("lab.toml").write_text("mine")

    refused = _run("init", "lab")
    kept = Path("lab.toml").read_text()
    forced = _run("init", "lab", "--force")

    problem = "stoker: lab.toml: is there already; take another name, or --force to replace it"
    assert (refused, kept) == ((1, [], problem), "mine")
    assert forced[0] == 0
    assert Path("lab.toml").read_text() == render_template("lab")


def test_init_prints_the_spec_where_it_is_asked_to() -> None:
    code, (text,), _ = _run("init", "lab", "--stdout")

    assert code == 0
    assert text == render_template("lab").rstrip("\n")
    assert not Path("lab.toml").exists()


def test_init_refuses_a_name_that_no_profile_can_have() -> None:
    code, shown, problem = _run("init", "my lab")

    assert (code, shown) == (1, [])
    assert problem.startswith("stoker: profile 'my lab': cluster.profile: must be made of letters, digits")
    assert list(Path().iterdir()) == [Path("home")]


def test_a_spec_that_init_wrote_is_planned(home: Path) -> None:
    _run("init", "lab")

    code, (plan,), problems = _run("plan", "lab.toml")

    assert (code, problems) == (0, "")
    assert plan.directory.path == home / "ipython" / "profile_lab"


def test_schema_prints_json() -> None:
    code, shown, written = _run("schema")

    assert (code, shown) == (0, [])
    assert json.loads(written) == render_schema()


def test_explain_setting_prints_json() -> None:
    code, _, written = _run("explain-setting", "TaskScheduler.hwm", "--json")

    data = json.loads(written)
    assert code == 0
    assert data["traits"][0]["key"] == "controller.hwm"
    assert data["traits"][0]["trait"]["default"] == "1"
    assert data["traits"][0]["origins"] == []


def test_explain_setting_says_where_a_value_comes_from(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from stoker.faces.screen import Terminal

    Path("lab.toml").write_text("[controller]\nhwm = 3\n")
    _run("apply", "lab.toml")

    code = run(["explain-setting", "hwm", "--profile", "lab"], Terminal())

    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    path = home / "ipython" / "profile_lab" / "ipcontroller_config.py"
    number = path.read_text().splitlines().index("c.TaskScheduler.hwm = 3") + 1
    assert code == 0
    assert lines[0] == "key of the spec controller.hwm"
    assert lines[4:9] == [
        "setting c.TaskScheduler.hwm",
        "type Int",
        "default 1",
        "files ipcontroller_config.py",
        "in the spec controller.hwm",
    ]
    assert lines[-1] == f"value in ipcontroller 3 ({path}:{number}: c.TaskScheduler.hwm, stoker's block)"


def test_explain_setting_shows_a_key_that_sets_no_trait(capsys: pytest.CaptureFixture[str]) -> None:
    from stoker.faces.screen import Terminal

    code = run(["explain-setting", "queue.lease"], Terminal())

    out, err = capsys.readouterr()
    assert (code, [" ".join(line.split()) for line in out.splitlines()], err) == (
        0,
        [
            "key of the spec queue.lease",
            "default 30.0",
            "Seconds of silence after which a worker's jobs are given to others.",
        ],
        "",
    )


def test_explain_setting_shows_a_key_whose_default_is_found_out(capsys: pytest.CaptureFixture[str]) -> None:
    from stoker.faces.screen import Terminal

    code = run(["explain-setting", "controller.heartbeat.limit"], Terminal())

    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert lines[:3] == [
        "key of the spec controller.heartbeat.limit",
        "default not given",
        "sets HeartMonitor.max_heartmonitor_misses, IPEngine.max_heartbeat_misses",
    ]
    assert lines.count("in the spec controller.heartbeat.limit") == 2


def test_explain_setting_lists_the_classes_of_a_common_name(capsys: pytest.CaptureFixture[str]) -> None:
    from stoker.faces.screen import Terminal

    code = run(["explain-setting", "log_level"], Terminal())

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert any(line.split()[:2] == ["IPController.log_level", "Enum"] for line in lines)
    assert any(line.split()[:2] == ["IPEngine.log_level", "Enum"] for line in lines)


def test_explain_setting_says_what_may_be_meant() -> None:
    assert _run("explain-setting", "TaskScheduler.hmw") == (
        1,
        [],
        "stoker: TaskScheduler.hmw: no setting of ipyparallel, IPython, ipykernel or a spec; "
        "did you mean 'TaskScheduler.hwm'?",
    )


def test_the_template_reads_as_toml_without_marks_too() -> None:
    text = "\n".join(
        line[1:] if line[:1] == "#" and line[1:2] != " " else line for line in render_template("lab").splitlines()
    )

    assert set(tomllib.loads(text)) == {"cluster", "controller", "engines", "ipython", "kernel", "queue", "settings"}
