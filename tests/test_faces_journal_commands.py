"""``stoker journal`` on journals that are there."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stoker.compute.fingerprint import describe_function
from stoker.compute.journal import Begun, Journal
from stoker.faces.command_line import run
from stoker.faces.data import to_data
from stoker.faces.screen import Collector
from stoker.faces.tables import render_text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.journal"
    begun = Begun(function=describe_function(abs), call="map", inputs="range", digest="0", total=2000)
    with Journal(path, begun) as journal:
        journal.record(0, [1, "two", [3.5, None]], None)
        journal.record(1500, [float("nan"), {4}, {"a": object}], None)
    return path


def _run(*words: object) -> tuple[int, list[object], str]:
    written: list[str] = []
    screen = Collector(written.append)
    code = run([str(word) for word in words], screen)
    return code, screen.values, "\n".join(written)


def test_show_says_what_it_is_of_and_how_far_it_is(path: Path) -> None:
    code, (info,), problems = _run("journal", "show", path)

    assert (code, problems) == (0, "")
    data = to_data(info)
    begun, written = data.pop("begun"), data.pop("written")
    assert time.time() - 60 < begun <= written <= time.time()
    assert data == {
        "path": str(path),
        "function": "builtins.abs",
        "call": "map",
        "inputs": "range",
        "total": 2000,
        "done": 6,
        "calls": 1,
        "complete": False,
    }
    day = time.strftime("%Y-%m-%d", time.localtime(begun))
    lines = render_text(info).splitlines()
    assert lines[:4] == [
        f"journal   {path}",
        "function  builtins.abs, map over range",
        "results   6 of 2,000",
        "          not complete",
    ]
    assert lines[4].startswith(f"begun     {day}")
    assert lines[4].endswith("; called once")


def test_export_prints_a_line_of_json_for_each_result(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, problems = _run("journal", "export", path)

    assert (code, problems) == (0, "")
    assert capsys.readouterr().out.splitlines() == [
        '{"index": 0, "value": 1}',
        '{"index": 1, "value": "two"}',
        '{"index": 2, "value": [3.5, null]}',
        '{"index": 1500, "repr": "nan"}',
        '{"index": 1501, "repr": "{4}"}',
        """{"index": 1502, "repr": "{'a': <class 'object'>}"}""",
    ]


@pytest.mark.parametrize("command", ["show", "export"])
def test_what_is_no_journal_is_one_message(command: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes\n" * 1000)

    missing = _run("journal", command, tmp_path / "none")
    other = _run("journal", command, tmp_path / "notes.txt")

    assert missing == (1, [], f"stoker: {tmp_path}/none: there is no such file")
    assert other == (1, [], f"stoker: {tmp_path}/notes.txt: cannot be read: file is not a database")


def test_a_journal_of_several_workloads_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, _ = _run("run", "all", "--journal", "x")

    assert code == 2
    assert "a journal is of one workload" in capsys.readouterr().err
