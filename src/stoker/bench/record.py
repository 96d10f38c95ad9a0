"""What is kept of a benchmark: samples, and what follows from them. Written to and read from a JSON file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from stoker.bench.machine import Machine
from stoker.system.files import write_file

__all__ = [
    "BenchRecord",
    "Case",
    "Measure",
    "Sample",
    "Skipped",
    "Spread",
    "Summary",
    "parse_record",
    "read_record",
    "render_case",
    "render_record",
    "write_record",
]

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One setting in which every contender is measured; its program gets it as JSON."""

    engines: int
    """How many engines, or workers."""

    hosts: int | None = None
    """On how many other hosts they are, equally many on each; None: on none."""

    jobs: int | None = None
    """How many trivial jobs; None where the benchmark is not about a queue."""

    primes: int | None = None
    """How many primes, one a job; None as above."""

    idle: float | None = None
    """Seconds of idleness over which CPU is counted; None: it is not."""

    kind: str | None = None
    """Which items there are to map: an input, or a workload; None where the benchmark is not about maps."""

    items: int | None = None
    """How many of them; None as above, as for the rest."""

    numbers: int | None = None
    """How many numbers each item adds up; None also where items are none that add."""

    duration: float | None = None
    """CPU seconds that each item takes; None also where its work says that."""

    batch: int | None = None
    """How many items travel in a message; None also where the contender chooses."""

    repeats: int | None = None
    """How often a program does all of it; the figures say what it makes of that."""

    def __post_init__(self) -> None:
        if self.engines < 1:
            raise ValueError(f"engines: a cluster has 1 or more, got {self.engines}")
        for name in ("hosts", "jobs", "primes", "items", "numbers", "batch", "repeats"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name}: there is 1 or more, got {number}")
        for name, seconds in (("idle", self.idle), ("duration", self.duration)):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name}: it takes more than 0 s, got {seconds}")
        if (self.kind is None) != (self.items is None):
            raise ValueError(f"items: a kind has a number, and a number a kind, got {self.kind!r} and {self.items}")

    def __str__(self) -> str:
        number = f"{self.engines} {self.unit}{'' if self.engines == 1 else 's'}"
        if self.hosts is not None:
            number = f"{number} on {self.hosts} host{'' if self.hosts == 1 else 's'}"
        return f"{number}, {self.sizes}" if self.sizes else number

    @property
    def unit(self) -> str:
        """What one of ``engines`` is called here."""
        return "engine" if self.jobs is None and self.primes is None and self.items is None else "worker"

    @property
    def sizes(self) -> str:
        """How much there is to do; empty where the benchmark has no choice of it."""
        numbers = {"trivial jobs": self.jobs, "primes": self.primes}
        given = [f"{number} {name}" for name, number in numbers.items() if number is not None]
        batches = "" if self.batch is None else f" in batches of {self.batch:,}"
        return ", ".join(given if self.items is None else [*given, f"{self._item} x {self.items:,}{batches}"])

    @property
    def _item(self) -> str:
        if self.duration is not None:
            return f"{self.kind} {self.duration * 1000:g} ms"
        return f"{self.kind}" if self.numbers is None else f"{self.kind} of {self.numbers:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure that each sample holds."""

    name: str
    unit: str
    less_is_better: bool
    comparison: str = "times as fast as"
    """What a ratio says of a contender; the baseline's name follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What came of one contender in one case and round: figures, or a problem."""

    contender: str
    case: Case
    round: int
    """From 1; samples of one round and case were taken one right after the other."""

    figures: Mapping[str, float]
    """By measure; empty where there was a problem."""

    problem: str | None = None
    """Why there are no figures."""

    log: tuple[str, ...] = ()
    """The last lines of the program's output, where there was a problem."""

    left: int = 0
    """Processes that the program left behind; they were ended."""

    def __post_init__(self) -> None:
        if bool(self.figures) == (self.problem is not None):
            raise ValueError(f"a sample has figures or a problem, got {self.figures} and {self.problem!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A contender that was not measured at all."""

    contender: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One measure over all rounds."""

    measure: str
    median: float
    minimum: float
    maximum: float
    ratio: float | None
    """How many times as good as the baseline: the ratio was taken in each round, and this is their median. None
    where there was no round with figures of both, by which one can divide."""

    ratio_minimum: float | None
    ratio_maximum: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One contender in one case."""

    contender: str
    case: Case
    rounds: int
    """How many gave figures."""

    failed: int
    """How many did not."""

    left: int
    """Processes that were left behind, in all rounds together."""

    spreads: tuple[Spread, ...]
    """One for each measure, in the record's order; none where no round gave figures."""

    problem: str | None
    """The first one, if there were any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRecord:
    """One run of one benchmark."""

    benchmark: str
    measures: tuple[Measure, ...]
    """The first one is what the benchmark is about."""

    baseline: str
    """The contender that the others are compared with."""

    about: Mapping[str, str]
    """What each contender is, by name, in the order in which they took turns."""

    rounds: int
    """How many were asked for."""

    timeout: float
    """Seconds that a contender had in each round."""

    machine: Machine
    samples: tuple[Sample, ...]
    """In the order in which they were taken."""

    skipped: tuple[Skipped, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether there is any figure."""
        return any(sample.figures for sample in self.samples)

    @property
    def summaries(self) -> tuple[Summary, ...]:
        """Case by case, contenders in the order in which they took turns."""
        cases = dict.fromkeys(sample.case for sample in self.samples)
        keys = [(case, name) for case in cases for name in self.about]
        taken = {key: [sample for sample in self.samples if (sample.case, sample.contender) == key] for key in keys}
        return tuple(
            _summarise(samples, taken.get((case, self.baseline), []), self.measures)
            for (case, _), samples in taken.items()
            if samples
        )


def render_case(case: Case) -> dict[str, float | str]:
    """Render a case as what JSON knows, without what is None."""
    return {name: value for name, value in asdict(case).items() if value is not None}


def render_record(record: BenchRecord) -> dict[str, Any]:
    """Render a record as what JSON knows, with the summaries that follow from its samples."""
    return {
        "format": _FORMAT,
        **asdict(record),
        "samples": [asdict(sample) | {"case": render_case(sample.case)} for sample in record.samples],
        "summaries": [asdict(summary) | {"case": render_case(summary.case)} for summary in record.summaries],
    }


def parse_record(data: Mapping[str, Any]) -> BenchRecord:
    """Make a record of what ``render_record`` gave, perhaps by way of JSON.

    Raises:
        ValueError: Another version of stoker made it.
    """
    if data.get("format") != _FORMAT:
        raise ValueError(f"a record of format {_FORMAT} is wanted, got {data.get('format')}")
    known = {field.name for field in fields(BenchRecord)}
    parts = {name: value for name, value in data.items() if name in known}
    return BenchRecord(
        **parts
        | {
            "measures": tuple(Measure(**measure) for measure in data["measures"]),
            "machine": Machine(**data["machine"]),
            "samples": tuple(_parse_sample(sample) for sample in data["samples"]),
            "skipped": tuple(Skipped(**skipped) for skipped in data["skipped"]),
        }
    )


def write_record(path: Path, record: BenchRecord) -> None:
    """Write a record as JSON.

    Raises:
        OSError: The file is as it was before.
    """
    write_file(path, f"{json.dumps(render_record(record), indent=2)}\n".encode(), mode=0o644)


def read_record(path: Path) -> BenchRecord:
    """Read a record.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds no record of this version.
    """
    return parse_record(json.loads(path.read_bytes()))


def _parse_sample(data: Mapping[str, Any]) -> Sample:
    return Sample(**{**data, "case": Case(**data["case"]), "log": tuple(data["log"])})


def _summarise(samples: Sequence[Sample], baseline: Iterable[Sample], measures: Iterable[Measure]) -> Summary:
    good = [sample for sample in samples if sample.figures]
    base = {sample.round: sample for sample in baseline if sample.figures}
    return Summary(
        contender=samples[0].contender,
        case=samples[0].case,
        rounds=len(good),
        failed=len(samples) - len(good),
        left=sum(sample.left for sample in samples),
        spreads=tuple(_spread(good, base, measure) for measure in measures) if good else (),
        problem=next((sample.problem for sample in samples if sample.problem is not None), None),
    )


def _spread(samples: Sequence[Sample], baseline: Mapping[int, Sample], measure: Measure) -> Spread:
    name = measure.name
    figures = [sample.figures[name] for sample in samples]
    pairs = [
        (sample.figures[name], baseline[sample.round].figures[name]) for sample in samples if sample.round in baseline
    ]
    # Round by round: what slows the machine down for a while slows both of a pair.
    divisions = [(base, own) if measure.less_is_better else (own, base) for own, base in pairs]
    ratios = [upper / lower for upper, lower in divisions if lower]
    return Spread(
        measure=name,
        median=statistics.median(figures),
        minimum=min(figures),
        maximum=max(figures),
        ratio=statistics.median(ratios) if ratios else None,
        ratio_minimum=min(ratios, default=None),
        ratio_maximum=max(ratios, default=None),
    )
