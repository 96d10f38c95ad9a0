"""Values as tables: the same for terminal, shell and notebook."""

from __future__ import annotations

import io
import time
from functools import singledispatch
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.syntax import Syntax
from rich.text import Text

from stoker.bench import BenchRecord, Machine, Spread, Summary
from stoker.cluster import Cluster, ClusterStatus, Started, Stopped
from stoker.compute import JournalInfo
from stoker.faces.cluster_tables import render_started, render_status
from stoker.faces.grids import make_grid, make_table
from stoker.profile import Plan
from stoker.profile.explain import Explanation, KeyInfo, Origin, TraitUse
from stoker.profile.finding import Finding
from stoker.profile.migrate import Migration, Step
from stoker.queue.status import QueueStatus
from stoker.workloads import Report

__all__ = ["Shown", "render_table"]


@singledispatch
def render_table(value: object) -> RenderableType:
    """Render a value for people."""
    return Text(str(value))


@render_table.register
def _(value: Plan) -> RenderableType:
    if not value:
        return Text(f"{value.directory.path}: nothing to change")
    lines: list[RenderableType] = [Text(f"make directory {path} ({mode:04o})") for path, mode in value.directories]
    lines += [Syntax(change.diff, "diff", background_color="default", word_wrap=False) for change in value.changes]
    return Group(*lines)


@render_table.register
def _(value: Migration) -> RenderableType:
    rows: list[tuple[Step, str | Text]] = [(step, "commented out") for step in value.retired]
    rows += [(step, "kept, and said in the spec") for step in value.carried]
    rows += [(step, Text("left to you", style="bold red")) for step in value.left]
    if not rows:
        return Text(f"{value.plan.directory.path}: no old settings")
    table = make_table("line", "setting", "done", "spec", "why")
    for step, done in rows:
        keys = "\n".join(f"{key} = {item!r}" for key, item in step.becomes.items())
        table.add_row(f"{step.path.name}:{step.line}", step.setting, done, keys, step.note)
    return table


@render_table.register
def _(value: Started) -> RenderableType:
    return render_started(value)


@render_table.register
def _(value: QueueStatus) -> RenderableType:
    table = make_grid()
    table.add_row("queue", f"{value.address}, {'closed: no more jobs come' if value.closed else 'open'}")
    table.add_row("jobs", f"{value.put}: {value.waiting} waiting, {value.running} running, {value.done} done")
    if value.failed:
        table.add_row("", Text(f"{value.failed} gave no value", style="bold red"))
    table.add_row("lease", f"{value.lease:g} s; a job may kill {value.attempts} workers")
    for worker in value.workers:
        heard = f"heard {worker.silent:.1f} s ago"
        table.add_row("worker", f"{worker.name}: {worker.running} running, {worker.done} done, {heard}")
    if not value.workers:
        table.add_row("worker", "none; start some: stoker queue work -n 4")
    return table


@render_table.register
def _(value: JournalInfo) -> RenderableType:
    table = make_grid()
    begun, written = (time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each)) for each in (value.begun, value.written))
    table.add_row("journal", Text(str(value.path)))
    table.add_row("function", Text(f"{value.function}, {value.call} over {value.inputs}"))
    table.add_row("results", f"{value.done:,} of {'?' if value.total is None else f'{value.total:,}'}")
    table.add_row("", Text("complete", style="green") if value.complete else Text("not complete", style="bold"))
    table.add_row("begun", f"{begun}; called {'once' if value.calls == 1 else f'{value.calls} times'}")
    table.add_row("written", written)
    return table


@render_table.register
def _(value: Stopped) -> RenderableType:
    killed = f", {value.killed} of them by force" if value.killed else ""
    left = f"; not within reach, and gone after the lease: {', '.join(value.unreached)}" if value.unreached else ""
    return Text(f"{value.address.name} is down: {value.processes} processes ended{killed}{left}")


@render_table.register
def _(value: ClusterStatus) -> RenderableType:
    return render_status(value)


@render_table.register
def _(value: Cluster) -> RenderableType:
    return render_table(value.status())


@render_table.register
def _(value: tuple) -> RenderableType:  # type: ignore[type-arg]
    if value and all(isinstance(item, Report) for item in value):
        return _render_reports(value)
    if value and all(isinstance(item, Finding) for item in value):
        return _render_findings(value)
    return Group(*(render_table(item) for item in value))


@render_table.register
def _(value: Report) -> RenderableType:
    return _render_reports((value,))


def _render_findings(findings: tuple[Finding, ...]) -> RenderableType:
    table = make_table("where", "setting", "kind", "today", "what to do")
    for finding in findings:
        place = str(finding.path) if finding.line is None else f"{finding.path}:{finding.line}"
        kind = Text(finding.kind, style=_KINDS.get(finding.kind, ""))
        table.add_row(Text(place), Text(finding.setting), kind, Text(finding.today), Text(finding.remedy))
    return table


def _render_reports(reports: tuple[Report, ...]) -> RenderableType:
    table = make_table("workload", "via", "items", "seconds", "speed-up", "efficiency", "result", "right")
    for outcome in (outcome for report in reports for outcome in report.outcomes):
        table.add_row(
            outcome.workload,
            outcome.via,
            str(outcome.items),
            f"{outcome.seconds:.3f}",
            "" if outcome.speedup is None else f"{outcome.speedup:.2f}",
            "" if outcome.efficiency is None else f"{outcome.efficiency:.2f}",
            outcome.summary,
            Text("yes", style="green") if outcome.correct else Text("NO", style="bold red"),
        )
    return table


