"""Which processes a cluster consists of, and what each is."""

from __future__ import annotations

from stoker.bench.parts import CLIENT, Seen, plan_parts

PROGRAM = 10

PROCESSES = (
    Seen(pid=1, parent=0, marked=False, command=("init",)),
    Seen(pid=5, parent=1, marked=False, command=("stoker", "bench")),
    Seen(pid=PROGRAM, parent=5, marked=True, command=("python", "start_stoker.py")),
    Seen(pid=20, parent=1, marked=True, command=("python", "-m", "stoker.cluster.supervisor")),
    Seen(pid=21, parent=20, marked=True, command=("python", "-m", "stoker.agent")),
    Seen(pid=22, parent=21, marked=True, command=("python", "-m", "stoker.agent")),
    # An engine's own subprocess, which wrote over its environment.
    Seen(pid=23, parent=22, marked=False, command=("title",)),
    Seen(pid=24, parent=20, marked=True, command=("python", "-m", "stoker.launch.controller")),
    # Another user's cluster.
    Seen(pid=30, parent=1, marked=False, command=("python", "-m", "stoker.agent")),
)


def name_part(seen: Seen, above: str | None) -> str:
    if above in ("agent", "engine"):
        return "engine"
    return "agent" if "stoker.agent" in seen.command else "others"


def test_parts_are_told_from_each_other_and_from_all_else() -> None:
    parts = plan_parts(PROCESSES, name_part, program=PROGRAM)

    assert parts == {
        CLIENT: frozenset({PROGRAM}),
        "others": frozenset({20, 24}),
        "agent": frozenset({21}),
        "engine": frozenset({22, 23}),
    }


def test_what_descends_from_the_program_is_of_the_cluster_without_a_mark() -> None:
    processes = [Seen(pid=PROGRAM, parent=1, marked=False), Seen(pid=11, parent=PROGRAM, marked=False)]

    parts = plan_parts(processes, lambda seen, above: f"below {above}", program=PROGRAM)

    assert parts == {CLIENT: frozenset({PROGRAM}), "below client": frozenset({11})}


def test_processes_that_are_each_others_parents_are_no_endless_task() -> None:
    # Read one after the other while a pid was used again.
    processes = [Seen(pid=1, parent=2, marked=True), Seen(pid=2, parent=1, marked=False)]

    assert plan_parts(processes, name_part, program=PROGRAM) == {}
