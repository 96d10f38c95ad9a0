"""Values as tables: the same for terminal, shell and notebook."""

from __future__ import annotations

import io
from functools import singledispatch
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from stoker.bench import BenchRecord, Machine, Spread, Summary
from stoker.cluster import Cluster, ClusterStatus, Started, Stopped
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
    table = _table("line", "setting", "done", "spec", "why")
    for step, done in rows:
        keys = "\n".join(f"{key} = {item!r}" for key, item in step.becomes.items())
        table.add_row(f"{step.path.name}:{step.line}", step.setting, done, keys, step.note)
    return table


@render_table.register
def _(value: Started) -> RenderableType:
    address, record = value.address, value.record
    count = len(record.engines)
    engines = f"{count} engine{'' if count == 1 else 's'}"
    if not value.new:
        return Text(f"{address.name} runs already, with {engines}; nothing was changed")
    table = _grid()
    table.add_row("cluster", f"{address.name}, up in {value.seconds:.1f} s")
    table.add_row("controller", f"{_where(record.client_address, record.engine_address)}, {record.scheduler}")
    table.add_row("", "encrypted (CurveZMQ)" if record.encrypted else Text("not encrypted", style="bold red"))
    table.add_row("engines", f"{count} on this machine")
    table.add_row("logs", str(address.directory.log))
    for line in _connect_lines(address.directory.name, address.cluster_id):
        table.add_row("connect", line)
    table.add_row("end it", f"stoker down {address.name}")
    return table


@render_table.register
def _(value: QueueStatus) -> RenderableType:
    table = _grid()
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
def _(value: Stopped) -> RenderableType:
    killed = f", {value.killed} of them by force" if value.killed else ""
    return Text(f"{value.address.name} is down: {value.processes} processes ended{killed}")


@render_table.register
def _(value: ClusterStatus) -> RenderableType:
    head = _grid()
    head.add_row("cluster", f"{value.name} in {value.directory}")
    head.add_row("state", Text(value.state, style=_STATES.get(value.state, "")))
    if value.detail:
        head.add_row("", value.detail)
    if value.state in ("stopped", "foreign"):
        return head
    where = _where(value.client_address, value.engine_address)
    head.add_row("controller", f"{where}, {value.scheduler}, pid {value.controller_pid}, {_age(value.seconds)}")
    head.add_row("", "encrypted (CurveZMQ)" if value.encrypted else Text("not encrypted", style="bold red"))
    table = _table("engine", "group", "pid", "state", "since", "log")
    for engine in value.engines:
        table.add_row(
            str(engine.number),
            f"engines[{engine.group}]",
            str(engine.pid),
            Text(engine.state, style=_STATES.get(engine.state, "")),
            _age(engine.seconds),
            engine.log,
        )
    return Group(head, table)


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
    table = _table("where", "setting", "kind", "today", "what to do")
    for finding in findings:
        place = str(finding.path) if finding.line is None else f"{finding.path}:{finding.line}"
        kind = Text(finding.kind, style=_KINDS.get(finding.kind, ""))
        table.add_row(Text(place), Text(finding.setting), kind, Text(finding.today), Text(finding.remedy))
    return table


def _render_reports(reports: tuple[Report, ...]) -> RenderableType:
    table = _table("workload", "via", "items", "seconds", "speed-up", "efficiency", "result", "right")
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
    table = _table("contender", "workers" if workers else "engines", "rounds", *names, compared, "remarks")
    for summary in value.summaries:
        spreads = [_spread(spread) for spread in summary.spreads] or [""] * len(names)
        ratio = _ratio(summary.spreads[0]) if summary.spreads else ""
        engines, rounds = str(summary.case.engines), str(summary.rounds)
        table.add_row(summary.contender, engines, rounds, *spreads, ratio, _remarks(summary))
    for skipped in value.skipped:
        table.add_row(skipped.contender, "", "0", *([""] * len(names)), "", Text(f"skipped: {skipped.reason}"))
    sizes = dict.fromkeys(summary.case.sizes for summary in value.summaries if summary.case.sizes)
    foot = ("median (least to most) of rounds taken in turn", *sizes, _machine(value.machine))
    return Group(table, Text("; ".join(foot), style="dim"))


@render_table.register
def _(value: Explanation) -> RenderableType:
    if len(value.traits) > _FEW:
        table = _table("setting", "type", "default", "key of the spec", "files")
        for use in value.traits:
            trait = use.trait
            default = "made at run time" if trait.default is None else trait.default
            table.add_row(*map(Text, (trait.setting, trait.type, default, use.key or "", ", ".join(trait.files))))
        return Group(*(_render_key(key) for key in value.keys), table)
    return Group(*(_render_key(key) for key in value.keys), *(_render_trait(use) for use in value.traits))


def _render_key(key: KeyInfo) -> RenderableType:
    table = _grid()
    table.add_row("key of the spec", Text(key.key))
    table.add_row("default", Text("not given" if key.default is None else key.default))
    if key.choices:
        table.add_row("one of", Text(", ".join(key.choices)))
    if key.traits:
        table.add_row("sets", Text(", ".join(key.traits)))
    table.add_row("", Text(key.help))
    return table


def _render_trait(use: TraitUse) -> RenderableType:
    trait, table = use.trait, _grid()
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
    console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False)
    shown = render_table(value)
    # Plain text has no columns that would need a width.
    console.print(shown, soft_wrap=isinstance(shown, Text))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def render_html(value: object, *, width: int = 120) -> str:
    """Render a value as a piece of HTML."""
    console = Console(file=io.StringIO(), width=width, record=True, force_jupyter=False)
    console.print(render_table(value))
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


_STATES = {"running": "green", "ready": "green", "broken": "bold red", "ended": "bold red", "starting": "yellow"}


def _where(client: str, engine: str) -> str:
    named = [("all interfaces" if address == "*" else address) for address in (client, engine)]
    return named[0] if named[0] == named[1] else f"{named[0]} for clients, {named[1]} for engines"


def _connect_lines(profile: str, cluster_id: str) -> tuple[str, str]:
    more = f', cluster_id="{cluster_id}"' if cluster_id else ""
    name = f"{profile}:{cluster_id}" if cluster_id else profile
    return f'stoker.connect("{name}")', f'ipyparallel.Client(profile="{profile}"{more})'


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _spread(spread: Spread) -> str:
    if spread.minimum == spread.maximum:
        return f"{spread.median:.2f}"
    return f"{spread.median:.2f} ({spread.minimum:.2f} to {spread.maximum:.2f})"


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


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        right: Any = "right" if column in _NUMBERS else "left"
        table.add_column(column, justify=right, overflow="fold", no_wrap=column not in _LONG)
    return table


_KINDS = {"old": "yellow", "wrong": "bold red", "overridden": "red", "drifted": "yellow", "exposed": "bold red"}
_LONG = ("log", "result", "remarks", "where", "setting", "today", "what to do", "spec", "why")
_FEW = 3
"""Traits up to this number are shown in full."""
_NUMBERS = ("engine", "engines", "workers", "rounds", "pid", "items", "seconds", "speed-up", "efficiency")
