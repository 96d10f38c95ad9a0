"""Side-by-side measurement: who is measured, how they are run, and what is kept of it."""

from stoker.bench.apply import measure_apply
from stoker.bench.bounds import Bounds
from stoker.bench.contenders import MEMORY, QUEUE, SSH_START, START, SUBMIT, THROUGHPUT, WORKLOADS, Contender
from stoker.bench.journal import measure_journal
from stoker.bench.machine import Machine, read_machine
from stoker.bench.measure import measure
from stoker.bench.memory import measure_memory
from stoker.bench.queue import measure_queue
from stoker.bench.ratios import Ratios
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
from stoker.bench.ssh_start import measure_ssh_start
from stoker.bench.standing import Standing
from stoker.bench.start import measure_start
from stoker.bench.submit import measure_submit
from stoker.bench.throughput import measure_throughput
from stoker.bench.workloads import measure_workloads

__all__ = [
    "MEMORY",
    "QUEUE",
    "SSH_START",
    "START",
    "SUBMIT",
    "THROUGHPUT",
    "WORKLOADS",
    "BenchRecord",
    "Bounds",
    "Case",
    "Contender",
    "Machine",
    "Measure",
    "Ratios",
    "Sample",
    "Skipped",
    "Spread",
    "Standing",
    "Summary",
    "measure",
    "measure_apply",
    "measure_journal",
    "measure_memory",
    "measure_queue",
    "measure_ssh_start",
    "measure_start",
    "measure_submit",
    "measure_throughput",
    "measure_workloads",
    "parse_record",
    "read_machine",
    "read_record",
    "render_record",
    "write_record",
]
