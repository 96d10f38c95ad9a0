"""Values as tables, text, HTML and JSON."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from stoker.cluster import Address, AgentStatus, ClusterStatus, EngineStatus, ProcessStatus, Started, Stopped
from stoker.cluster.planning import render_run_plan
from stoker.cluster.record import EngineRecord, Record
from stoker.cluster.status import DeathStatus
from stoker.faces.data import render_json, to_data
from stoker.faces.screen import Collector, Terminal
from stoker.faces.tables import Shown, render_html, render_table, render_text
from stoker.profile import Plan, ProfileDirectory
from stoker.profile.plan import FileChange
from stoker.spec import parse_spec
from stoker.system.machine import Cores
from stoker.system.processes import ProcessId
from stoker.workloads import Outcome, Report

DIRECTORY = ProfileDirectory(Path("/home/ada/.ipython/profile_lab"))
NOW = 1_000_000.0
LONG = ProfileDirectory(Path("/home/ada/" + "a/very/long/way/" * 12 + "profile_lab"))


def make_started(*, directory: ProfileDirectory = DIRECTORY, cluster_id: str = "", **changes: Any) -> Started:
    spec = parse_spec(
        {
            "engines": [{"count": 1, "fork": fork} for fork in changes.pop("fork", (True,))],
            "cluster": {"profile": "lab", "cluster_id": cluster_id},
            "controller": {
                "scheduler": "lru",
                "encryption": changes.pop("encrypted", True),
                "client_ip": changes.pop("client_address", "127.0.0.1"),
                "engine_ip": changes.pop("engine_address", "127.0.0.1"),
            },
        }
    )
    cores = Cores(logical=2, physical=2)
    record = Record(
        state="running",
        plan=render_run_plan(spec, directory, run="c0ffee", source="lab.toml", cwd=Path("/data"), cores=cores),
        supervisor=ProcessId(pid=7, started=8),
        controller=ProcessId(pid=11, started=22),
        engines=tuple(
            EngineRecord(number=number, group=0, process=ProcessId(pid=33 + number, started=44), log=f"/log/{number}")
            for number in range(changes.pop("engines", 2))
        ),
    )
    return Started(
        address=Address(directory=directory, cluster_id=cluster_id),
        record=record,
        new=changes.pop("new", True),
        changes=changes.pop("changes", ()),
        plan=Plan(directory=directory, directories=(), changes=()),
        seconds=1.25,
        notices=("mind the gap",),
        **changes,
    )


def make_process(pid: int | None, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "pid": pid,
        "seconds": None if pid is None else 61.0,
        "memory": None if pid is None else 21_400_000,
        "cpu": None if pid is None else 0.25,
        "restarts": 0,
        "last_death": None,
        "given_up": "",
    }
    return {**values, **changes}


def make_engine(number: int, pid: int | None, state: str, **changes: Any) -> EngineStatus:
    own = {"busy": 0.0, "tasks_done": 7, "uss": 1, "peak": 2, "log": f"/log/{number}", "group": 0}
    return EngineStatus(number=number, state=state, **{**make_process(pid), **own, **changes})


def make_status(*, directory: ProfileDirectory = DIRECTORY, **changes: Any) -> ClusterStatus:
    death = DeathStatus(at=NOW - 30, cause="died of SIGKILL", last_lines=("so it went",))
    values: dict[str, Any] = {
        "name": "lab",
        "directory": str(directory.path),
        "state": "degraded",
        "detail": "stays down: engine 1: exit status 1; stoker restart --engine NUMBER tries again",
        "encrypted": True,
        "client_address": "*",
        "engine_address": "*",
        "scheduler": "leastload",
        "supervisor": ProcessStatus(**make_process(7)),
        "controller": ProcessStatus(**make_process(11, memory=1_250_000_000)),
        "agents": (AgentStatus(name="local", phase="ready", hindrance="no fork", log="/log/a", **make_process(9)),),
        "engines": (
            make_engine(0, 33, "ready", busy=75.0, restarts=2, last_death=death),
            make_engine(1, None, "given up", restarts=5, last_death=death, given_up="exit status 1"),
        ),
        "events": ("engine 0 died of SIGKILL",),
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
engines     2 on this machine, forked by the agent
kept by     its supervisor (process 7): what dies is started again
logs        /home/ada/.ipython/profile_lab/log
connect     stoker.connect("lab")
connect     ipyparallel.Client(profile="lab")
end it      stoker down lab"""

