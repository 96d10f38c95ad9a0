"""Growth: which part of a cluster grew by how much, and a tiny cluster of plain processes that grow for real."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stoker.bench import Case, Contender, measure
from stoker.bench.growth import plan_growth

PARTS = {
    "client": frozenset({1}),
    "hub": frozenset({2}),
    "scheduler": frozenset({3, 4}),
    "engine": frozenset({5, 6, 7}),
    "agent": frozenset({8}),
    "others": frozenset({9}),
}


def test_growth_is_by_part_and_by_engine_and_what_has_no_column_is_of_the_others() -> None:
    before = dict.fromkeys(range(1, 10), 1_000_000)
    after = {pid: size + pid * 500_000 for pid, size in before.items()}

    assert plan_growth(PARTS, before, after, engines=2) == {
        "client": 0.5,
        "hub": 1.0,
        "scheduler": 3.5,
        "engine": 4.5,
        "others": 8.5,
    }


@pytest.mark.parametrize("part", ["hub", "scheduler", "engine"])
def test_a_part_that_is_not_found_has_no_growth_of_nothing(part: str) -> None:
    parts = {name: pids for name, pids in PARTS.items() if name != part}

    with pytest.raises(ValueError, match=f"no process was found that is of the {part}"):
        plan_growth(parts, {}, {}, engines=2)


CLUSTER = """
import json, subprocess, sys
from stoker.bench.growth import measure_growth
from stoker.bench.trials import say_figures

case = json.loads(sys.argv[1])
code = (
    "import sys; kept = []\\n"
    "for line in sys.stdin: kept.append(b'x' * int(line)); print('x', flush=True)"
)
sizes = {"hub": 1_000_000, "scheduler": 20_000_000, "engine": 10_000_000, "nanny": 5_000_000}
argv = [sys.executable, "-c", code]
children = {name: subprocess.Popen([*argv, name], stdin=-1, stdout=-1, text=True) for name in sizes}


class Client:
    history = []

    def __getitem__(self, engines):
        return self

    def apply_sync(self, function):
        function()


def grow(size, name):
    children[name].stdin.write(f"{size}\\n")
    children[name].stdin.flush()
    children[name].stdout.readline()


def run(items):
    Client.history += ["message"] * 3
    for name in sizes:
        # What is there before the map is no growth.
        grow(sizes[name] if len(items) == case["items"] else 50_000_000, name)
    PROLOG
    yield from items


figures = measure_growth(run, case, client=Client(), name_part=lambda seen, above: seen.command[-1])
for child in children.values():
    child.communicate()
say_figures(figures)
"""


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Contender]:
    def contender(prolog: str) -> Contender:
        program = tmp_path / "program.py"
        program.write_text(CLUSTER.replace("PROLOG", prolog))
        return Contender(name="tiny", about="", program=program)

    return contender


@pytest.mark.live
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory of a process")
def test_what_processes_keep_of_a_map_is_measured_and_its_messages_are_counted(
    make: Callable[[str], Contender],
) -> None:
    case = Case(engines=1, kind="range", items=1000)

    (sample,) = measure([make("pass")], [case], rounds=1, timeout=60).samples

    assert sample.problem is None, sample.log
    assert sample.figures == {
        "client": pytest.approx(0, abs=1),
        "hub": pytest.approx(1, abs=1),
        "scheduler": pytest.approx(20, abs=1),
        "engine": pytest.approx(10, abs=1),
        "others": pytest.approx(5, abs=1),
        "messages": 3,
    }


@pytest.mark.live
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory of a process")
@pytest.mark.parametrize(
    ("prolog", "said"),
    [
        ("items = items[:-1]", "the results are wrong"),
        ("items = reversed(items)", "the results are wrong"),
        (
            "children['nanny'].kill(); children['nanny'].wait()",
            "processes of the cluster came or went meanwhile: its growth says nothing",
        ),
    ],
    ids=["fewer", "other-order", "a-process-ended"],
)
def test_a_map_that_went_wrong_is_no_figure(make: Callable[[str], Contender], prolog: str, said: str) -> None:
    prolog = f"if len(items) == case['items']: {prolog}"

    (sample,) = measure([make(prolog)], [Case(engines=1, kind="range", items=1000)], rounds=1, timeout=60).samples

    assert sample.problem == f"ended with status 1: {said}"
