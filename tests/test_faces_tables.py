"""Values as tables, text, HTML and JSON."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stoker.cluster import Address, ClusterStatus, EngineStatus, Started, Stopped
from stoker.cluster.record import EngineRecord, Record
from stoker.faces.data import render_json, to_data
from stoker.faces.screen import Collector, Terminal
from stoker.faces.tables import Shown, render_html, render_table, render_text
from stoker.profile import Plan, ProfileDirectory
from stoker.profile.plan import FileChange
from stoker.system.processes import ProcessId
from stoker.workloads import Outcome, Report

DIRECTORY = ProfileDirectory(Path("/home/ada/.ipython/profile_lab"))
LONG = ProfileDirectory(Path("/home/ada/" + "a/very/long/way/" * 12 + "profile_lab"))


def make_started(*, directory: ProfileDirectory = DIRECTORY, cluster_id: str = "", **changes: Any) -> Started:
    record = Record(
        cluster_id=cluster_id,
        run="c0ffee",
        state="running",
        source="lab.toml",
        encrypted=changes.pop("encrypted", True),
        client_address=changes.pop("client_address", "127.0.0.1"),
        engine_address=changes.pop("engine_address", "127.0.0.1"),
        scheduler="lru",
        controller=ProcessId(pid=11, started=22),
        controller_log="/log/c",
        engines=tuple(
            EngineRecord(number=number, group=0, process=ProcessId(pid=33 + number, started=44), log=f"/log/{number}")
            for number in range(changes.pop("engines", 2))
        ),
    )
    return Started(
        address=Address(directory=directory, cluster_id=cluster_id),
        record=record,
        new=changes.pop("new", True),
        plan=Plan(directory=directory, directories=(), changes=()),
        seconds=1.25,
        notices=("mind the gap",),
        **changes,
    )


def make_status(*, directory: ProfileDirectory = DIRECTORY, **changes: Any) -> ClusterStatus:
    values: dict[str, Any] = {
        "name": "lab",
        "directory": str(directory.path),
        "state": "running",
        "detail": "",
        "encrypted": True,
        "client_address": "*",
        "engine_address": "*",
        "scheduler": "leastload",
        "controller_pid": 11,
        "seconds": 61.0,
        "engines": (
            EngineStatus(number=0, group=0, pid=33, state="ready", seconds=60.0, log=str(directory.log / "0")),
            EngineStatus(number=1, group=1, pid=34567, state="ended", seconds=None, log=str(directory.log / "1")),
        ),
        "connection_file": "/c",
        "controller_log": "/log/c",
        "source": "lab.toml",
    }
    return ClusterStatus(**{**values, **changes})


def make_report(*, correct: bool = True) -> Report:
    outcomes = tuple(
        Outcome(
            workload="sum",
            via=via,
            items=items,
            seconds=2.0,
            speedup=speedup,
            efficiency=None if speedup is None else speedup / 2,
            correct=correct,
            figures=(("each", 45),),
        )
        for via, items, speedup in (("serial", 10, 1.0), ("map", 100, 1.9), ("call", 100, None))
    )
    return Report(workload="sum", parameters=(("n", 10),), engines=2, cores=2, outcomes=outcomes)


def make_plan() -> Plan:
    changes = (
        FileChange(path=DIRECTORY.path / "ipengine_config.py", before=None, after=b"c = 1\n"),
        FileChange(path=DIRECTORY.spec, before=b"a\nb\n", after=b"a\n[[engines]]\n"),
    )
    return Plan(directory=DIRECTORY, directories=((DIRECTORY.security, 0o700),), changes=changes)


STARTED = """\
cluster     lab, up in 1.2 s
controller  127.0.0.1, lru
            encrypted (CurveZMQ)
engines     2 on this machine
logs        /home/ada/.ipython/profile_lab/log
connect     stoker.connect("lab")
connect     ipyparallel.Client(profile="lab")
end it      stoker down lab"""

STARTED_NIGHT = """\
cluster     lab:night, up in 1.2 s
controller  all interfaces for clients, 10.1.2.3 for engines, lru
            not encrypted
engines     2 on this machine
logs        /home/ada/.ipython/profile_lab/log
connect     stoker.connect("lab:night")
connect     ipyparallel.Client(profile="lab", cluster_id="night")
end it      stoker down lab:night"""

STATUS = """\
cluster     lab in /home/ada/.ipython/profile_lab
state       running
controller  all interfaces, leastload, pid 11, 61 s
            encrypted (CurveZMQ)
