"""What is kept of a benchmark: ratios round by round, JSON there and back, and the table."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from stoker.bench import (
    BenchRecord,
    Case,
    Machine,
    Measure,
    Sample,
    Skipped,
    Spread,
    Summary,
    parse_record,
    read_machine,
    read_record,
    render_record,
    write_record,
)
from stoker.bench.record import render_case
from stoker.faces.tables import render_text

TWO = Case(engines=2)

MACHINE = Machine(
    date="2026-01-02T03:04:05+00:00",
    system="Linux-6.1",
    python="3.11.7",
    versions={"stoker": "0.1.0", "ipyparallel": "9.2.0", "pyzmq": "27.0"},
    cpu="Fast",
    cores=2,
    load=0.5,
)


def a_sample(contender: str, number: int, start: float | None, *, case: Case = TWO, **more: Any) -> Sample:
    figures = {} if start is None else {"start": start, "stop": start / 4}
    problem = "ended with status 1: boom" if start is None else None
    return Sample(contender=contender, case=case, round=number, figures=figures, problem=problem, **more)


def a_record(*samples: Sample, skipped: tuple[Skipped, ...] = ()) -> BenchRecord:
    return BenchRecord(
        benchmark="start",
        measures=(
            Measure(name="start", unit="s", less_is_better=True),
            Measure(name="stop", unit="s", less_is_better=True),
        ),
        baseline="stock",
        about={"stock": "as it is", "stoker": "ours"},
        rounds=3,
        timeout=120.0,
        machine=MACHINE,
        samples=samples,
        skipped=skipped,
    )


def the_start(record: BenchRecord, contender: str) -> Spread:
    return next(summary.spreads[0] for summary in record.summaries if summary.contender == contender)


def test_a_ratio_is_taken_in_each_round_and_then_the_median() -> None:
    # Medians alone would say 8 / 2 = 4.
    stock = [a_sample("stock", number, seconds) for number, seconds in ((1, 6.0), (2, 8.0), (3, 20.0))]
    stoker = [a_sample("stoker", number, seconds) for number, seconds in ((1, 2.0), (2, 1.0), (3, 4.0))]

    spread = the_start(a_record(*stock, *stoker), "stoker")

    assert spread == Spread(
        measure="start", median=2.0, minimum=1.0, maximum=4.0, ratio=5.0, ratio_minimum=3.0, ratio_maximum=8.0
    )


def test_where_more_is_better_the_ratio_is_the_other_way_round() -> None:
    samples = [
        Sample(contender=name, case=TWO, round=1, figures={"rate": rate})
        for name, rate in (("stock", 100.0), ("stoker", 400.0))
    ]
    record = BenchRecord(
        benchmark="throughput",
        measures=(Measure(name="rate", unit="items/s", less_is_better=False),),
        baseline="stock",
        about={"stock": "", "stoker": ""},
        rounds=1,
        timeout=1.0,
        machine=MACHINE,
        samples=tuple(samples),
    )

    assert the_start(record, "stoker").ratio == 4.0


def test_a_round_in_which_the_baseline_failed_has_no_part_in_the_ratio() -> None:
    record = a_record(
        a_sample("stock", 1, None),
        a_sample("stoker", 1, 1.0),
        a_sample("stock", 2, 6.0),
        a_sample("stoker", 2, 3.0),
    )

    assert the_start(record, "stoker") == Spread(
        measure="start", median=2.0, minimum=1.0, maximum=3.0, ratio=2.0, ratio_minimum=2.0, ratio_maximum=2.0
    )


def test_without_the_baseline_there_is_no_ratio() -> None:
    record = a_record(a_sample("stoker", 1, 1.0))

    assert the_start(record, "stoker") == Spread(
        measure="start", median=1.0, minimum=1.0, maximum=1.0, ratio=None, ratio_minimum=None, ratio_maximum=None
    )


def test_a_figure_of_nothing_has_no_part_in_the_ratio() -> None:
    record = a_record(
        a_sample("stock", 1, 6.0),
        a_sample("stoker", 1, 0.0),
        a_sample("stock", 2, 6.0),
        a_sample("stoker", 2, 3.0),
    )

    assert the_start(record, "stoker") == Spread(
        measure="start", median=1.5, minimum=0.0, maximum=3.0, ratio=2.0, ratio_minimum=2.0, ratio_maximum=2.0
    )


def test_cases_are_not_mixed() -> None:
    many = Case(engines=16)
    record = a_record(
        a_sample("stock", 1, 6.0),
        a_sample("stoker", 1, 2.0),
        a_sample("stock", 1, 12.0, case=many),
        a_sample("stoker", 1, 3.0, case=many),
    )

    found = [(str(summary.case), summary.contender, summary.spreads[0].ratio) for summary in record.summaries]

    assert found == [
        ("2 engines", "stock", 1.0),
        ("2 engines", "stoker", 3.0),
        ("16 engines", "stock", 1.0),
        ("16 engines", "stoker", 4.0),
    ]


def test_a_contender_that_only_failed_is_a_row_with_the_reason() -> None:
    record = a_record(a_sample("stoker", 1, None, left=1), a_sample("stoker", 2, None, left=2))

    assert record.summaries == (
        Summary(
            contender="stoker",
            case=TWO,
            rounds=0,
            failed=2,
            left=3,
            spreads=(),
            problem="ended with status 1: boom",
        ),
    )
    assert not record.measured


@pytest.mark.parametrize(
    ("figures", "problem"), [({}, None), ({"start": 1.0}, "boom")], ids=["neither", "figures-and-problem"]
)
def test_a_sample_has_either_figures_or_a_problem(figures: dict[str, float], problem: str | None) -> None:
    with pytest.raises(ValueError, match="figures or a problem"):
        Sample(contender="stock", case=TWO, round=1, figures=figures, problem=problem)


@pytest.mark.parametrize("name", ["engines", "jobs", "primes", "items", "numbers", "repeats"])
def test_none_of_something_is_no_case(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: .* got 0"):
        Case(**{"engines": 2, name: 0})


@pytest.mark.parametrize("name", ["idle", "duration"])
def test_what_takes_no_seconds_is_no_case(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: it takes more than 0 s, got 0"):
        Case(**{"engines": 2, name: 0})


@pytest.mark.parametrize("half", [{"kind": "range"}, {"items": 10}], ids=["no-number", "no-kind"])
def test_items_have_a_kind_and_a_number(half: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="items: a kind has a number, and a number a kind, got"):
        Case(engines=2, **half)


@pytest.mark.parametrize(
    ("case", "said", "data"),
    [
        (Case(engines=1), "1 engine", {"engines": 1}),
        (
            Case(engines=2, jobs=10, primes=5),
            "2 workers, 10 trivial jobs, 5 primes",
            {"engines": 2, "jobs": 10, "primes": 5},
        ),
        (Case(engines=8, hosts=2), "8 engines on 2 hosts", {"engines": 8, "hosts": 2}),
        (Case(engines=4, hosts=1), "4 engines on 1 host", {"engines": 4, "hosts": 1}),
        (Case(engines=1, primes=5), "1 worker, 5 primes", {"engines": 1, "primes": 5}),
        (Case(engines=2, idle=1.5), "2 engines", {"engines": 2, "idle": 1.5}),
        (
            Case(engines=2, kind="range", items=20_000, repeats=3),
            "2 workers, range x 20,000",
            {"engines": 2, "kind": "range", "items": 20_000, "repeats": 3},
        ),
        (
            Case(engines=2, kind="range", items=50_000, batch=1),
            "2 workers, range x 50,000 in batches of 1",
            {"engines": 2, "kind": "range", "items": 50_000, "batch": 1},
        ),
        (
            Case(engines=2, kind="sum", items=100, numbers=10_000_000),
            "2 workers, sum of 10,000,000 x 100",
            {"engines": 2, "kind": "sum", "items": 100, "numbers": 10_000_000},
        ),
        (
            Case(engines=1, kind="spin", items=4000, duration=0.001),
            "1 worker, spin 1 ms x 4,000",
            {"engines": 1, "kind": "spin", "items": 4000, "duration": 0.001},
        ),
    ],
    ids=["engines", "workers", "hosts", "host", "primes-alone", "idle", "input", "batches", "sum", "spin"],
)
def test_a_case_says_nothing_of_what_it_is_not_about(case: Case, said: str, data: dict[str, float | str]) -> None:
    assert (str(case), render_case(case)) == (said, data)


def test_the_sizes_of_a_case_survive_json() -> None:
    record = a_record(a_sample("stock", 1, 6.0, case=Case(engines=2, jobs=10, primes=5)))

    assert parse_record(json.loads(json.dumps(render_record(record)))) == record


def test_a_record_survives_a_file(tmp_path: Path) -> None:
    record = a_record(
        a_sample("stock", 1, 6.0),
        a_sample("stoker", 1, None, log=("Traceback ...", "boom"), left=1),
        skipped=(Skipped(contender="ray", reason="no module"),),
    )
    file = tmp_path / "record.json"

    write_record(file, record)

    assert read_record(file) == record
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_json_holds_the_ratios_for_those_who_read_no_python() -> None:
    data = json.loads(json.dumps(render_record(a_record(a_sample("stock", 1, 6.0), a_sample("stoker", 1, 2.0)))))

    assert data["summaries"][1] == {
        "contender": "stoker",
        "case": {"engines": 2},
        "rounds": 1,
        "failed": 0,
        "left": 0,
        "spreads": [
            {
                "measure": name,
                "median": seconds,
                "minimum": seconds,
                "maximum": seconds,
                "ratio": 3.0,
                "ratio_minimum": 3.0,
                "ratio_maximum": 3.0,
            }
            for name, seconds in (("start", 2.0), ("stop", 0.5))
        ],
        "problem": None,
    }


@pytest.mark.parametrize("data", [{}, {"format": 99}], ids=["none", "later"])
def test_a_record_of_another_version_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a record of format 1 is wanted"):
        parse_record(data)


def test_this_machine_is_described() -> None:
    machine = read_machine()

    assert machine.cores >= 1
    assert {"stoker", "ipyparallel"} <= set(machine.versions)
    assert machine.date.endswith("+00:00")


def test_the_table_shows_figures_ratios_failures_and_who_was_skipped() -> None:
    record = a_record(
        a_sample("stock", 1, 6.0, left=2),
        a_sample("stoker", 1, 2.0),
        a_sample("stock", 2, 8.0),
        a_sample("stoker", 2, 4.0),
        a_sample("stock", 3, None),
        a_sample("stoker", 3, 3.0),
        skipped=(Skipped(contender="ray", reason="No module named 'ray'"),),
    )

    lines = [" ".join(line.split()) for line in render_text(record, width=200).splitlines()]

    assert lines[0] == "contender engines rounds start s stop s times as fast as stock remarks"
    assert lines[2:] == [
        "stock 2 2 7.00 (6.00 to 8.00) 1.75 (1.50 to 2.00) 1.00 failed once: ended with status 1: boom",
        "left 2 processes behind",
        "stoker 2 3 3.00 (2.00 to 4.00) 0.75 (0.50 to 1.00) 2.50 (2.00 to 3.00)",
        "ray 0 skipped: No module named 'ray'",
        "median (least to most) of rounds taken in turn; 2 cores (Fast), load 0.50 before; Python 3.11.7, "
        "stoker 0.1.0, ipyparallel 9.2.0; 2026-01-02T03:04:05+00:00",
    ]


def test_the_table_of_a_queue_names_workers_and_how_much_there_was_to_do() -> None:
    case = Case(engines=2, jobs=10, primes=5)
    record = a_record(a_sample("stock", 1, 6.0, case=case), a_sample("stoker", 1, 2.0, case=case))

    lines = [" ".join(line.split()) for line in render_text(record, width=200).splitlines()]

    assert lines[0] == "contender workers rounds start s stop s times as fast as stock remarks"
    assert lines[-1].startswith("median (least to most) of rounds taken in turn; 10 trivial jobs, 5 primes; 2 cores")


def test_the_table_of_several_works_has_a_column_for_them_and_large_figures_have_no_decimals() -> None:
    samples = [
        Sample(contender=name, case=Case(engines=2, kind=kind, items=20_000), round=1, figures={"best": rate})
        for kind in ("range", "strings")
        for name, rate in (("pool", 1234567.0), ("stoker", 617283.5))
    ]
    record = BenchRecord(
        benchmark="throughput",
        measures=(Measure(name="best", unit="items/s", less_is_better=False),),
        baseline="pool",
        about={"pool": "", "ray": "", "stoker": ""},
        rounds=1,
        timeout=1.0,
        machine=MACHINE,
        samples=tuple(samples),
        skipped=(Skipped(contender="ray", reason="No module named 'ray'"),),
    )

    lines = [" ".join(line.split()) for line in render_text(record, width=200).splitlines()]

    assert lines[0] == "contender workers work rounds best items/s times as fast as pool remarks"
    assert lines[2:-1] == [
        "pool 2 range x 20,000 1 1,234,567 1.00",
        "stoker 2 range x 20,000 1 617,284 0.50",
        "pool 2 strings x 20,000 1 1,234,567 1.00",
        "stoker 2 strings x 20,000 1 617,284 0.50",
        "ray 0 skipped: No module named 'ray'",
    ]
    assert lines[-1].startswith("median (least to most) of rounds taken in turn; 2 cores")