STARTED_NIGHT = """\
cluster     lab:night, up in 1.2 s
controller  10.0.0.1 for clients, 10.1.2.3 for engines, lru
            not encrypted
engines     2 on this machine, forked by the agent
kept by     its supervisor (process 7): what dies is started again
logs        /home/ada/.ipython/profile_lab/log
connect     stoker.connect("lab:night")
connect     ipyparallel.Client(profile="lab", cluster_id="night")
end it      stoker down lab:night"""

STATUS = """\
cluster     lab in /home/ada/.ipython/profile_lab
state       degraded
            stays down: engine 1: exit status 1; stoker restart --engine NUMBER tries again
controller  all interfaces, leastload
            encrypted (CurveZMQ)
process       pid   state              since   memory     CPU   tasks   restarts   last death
─────────────────────────────────────────────────────────────────────────────────────────────
supervisor      7   running             61 s    21 MB   0.2 s
controller     11   running             61 s   1.2 GB   0.2 s
agent local     9   ready               61 s    21 MB   0.2 s
engine 0       33   ready, busy 75 s    61 s    21 MB   0.2 s       7          2   died of SIGKILL, 30 s ago
engine 1            given up                                        7          5   stays down: exit status 1
note   the engines of agent local are interpreters of their own: no fork
event  engine 0 died of SIGKILL"""

UNSUPERVISED = """\
cluster     lab in /home/ada/.ipython/profile_lab
state       unsupervised
controller  all interfaces, leastload
            encrypted (CurveZMQ)
process      pid   state     since   memory     CPU   tasks   restarts   last death
───────────────────────────────────────────────────────────────────────────────────
supervisor         absent
controller    11   running    61 s   1.2 GB   0.2 s"""

