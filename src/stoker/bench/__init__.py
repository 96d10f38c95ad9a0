"""Side-by-side measurement: who is measured, how they are run, and what is kept of it."""

from stoker.bench.apply import measure_apply
from stoker.bench.contenders import QUEUE, START, Contender
from stoker.bench.machine import Machine, read_machine
from stoker.bench.measure import measure
from stoker.bench.queue import measure_queue
from stoker.bench.record import (
    BenchRecord,
    Case,
    Measure,
    Sample,
    Skipped,
    Spread,
    Summary,
    parse_record,
    read_record,
    render_record,
    write_record,
)
from stoker.bench.start import measure_start

__all__ = [
    "QUEUE",
    "START",
    "BenchRecord",
    "Case",
    "Contender",
    "Machine",
    "Measure",
    "Sample",
    "Skipped",
    "Spread",
    "Summary",
    "measure",
    "measure_apply",
    "measure_queue",
    "measure_start",
    "parse_record",
    "read_machine",
    "read_record",
    "render_record",
    "write_record",
]
