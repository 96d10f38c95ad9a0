"""What an idle cluster takes: a tiny cluster of plain processes measured for real."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stoker.bench import Case, Contender, measure
from stoker.bench.footprint import plan_footprint, share_of_core
from stoker.bench.parts import Seen

PROGRAM = 10

PROCESSES = (
    Seen(pid=PROGRAM, parent=1, marked=True, command=("python", "start_stoker.py")),
    Seen(pid=20, parent=1, marked=True, command=("python", "-m", "stoker.cluster.supervisor")),
    Seen(pid=21, parent=20, marked=True, command=("python", "-m", "stoker.agent")),
    # An engine, whose title is whatever it likes.
    Seen(pid=22, parent=21, marked=False, command=("title",)),
)


@pytest.mark.parametrize(
    ("with_program", "others"), [(False, {20}), (True, {20, PROGRAM})], ids=["program-apart", "program-too"]
)
def test_engines_are_told_from_the_rest_of_the_cluster(with_program: bool, others: set[int]) -> None:
    parts = plan_footprint(
        PROCESSES, lambda seen: "stoker.agent" in seen.command, program=PROGRAM, with_program=with_program
    )

    assert parts == {"engines": frozenset({21, 22}), "others": frozenset(others)}


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        ({1: 1.0, 2: 5.0}, {1: 1.5, 2: 5.0}, 0.25),
        ({1: 1.0}, {1: 1.0, 2: 0.5}, 0.25),
        ({1: 1.0, 2: 5.0}, {1: 1.5}, 0.25),
        ({}, {}, 0.0),
    ],
    ids=["some-idle", "a-new-one", "one-that-ended", "none"],
)
def test_the_share_of_a_core_is_what_was_used_meanwhile(
    before: dict[int, float], after: dict[int, float], share: float
) -> None:
    assert share_of_core(before, after, 2.0) == share


CLUSTER = """
import json, subprocess, sys
from stoker.bench.footprint import measure_footprint

case = json.loads(sys.argv[1])
code = "import sys; keep = bytearray(SIZE); exec(MORE); print('x', flush=True); sys.stdin.read()"

def start(size, more, name):
    argv = [sys.executable, "-c", code.replace("SIZE", str(size)).replace("MORE", repr(more)), name]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    return child

children = [start(50_000_000, "", "engine"), start(50_000_000, "", "engine"), start(100_000_000, "", "other")]
figures = measure_footprint(lambda seen: "engine" in seen.command, engines=case["engines"], idle=case["idle"])
for child in children:
    child.communicate()
print("measured:", json.dumps(figures))
"""


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Contender]:
    def contender(code: str) -> Contender:
        program = tmp_path / "program.py"
        program.write_text(code)
        return Contender(name="tiny", about="", program=program)

    return contender


@pytest.mark.live
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the PSS of a process")
def test_a_cluster_of_known_size_is_measured(make: Callable[[str], Contender]) -> None:
    (sample,) = measure([make(CLUSTER)], [Case(engines=2, idle=0.2)], rounds=1, timeout=60).samples

    assert sample.problem is None, sample.log
    assert set(sample.figures) == {"memory", "overhead", "idle"}
    assert 50 < sample.figures["memory"] < 65
    assert 100 < sample.figures["overhead"] < 115
    assert 0 <= sample.figures["idle"] < 20


@pytest.mark.live
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the PSS of a process")
def test_fewer_engines_than_were_asked_for_are_no_figure(make: Callable[[str], Contender]) -> None:
    code = f"import stoker.bench.footprint as footprint; footprint._PATIENCE = 0.1\n{CLUSTER}"

    (sample,) = measure([make(code)], [Case(engines=3, idle=0.2)], rounds=1, timeout=60).samples

    said = "2 processes of engines were found where 3 engines should be"
    assert sample.problem == f"ended with status 1: {said}"
    assert json.dumps(sample.figures) == "{}"