BROKEN = """\
cluster     lab in /home/ada/.ipython/profile_lab
state       broken
controller  all interfaces, leastload
            encrypted (CurveZMQ)
process      pid   state    since   memory     CPU   tasks   restarts   last death
──────────────────────────────────────────────────────────────────────────────────
supervisor     7   silent    61 s    21 MB   0.2 s"""

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


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ages are counted from a moment that is always the same."""
    monkeypatch.setattr("stoker.faces.cluster_tables.time", SimpleNamespace(time=lambda: NOW))


def compare(text: str) -> str:
    """Rules are as long as the widest row; how long does not matter."""
    return re.sub("─+", "─", text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param("[bold]no markup[/bold]", "[bold]no markup[/bold]", id="a line"),
        pytest.param(make_started(), STARTED, id="started"),
        pytest.param(
            make_started(cluster_id="night", encrypted=False, client_address="10.0.0.1", engine_address="10.1.2.3"),
            STARTED_NIGHT,
            id="started, with an id",
        ),
        pytest.param(
            make_started(hindrances={"local": "this system has no fork"}),
            STARTED.replace(
                "forked by the agent\n",
                "each an interpreter of its own\n            agent local cannot fork: this system has no fork\n",
            ),
            id="started, and fork is not possible",
        ),
        pytest.param(
            make_started(open_ports=(4711, 40205)),
            STARTED.replace("engines     2", "open ports  4711, 40205: other machines can reach them\nengines     2"),
            id="started, with open ports",
        ),
        pytest.param(
            make_started(fork=(True, False)),
            STARTED.replace("forked by the agent", "some forked, some interpreters of their own"),
            id="started, and fork is not wanted for some",
        ),
        pytest.param(
            make_started(new=False), "lab runs already, with 2 engines; nothing was changed", id="running already"
        ),
        pytest.param(
            make_started(new=False, changes=("started engine 2", "ending engine 0")),
            "lab runs already, with 2 engines; started engine 2; ending engine 0",
            id="running already, and changed",
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
            make_status(joined=(2,)),
            STATUS.replace("\nevent", "\nnote   engine 2 has joined from elsewhere\nevent"),
            id="status, one joined",
        ),
        pytest.param(
            make_status(joined=(2, 5)),
            STATUS.replace("\nevent", "\nnote   engines 2, 5 have joined from elsewhere\nevent"),
            id="status, two joined",
        ),
        pytest.param(
            make_status(state="unsupervised", detail="", supervisor=None, agents=(), engines=(), events=()),
            UNSUPERVISED,
            id="status, unsupervised",
        ),
        pytest.param(
            make_status(state="broken", detail="", controller=None, agents=(), engines=(), events=()),
            BROKEN,
            id="status, broken",
        ),
        pytest.param(
            make_status(name="lab:fire:", state="foreign", detail="[Errno 2] [red]x[/red] [/]", engines=(), events=()),
            "cluster  lab:fire: in /home/ada/.ipython/profile_lab\n"
            "state    foreign\n         [Errno 2] [red]x[/red] [/]",
            id="status, with what looks like markup and emoji",
        ),
        pytest.param(
            make_status(state="stopped", detail="", engines=()),
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
    status = make_status(controller=ProcessStatus(**make_process(11, seconds=seconds)))

    assert re.search(rf"^controller +11 +running +{text} ", render_text(status), re.MULTILINE)


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
        "changes": [],
        "encrypted": True,
        "engines": [
            {
                "number": number,
                "group": 0,
                "process": {"pid": 33 + number, "started": 44},
                "log": f"/log/{number}",
                "host": "",
            }
            for number in range(2)
        ],
        "notices": ["mind the gap"],
        "open_ports": [],
        "hindrances": {},
    }


def test_what_went_down_as_data() -> None:
    stopped = Stopped(address=Address(directory=DIRECTORY, cluster_id="night"), processes=13, killed=2)

    assert to_data(stopped) == {
        "address": {"name": "lab:night", "directory": "/home/ada/.ipython/profile_lab", "cluster_id": "night"},
        "processes": 13,
        "killed": 2,
        "unreached": [],
    }


def test_a_status_as_data() -> None:
    data = to_data((make_status(),))

    assert len(data) == 1
    assert data[0]["engines"][1] == {
        **make_process(None, restarts=5, given_up="exit status 1"),
        "last_death": data[0]["engines"][0]["last_death"],
        "number": 1,
        "group": 0,
        "host": "",
        "state": "given up",
        "busy": 0.0,
        "tasks_done": 7,
        "uss": 1,
        "peak": 2,
        "log": "/log/1",
    }
    assert data[0]["engines"][0]["last_death"]["cause"] == "died of SIGKILL"
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
        pytest.param(make_started(directory=LONG), 9, id="started"),
        pytest.param(make_status(directory=LONG), 14, id="status"),
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
        assert any(str(LONG.path) in line for line in lines)


def test_results_go_to_standard_output_and_all_else_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Terminal()

    screen.tell("profile ...")
    screen.warn("[red]mind[/red] the gap")
    screen.show("a [result]")
    screen.show({"an": ["answer"]}, as_json=True)
    screen.fail("stoker: a:b:c: [engines] failed\n  " + "x" * 300)
    screen.stream("controller | [red]one[/red]")

    captured = capsys.readouterr()
    assert captured.out == ('a [result]\n{\n  "an": [\n    "answer"\n  ]\n}\ncontroller | [red]one[/red]\n')
    assert captured.err.splitlines() == [
        "profile ...",
        "warning: [red]mind[/red] the gap",
        "stoker: a:b:c: [engines] failed",
        "  " + "x" * 300,
    ]


def test_a_narrow_terminal_folds_a_table_and_loses_nothing() -> None:
    console = Console(file=io.StringIO(), width=60, color_system=None)

    console.print(render_table(make_started(directory=LONG)))

    assert isinstance(console.file, io.StringIO)
    text = re.sub(r"\s+", "", console.file.getvalue())
    assert "…" not in text
    assert text.count("profile_lab/log") == 1


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
