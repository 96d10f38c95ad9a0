"""Ratios in words: a line for each contender in each case, which says what the contender is."""

from __future__ import annotations

from stoker.bench import BenchRecord, Case, Machine, Measure, Ratios, Sample

MACHINE = Machine(date="", system="", python="", versions={}, cpu="", cores=2, load=None)


def a_record(*samples: Sample) -> BenchRecord:
    return BenchRecord(
        benchmark="start",
        measures=(
            Measure(name="start", unit="s", less_is_better=True),
            Measure(name="stop", unit="s", less_is_better=True),
            Measure(name="memory", unit="MB/engine", less_is_better=True, comparison="times as small as"),
        ),
        baseline="stock",
        about={"stock": "as it is", "stoker": "applied before", "stoker-fresh": "no profile yet"},
        rounds=2,
        timeout=120.0,
        machine=MACHINE,
        samples=samples,
    )


def a_sample(contender: str, engines: int, number: int, start: float, memory: float) -> Sample:
    figures = {"start": start, "stop": 1.0, "memory": memory}
    return Sample(contender=contender, case=Case(engines=engines), round=number, figures=figures)


def test_each_contender_is_compared_in_each_case_and_told_what_it_is() -> None:
    record = a_record(
        a_sample("stock", 2, 1, 6.0, 90.0),
        a_sample("stoker", 2, 1, 1.0, 30.0),
        a_sample("stoker-fresh", 2, 1, 2.0, 30.0),
        a_sample("stock", 2, 2, 8.0, 90.0),
        a_sample("stoker", 2, 2, 1.0, 45.0),
        a_sample("stock", 16, 1, 12.0, 90.0),
        a_sample("stoker", 16, 1, 2.0, 22.5),
    )

    assert str(Ratios(record=record, measures=("start", "memory"))).splitlines() == [
        "2 engines: stoker (applied before): start 7.00 (6.00 to 8.00) times as fast as stock; "
        "memory 2.50 (2.00 to 3.00) times as small as stock",
        "2 engines: stoker-fresh (no profile yet): start 3.00 times as fast as stock; "
        "memory 3.00 times as small as stock",
        "16 engines: stoker (applied before): start 6.00 times as fast as stock; memory 4.00 times as small as stock",
    ]


def test_without_the_baseline_there_is_nothing_to_say() -> None:
    ratios = Ratios(record=a_record(a_sample("stoker", 2, 1, 1.0, 30.0)), measures=("start", "memory"))

    assert not ratios
    assert str(ratios) == ""


def test_what_was_not_measured_is_left_out() -> None:
    record = a_record(a_sample("stock", 2, 1, 6.0, 90.0), a_sample("stoker", 2, 1, 1.0, 30.0))

    assert Ratios(record=record, measures=("idle", "memory")).lines == (
        "2 engines: stoker (applied before): memory 3.00 times as small as stock",
    )
