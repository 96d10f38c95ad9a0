"""The demo: one command shows the whole way, and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]

DEMO = Path(__file__).parents[2] / "scripts" / "demo"
VIAS = ["serial", "map", "parallel", "call", "stoker"]


@pytest.mark.parametrize("vias", [["stoker"], pytest.param(VIAS, marks=pytest.mark.long)], ids=",".join)
def test_the_demo_shows_right_results_and_leaves_nothing(
    vias: list[str],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., Any],
    processes: Callable[[], list[str]],
) -> None:
    scratch, daily = tmp_path / "scratch", home / ".ipython" / "profile_default"
    scratch.mkdir()
    daily.mkdir(parents=True)
    (daily / "ipython_config.py").write_text("c.InteractiveShell.autocall = 1\n")
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.delenv("IPYTHONDIR")

    words = [] if vias == VIAS else ["--via", ",".join(vias)]
    ran = run(DEMO, *words, timeout=390)

    assert ran.code == 0, ran.err
    rows = [line.split() for line in ran.out.splitlines() if line.split()[1:2] and line.split()[1] in VIAS]
    assert [(row[0], row[1]) for row in rows] == [(name, via) for name in ("sum", "primes") for via in vias]
    assert [row[2] for row in rows if row[0] == "sum"] == ["10" if via == "serial" else "100" for via in vias]
    assert {row[2] for row in rows if row[0] == "primes"} == {"1000"}
    assert {row[-1] for row in rows} == {"yes"}
    results = [row[-3:-1] if row[0] == "sum" else row[-5:-1] for row in rows]
    expected = [["each", "49999995000000"], ["last", "7919,", "sum", "3682913"]]
    assert results == [each for each in expected for _ in vias]
    assert ran.out.splitlines()[-1].startswith("mastering_python is down: ")
    assert processes() == []
    assert list(scratch.iterdir()) == []
    files = {path.relative_to(home): path.read_text() for path in home.rglob("*") if path.is_file()}
    config = Path(".ipython/profile_default/ipython_config.py")
    assert {path: text for path, text in files.items() if ".ipython" in path.parts} == {
        config: "c.InteractiveShell.autocall = 1\n"
    }


@pytest.mark.long
@pytest.mark.usefixtures("can_build_hosts")
def test_the_demo_does_it_on_three_hosts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., Any],
    processes: Callable[[], list[str]],
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))

    ran = run(DEMO, "--hosts", "--via", "stoker", timeout=120)

    assert ran.code == 0, ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    assert [line[2] for line in lines if line[:1] == ["engine"]] == ["node1"] * 2 + ["node2"] * 4 + ["node3"]
    assert 'ipyparallel.Client(profile="demo_hosts") finds 2 on node1, 4 on node2, 1 on node3' in ran.out
    rows = [(line[0], line[2], *line[4:]) for line in lines if line[1:2] == ["stoker"]]
    assert rows == [
        ("sum", "100", "each", "49999995000000", "yes"),
        ("primes", "1000", "last", "7919,", "sum", "3682913", "yes"),
    ]
    assert ran.out.splitlines()[-1].startswith("demo_hosts is down: ")
    assert processes() == []
    assert list(scratch.iterdir()) == []
