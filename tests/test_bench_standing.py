"""A standing in words: one contender beside each of the others, and how busy each kept its workers."""

from __future__ import annotations

from stoker.bench import BenchRecord, Case, Machine, Measure, Sample, Standing

PRIMES = Case(engines=2, kind="primes", items=1000)
SPIN = Case(engines=2, kind="spin", items=4, duration=1.0)


def a_record(*samples: Sample, cores: int = 2) -> BenchRecord:
    return BenchRecord(
        benchmark="workloads",
        measures=(Measure(name="seconds", unit="s", less_is_better=True),),
        baseline="serial",
        about={"serial": "a loop", "pool": "its best", "stoker": "ours"},
        rounds=2,
        timeout=60.0,
        machine=Machine(date="", system="", python="", versions={}, cpu="", cores=cores, load=None),
        samples=samples,
    )


def a_sample(contender: str, case: Case, number: int, seconds: float | None) -> Sample:
    figures = {} if seconds is None else {"seconds": seconds, "chunk": 4}
    problem = "boom" if seconds is None else None
    return Sample(contender=contender, case=case, round=number, figures=figures, problem=problem)


def test_ratios_are_of_the_same_round_and_efficiency_is_by_core() -> None:
    record = a_record(
        a_sample("serial", PRIMES, 1, 4.0),
        a_sample("pool", PRIMES, 1, 2.5),
        a_sample("stoker", PRIMES, 1, 2.0),
        a_sample("serial", PRIMES, 2, 8.0),
        a_sample("pool", PRIMES, 2, 4.0),
        a_sample("stoker", PRIMES, 2, 5.0),
        a_sample("serial", SPIN, 1, 4.0),
        a_sample("pool", SPIN, 1, 2.0),
        a_sample("stoker", SPIN, 1, 2.0),
    )

    assert str(Standing(record=record, serial="serial")).splitlines() == [
        "2 workers, primes x 1,000: efficiency pool 0.90 (0.80 to 1.00); stoker 0.90 (0.80 to 1.00)",
        "2 workers, primes x 1,000: stoker: seconds 1.80 (1.60 to 2.00) times as fast as serial; "
        "1.02 (0.80 to 1.25) times as fast as pool",
        "2 workers, spin 1000 ms x 4: efficiency pool 1.00; stoker 1.00",
        "2 workers, spin 1000 ms x 4: stoker: seconds 2.00 times as fast as serial; 1.00 times as fast as pool",
    ]


def test_workers_that_have_to_share_a_core_are_measured_against_that() -> None:
    record = a_record(a_sample("serial", PRIMES, 1, 4.0), a_sample("stoker", PRIMES, 1, 5.0), cores=1)

    assert Standing(record=record, serial="serial").lines[0] == "2 workers, primes x 1,000: efficiency stoker 0.80"


def test_without_a_serial_contender_nothing_is_said_of_efficiency() -> None:
    record = a_record(a_sample("pool", PRIMES, 1, 4.0), a_sample("stoker", PRIMES, 1, 2.0))

    assert Standing(record=record).lines == ("2 workers, primes x 1,000: stoker: seconds 2.00 times as fast as pool",)


def test_a_contender_that_failed_or_was_left_out_is_not_compared_with() -> None:
    record = a_record(a_sample("pool", PRIMES, 1, None), a_sample("stoker", PRIMES, 1, 2.0))

    assert not Standing(record=record, serial="serial")