engine   group          pid   state   since   log
──────────────────────────────────────────────────────────────────────────────
     0   engines[0]      33   ready   60 s    /home/ada/.ipython/profile_lab/log/0
     1   engines[1]   34567   ended           /home/ada/.ipython/profile_lab/log/1"""

REPORT = """\
workload   via      items   seconds   speed-up   efficiency   result    right
─────────────────────────────────────────────────────────────────────────────
sum        serial      10     2.000       1.00         0.50   each 45   yes
sum        map        100     2.000       1.90         0.95   each 45   yes
sum        call       100     2.000                           each 45   yes"""

PLAN = """\
make directory /home/ada/.ipython/profile_lab/security (0700)
--- /dev/null
+++ /home/ada/.ipython/profile_lab/ipengine_config.py
@@ -0,0 +1 @@
+c = 1
--- /home/ada/.ipython/profile_lab/stoker.toml
+++ /home/ada/.ipython/profile_lab/stoker.toml
@@ -1,2 +1,2 @@
 a
-b
+[[engines]]"""


def compare(text: str) -> str:
    """Rules are as long as the widest row; how long does not matter."""
    return re.sub("─+", "─", text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("[bold]no markup[/bold]", "[bold]no markup[/bold]", id="a line"),
        pytest.param(make_started(), STARTED, id="started"),
        pytest.param(
            make_started(cluster_id="night", encrypted=False, client_address="*", engine_address="10.1.2.3"),
            STARTED_NIGHT,
            id="started, with an id",
        ),
        pytest.param(
            make_started(new=False), "lab runs already, with 2 engines; nothing was changed", id="running already"
        ),
        pytest.param(
            make_started(new=False, engines=1), "lab runs already, with 1 engine; nothing was changed", id="one engine"
        ),
        pytest.param(
            Stopped(address=Address(directory=DIRECTORY, cluster_id=""), processes=13, killed=0),
            "lab is down: 13 processes ended",
            id="stopped",
        ),
        pytest.param(
            Stopped(address=Address(directory=DIRECTORY, cluster_id="night"), processes=13, killed=2),
            "lab:night is down: 13 processes ended, 2 of them by force",
            id="stopped by force",
        ),
        pytest.param(make_status(), STATUS, id="status"),
        pytest.param(
            make_status(state="stopped", engines=()),
            "cluster  lab in /home/ada/.ipython/profile_lab\nstate    stopped",
            id="status, stopped",
        ),
        pytest.param(
            make_status(state="foreign", detail="not ours", engines=()),
            "cluster  lab in /home/ada/.ipython/profile_lab\nstate    foreign\n         not ours",
            id="status, foreign",
        ),
        pytest.param((make_status(), make_status()), f"{STATUS}\n{STATUS}", id="several"),
        pytest.param(make_report(), REPORT, id="report"),
        pytest.param((make_report(),), REPORT, id="reports"),
        pytest.param(make_report(correct=False), REPORT.replace("yes", "NO"), id="report, wrong"),
        pytest.param(make_plan(), PLAN, id="plan"),
        pytest.param(
            Plan(directory=DIRECTORY, directories=(), changes=()), f"{DIRECTORY.path}: nothing to change", id="no plan"
        ),
    ],
)
def test_a_value_is_shown_as_text(value: object, text: str) -> None:
    assert compare(render_text(value)) == compare(text)
    assert compare(repr(Shown(value))) == compare(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (119.4, "119 s"), (120.0, "2 min"), (7199.0, "120 min"), (7200.0, "2 h"), (90000.0, "25 h")],
)
def test_an_age_is_told_in_its_own_unit(seconds: float, text: str) -> None:
    assert f"pid 11, {text}" in render_text(make_status(seconds=seconds))


def test_html_is_one_piece_of_preformatted_text_whose_angles_are_escaped() -> None:
    html = render_html(make_status(detail="<script>"))

    assert html.startswith("<pre>")
    assert html.endswith("</pre>")
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert Shown(make_status())._repr_html_() == render_html(make_status())


# JSON.


def test_what_came_up_as_data() -> None:
    assert to_data(make_started()) == {
        "name": "lab",
        "directory": "/home/ada/.ipython/profile_lab",
        "cluster_id": "",
        "new": True,
        "seconds": 1.25,
        "encrypted": True,
        "engines": [
            {"number": number, "group": 0, "process": {"pid": 33 + number, "started": 44}, "log": f"/log/{number}"}
            for number in range(2)
        ],
        "notices": ["mind the gap"],
    }


def test_what_went_down_as_data() -> None:
    stopped = Stopped(address=Address(directory=DIRECTORY, cluster_id="night"), processes=13, killed=2)

    assert to_data(stopped) == {
        "address": {"name": "lab:night", "directory": "/home/ada/.ipython/profile_lab", "cluster_id": "night"},
        "processes": 13,
        "killed": 2,
    }


def test_a_status_as_data() -> None:
    data = to_data((make_status(),))

    engine = {"number": 0, "group": 0, "pid": 33, "state": "ready", "seconds": 60.0, "log": f"{DIRECTORY.log}/0"}
    assert len(data) == 1
    assert data[0]["engines"][0] == engine
    assert set(data[0]) == set(ClusterStatus.__dataclass_fields__)


def test_a_plan_as_data() -> None:
    first, second = make_plan().changes

    assert to_data(make_plan()) == {
        "profile": "/home/ada/.ipython/profile_lab",
        "directories": [{"path": "/home/ada/.ipython/profile_lab/security", "mode": "0700"}],
        "changes": [
            {"path": str(first.path), "new": True, "diff": first.diff},
            {"path": str(second.path), "new": False, "diff": second.diff},
        ],
    }


def test_a_report_as_data() -> None:
    data = to_data(make_report())

    assert set(data) == set(Report.__dataclass_fields__)
    assert [outcome["via"] for outcome in data["outcomes"]] == ["serial", "map", "call"]
    assert data["outcomes"][0]["figures"] == [["each", 45]]


@pytest.mark.parametrize(
    "value", [make_started(), make_status(), make_plan(), make_report(), (make_report(), make_report()), "a line", ()]
)
def test_every_value_is_json(value: object) -> None:
    assert json.loads(render_json(value)) == json.loads(json.dumps(to_data(value)))


# Screens.


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        pytest.param(make_started(directory=LONG), 8, id="started"),
        pytest.param(make_status(directory=LONG), 8, id="status"),
        pytest.param(make_report(), 5, id="report"),
    ],
)
def test_a_pipe_gets_plain_lines_that_are_neither_cut_nor_folded(
    value: object, rows: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")
    screen = Terminal()

    screen.show(value)

    out = capsys.readouterr().out
    lines = out.splitlines()
    assert len(lines) == rows
    assert "…" not in out
    assert "\x1b" not in out
    if not isinstance(value, Report):
        assert any(str(LONG.log) in line for line in lines)


def test_results_go_to_standard_output_and_all_else_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Terminal()

    screen.tell("profile ...")
    screen.warn("[red]mind[/red] the gap")
    screen.show("a [result]")
    screen.show({"an": ["answer"]}, as_json=True)
    screen.fail("stoker: [engines] failed\n  " + "x" * 300)

    captured = capsys.readouterr()
    assert captured.out == 'a [result]\n{\n  "an": [\n    "answer"\n  ]\n}\n'
    assert captured.err.splitlines() == [
        "profile ...",
        "warning: [red]mind[/red] the gap",
        "stoker: [engines] failed",
        "  " + "x" * 300,
    ]


def test_a_narrow_terminal_folds_a_table_and_loses_nothing() -> None:
    console = Console(file=io.StringIO(), width=60, color_system=None)

    console.print(render_table(make_status(directory=LONG)))

    assert isinstance(console.file, io.StringIO)
    text = re.sub(r"\s+", "", console.file.getvalue())
    assert "…" not in text
    assert text.count("profile_lab/log/") == 2


def test_a_collector_keeps_results_and_passes_the_rest_on() -> None:
    written: list[str] = []
    screen = Collector(written.append)

    screen.tell("profile ...")
    screen.warn("mind the gap")
    screen.show("a result")
    screen.show({"an": "answer"}, as_json=True)
    screen.fail("no room")

    assert screen.values == ["a result"]
    assert written == ["warning: mind the gap", '{\n  "an": "answer"\n}', "no room"]