@render_table.register
def _(value: BenchRecord) -> RenderableType:
    names = [f"{measure.name} {measure.unit}" for measure in value.measures]
    compared = f"{value.measures[0].comparison} {value.baseline}"
    workers = any(summary.case.unit == "worker" for summary in value.summaries)
    sizes = dict.fromkeys(summary.case.sizes for summary in value.summaries if summary.case.sizes)
    # What all cases have in common is no column.
    work = ["work"] if len(sizes) > 1 else []
    columns = ("workers" if workers else "engines", *work, "rounds", *names, compared, "remarks")
    table = make_table("contender", *columns)
    for summary in value.summaries:
        spreads = [_spread(spread) for spread in summary.spreads] or [""] * len(names)
        ratio = _ratio(summary.spreads[0]) if summary.spreads else ""
        case = [str(summary.case.engines), *([summary.case.sizes] if work else [])]
        table.add_row(summary.contender, *case, str(summary.rounds), *spreads, ratio, _remarks(summary))
    for skipped in value.skipped:
        reason = Text(f"skipped: {skipped.reason}")
        table.add_row(skipped.contender, "", *[""] * len(work), "0", *([""] * len(names)), "", reason)
    common = () if work else sizes
    foot = ("median (least to most) of rounds taken in turn", *common, _machine(value.machine))
    return Group(table, Text("; ".join(foot), style="dim"))


@render_table.register
def _(value: Explanation) -> RenderableType:
    if len(value.traits) > _FEW:
        table = make_table("setting", "type", "default", "key of the spec", "files")
        for use in value.traits:
            trait = use.trait
            default = "made at run time" if trait.default is None else trait.default
            table.add_row(*map(Text, (trait.setting, trait.type, default, use.key or "", ", ".join(trait.files))))
        return Group(*(_render_key(key) for key in value.keys), table)
    return Group(*(_render_key(key) for key in value.keys), *(_render_trait(use) for use in value.traits))


def _render_key(key: KeyInfo) -> RenderableType:
    table = make_grid()
    table.add_row("key of the spec", Text(key.key))
    table.add_row("default", Text("not given" if key.default is None else key.default))
    if key.choices:
        table.add_row("one of", Text(", ".join(key.choices)))
    if key.traits:
        table.add_row("sets", Text(", ".join(key.traits)))
    table.add_row("", Text(key.help))
    return table


def _render_trait(use: TraitUse) -> RenderableType:
    trait, table = use.trait, make_grid()
    table.add_row("setting", Text(f"c.{trait.setting}"))
    table.add_row("type", Text(trait.type))
    table.add_row("default", Text("made at run time" if trait.default is None else trait.default))
    if trait.choices:
        table.add_row("one of", Text(", ".join(trait.choices)))
    table.add_row("files", Text(", ".join(trait.files)))
    table.add_row("in the spec", Text(use.key or f'settings."{trait.setting}"'))
    table.add_row("", Text(trait.help))
    for origin in use.origins:
        table.add_row(f"value in {origin.application}", Text(_say_origin(origin)))
    return table


def _say_origin(origin: Origin) -> str:
    if origin.path is None:
        return f"{origin.value} (the default; nothing in the profile sets it)"
    who = "stoker's block" if origin.by == "block" else "yours"
    return f"{origin.value} ({origin.path}:{origin.line}: c.{origin.setting}, {who})"


_AS_IT_IS: dict[str, Any] = {"markup": False, "emoji": False}
"""Names, paths and causes are shown letter by letter, also ``[Errno 2]`` and ``lab:fire:``."""


class Shown:
    """A value that shows itself: as text in a shell, as HTML in a notebook."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return render_text(self.value)

    def _repr_html_(self) -> str:
        return render_html(self.value)


def render_text(value: object, *, width: int = 120) -> str:
    """Render a value as plain text."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False, **_AS_IT_IS)
    shown = render_table(value)
    # Plain text has no columns that would need a width.
    console.print(shown, soft_wrap=isinstance(shown, Text))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def render_html(value: object, *, width: int = 120) -> str:
    """Render a value as a piece of HTML."""
    console = Console(file=io.StringIO(), width=width, record=True, force_jupyter=False, **_AS_IT_IS)
    console.print(render_table(value))
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def _spread(spread: Spread) -> str:
    median, minimum, maximum = map(_figure, (spread.median, spread.minimum, spread.maximum))
    return median if spread.minimum == spread.maximum else f"{median} ({minimum} to {maximum})"


def _figure(value: float) -> str:
    return f"{value:.2f}" if value < _MANY else f"{value:,.0f}"


def _ratio(spread: Spread) -> str:
    if spread.ratio is None:
        return ""
    if spread.ratio_minimum == spread.ratio_maximum:
        return f"{spread.ratio:.2f}"
    return f"{spread.ratio:.2f} ({spread.ratio_minimum:.2f} to {spread.ratio_maximum:.2f})"


def _remarks(summary: Summary) -> Text:
    lines = []
    if summary.failed:
        times = "once" if summary.failed == 1 else f"{summary.failed} times"
        lines.append(f"failed {times}: {summary.problem}")
    if summary.left:
        lines.append(f"left {summary.left} process{'' if summary.left == 1 else 'es'} behind")
    return Text("\n".join(lines), style="red")


def _machine(machine: Machine) -> str:
    versions = ", ".join(
        f"{name} {machine.versions[name]}" for name in ("stoker", "ipyparallel") if name in machine.versions
    )
    load = "" if machine.load is None else f", load {machine.load:.2f} before"
    return (
        f"{machine.cores} cores ({machine.cpu or 'unknown'}){load}; Python {machine.python}, {versions}; {machine.date}"
    )


_KINDS = {"old": "yellow", "wrong": "bold red", "overridden": "red", "drifted": "yellow", "exposed": "bold red"}
_FEW = 3
_MANY = 1000
"""From here on figures are shown without decimals."""

"""Traits up to this number are shown in full."""
