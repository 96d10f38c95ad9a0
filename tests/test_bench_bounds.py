"""What memory comes to for each message and item, in words, and whether that is within bounds."""

from __future__ import annotations

import pytest

from stoker.bench import BenchRecord, Bounds, Case, Machine, Measure, Sample

PARTS = ("scheduler", "hub", "client", "engine", "others")
MANY = Case(engines=2, kind="range", items=5_000_000)
ONES = Case(engines=2, kind="range", items=50_000, batch=1)


def a_record(*samples: Sample) -> BenchRecord:
    return BenchRecord(
        benchmark="memory",
        measures=tuple(Measure(name=name, unit="MB", less_is_better=True) for name in PARTS),
        baseline="plain",
        about={"plain": "as it is", "stoker": "ours"},
        rounds=2,
        timeout=60.0,
        machine=Machine(date="", system="", python="", versions={}, cpu="", cores=2, load=None),
        samples=samples,
    )


def a_sample(contender: str, case: Case, messages: int, *sizes: float, number: int = 1) -> Sample:
    figures = dict(zip(PARTS, sizes, strict=True)) | {"messages": messages}
    return Sample(contender=contender, case=case, round=number, figures=figures)


def test_parts_are_divided_by_items_where_these_go_in_batches_and_else_by_messages() -> None:
    record = a_record(
        a_sample("stoker", MANY, 45, 4.5, 5.5, 34.0, 15.0, -0.001),
        a_sample("plain", ONES, 50_000, 100.0, 25.0, 1500.0, 10.0, 0.0),
        a_sample("stoker", ONES, 50_100, 25.05, 5.01, 5.01, 7.515, 0.0),
    )

    assert str(Bounds(record=record)).splitlines() == [
        "2 workers, range x 5,000,000: stoker: 45 messages; bytes for each item: client 6.8, hub 1.1, scheduler 0.9, "
        "engine 3.0, others 0.0; hub and scheduler 2.0, under 5: pass",
        "2 workers, range x 50,000 in batches of 1: plain: 50,000 messages; bytes for each message: client 30,000.0, "
        "hub 500.0, scheduler 2,000.0, engine 200.0, others 0.0; hub and scheduler 2,500.0, under 2,000: FAIL",
        "2 workers, range x 50,000 in batches of 1: stoker: 50,100 messages; bytes for each message: client 100.0, "
        "hub 100.0, scheduler 500.0, engine 150.0, others 0.0; hub and scheduler 600.0, under 2,000: pass",
    ]


def test_parts_are_medians_but_the_worst_round_is_judged() -> None:
    rounds = [
        a_sample("stoker", ONES, 50_000, scheduler, 0.0, 0.0, 0.0, 0.0, number=number)
        for number, scheduler in enumerate((25.0, 30.0, 150.0), 1)
    ]

    (line,) = Bounds(record=a_record(*rounds)).lines

    assert "scheduler 600.0, engine" in line
    assert line.endswith("hub and scheduler 3,000.0, under 2,000: FAIL")


@pytest.mark.parametrize(
    "case",
    [Case(engines=2, kind="range", items=2_000_000), Case(engines=2, kind="range", items=5000, batch=1)],
    ids=["items", "messages"],
)
def test_what_a_first_use_costs_is_not_held_against_a_few(case: Case) -> None:
    record = a_record(a_sample("stoker", case, 5000, 12.0, 0.0, 0.0, 0.0, 0.0))

    assert str(Bounds(record=record)).endswith(": too few to tell")


def test_nothing_is_said_of_one_that_failed() -> None:
    record = a_record(Sample(contender="stoker", case=ONES, round=1, figures={}, problem="boom"))

    assert not Bounds(record=record)
