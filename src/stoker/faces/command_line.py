"""The command line: each command parses, makes one call, and shows what it gave."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

import stoker
from stoker.cluster import find_cluster, read_status, read_statuses, resolve_spec, start_cluster, stop_cluster
from stoker.cluster.handle import connect
from stoker.errors import StokerError
from stoker.faces.benchmarks import bench
from stoker.faces.change_commands import add_change_commands
from stoker.faces.cluster_commands import add_cluster_commands
from stoker.faces.join_commands import add_join_commands
from stoker.faces.journal_commands import journal
from stoker.faces.options import IPythonDir, Json, Profile
from stoker.faces.profile_commands import add_profile_commands
from stoker.faces.queue_commands import queue
from stoker.faces.screen import Screen, Terminal, screen_of
from stoker.faces.shortcut import leave_stamp
from stoker.faces.spec_commands import add_spec_commands
from stoker.profile import apply_plan, check_plan, list_config_files, read_plan, verify_plan
from stoker.workloads import VIAS, WORKLOADS, run_workload

__all__ = ["INTERRUPTED", "WrongUsage", "call", "main", "run"]

WrongUsage: Any = typer.BadParameter.__base__
"""What typer raises for words that make no command (click's ``UsageError``, or that of the click within typer)."""

INTERRUPTED = 130
"""The exit code of a command that was interrupted."""

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

app = typer.Typer(
    name="stoker",
    help="Clusters of IPython engines: one file says what the cluster should be, one command makes it so.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(bench, name="bench")
app.add_typer(queue, name="queue")
app.add_typer(journal, name="journal")

Spec = Annotated[
    str | None,
    typer.Argument(
        metavar="SPEC",
        help="A spec (a path that ends in .toml), or the name of a profile that one was applied to. "
        "Without it: one engine per core of this machine, under the profile 'stoker'.",
        show_default=False,
    ),
]
Wait = Annotated[
    float, typer.Option("--wait", min=0, help="Seconds to wait for another command that starts or stops the cluster.")
]


def main() -> None:
    """Run the command line; exit with 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    # A terminal that is closed, or a kill, in the middle of a start must end what was started, as Ctrl-C does.
    for signum in _INTERRUPTS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _leave)
    sys.exit(run(sys.argv[1:], Terminal()))


def run(arguments: list[str], screen: Screen) -> int:
    """Run one command and give its exit code.

    Args:
        arguments: The words after ``stoker``.
        screen: Where it shows what it has to say.
    """
    try:
        code = call(arguments, screen)
    except WrongUsage as error:
        error.show()
        return 2
    except StokerError as error:
        screen.fail(f"stoker: {error}")
        return 1
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    # Some versions of typer turn an interrupt into this code themselves.
    if code == INTERRUPTED:
        screen.fail("stoker: interrupted")
    return code


def call(arguments: list[str], screen: Screen) -> int:
    """Run one command and give its exit code; its errors are the caller's to show.

    Raises:
        WrongUsage: The words make no command.
        StokerError: It failed.
    """
    command = typer.main.get_command(app)
    code = command.main(list(arguments), prog_name="stoker", standalone_mode=False, obj=screen)
    return code if isinstance(code, int) else 0


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stoker {stoker.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


@app.command()
def plan(context: typer.Context, spec: Spec = None, ipython_dir: IPythonDir = None, json: Json = False) -> None:
    """Show what applying a spec would change in its profile; change nothing."""
    screen = screen_of(context)
    value, source = resolve_spec(spec, ipython_dir=ipython_dir)
    _warn(screen, value.notices)
    screen.show(read_plan(value, source=source), as_json=json)


@app.command()
def apply(context: typer.Context, spec: Spec = None, ipython_dir: IPythonDir = None, json: Json = False) -> int:
    """Write a spec into its profile: a marked block at the end of each config file, and a copy of the spec.

    Then the profile is loaded as ipyparallel and IPython will load it; exits with 1 where the spec is not in force.
    """
    screen = screen_of(context)
    value, source = resolve_spec(spec, ipython_dir=ipython_dir)
    _warn(screen, value.notices)
    changes = read_plan(value, source=source)
    check_plan(changes, source=source)
    apply_plan(changes)
    findings = verify_plan(changes)
    for finding in findings:
        screen.warn(str(finding))
    if not findings and ipython_dir is None:
        rests_on = [*list_config_files(changes), *([Path(spec)] if spec is not None and spec.endswith(".toml") else [])]
        leave_stamp(spec, rests_on, said=f"{changes.directory.path}: nothing to change", warnings=value.notices)
    if json or not changes:
        screen.show(changes, as_json=json)
    else:
        for change in changes.changes:
            screen.show(f"{'changed' if change.before is not None else 'created'} {change.path}")
    return 1 if findings else 0


@app.command()
def up(
    context: typer.Context,
    spec: Spec = None,
    ipython_dir: IPythonDir = None,
    wait: Wait = 120.0,
    json: Json = False,
) -> None:
    """Make a cluster run: apply its spec, start controller and engines, wait until every engine is there.

    A supervisor keeps it from then on: what dies is started again. Of a cluster that runs already, what the spec says
    otherwise is changed where that can be done live (numbers of engines, lease, limits), and named where it cannot.
    """
    screen = screen_of(context)
    value, source = resolve_spec(spec, ipython_dir=ipython_dir)
    started = start_cluster(value, source=source, wait=wait, on_stage=lambda stage: screen.tell(f"{stage} ..."))
    _warn(screen, started.notices)
    screen.show(started, as_json=json)


@app.command()
def status(context: typer.Context, profile: Profile = None, ipython_dir: IPythonDir = None, json: Json = False) -> None:
    """Show how a cluster is, process by process; without a name, every one that runs."""
    screen = screen_of(context)
    if profile is not None:
        screen.show(read_status(find_cluster(profile, ipython_dir=ipython_dir)), as_json=json)
        return
    found = read_statuses(ipython_dir=ipython_dir)
    screen.show(found if found or json else "no cluster runs; start one with: stoker up", as_json=json)


@app.command()
def down(
    context: typer.Context,
    profile: Profile = None,
    ipython_dir: IPythonDir = None,
    wait: Wait = 120.0,
    json: Json = False,
) -> None:
    """End a cluster: every process of it, whatever died before."""
    screen_of(context).show(stop_cluster(find_cluster(profile, ipython_dir=ipython_dir), wait=wait), as_json=json)


@app.command("run")
def run_(
    context: typer.Context,
    workload: Annotated[str, typer.Argument(help=f"One of: {', '.join(WORKLOADS)}, or all of them: all.")],
    profile: Profile = None,
    via: Annotated[str, typer.Option(help="Which ways to run it, with commas between.")] = ",".join(VIAS),
    n: Annotated[int | None, typer.Option(help="sum: adds up range(N). Default: 10000000.")] = None,
    times: Annotated[int | None, typer.Option(help="sum: how many sums on the cluster. Default: 100.")] = None,
    serial_times: Annotated[int | None, typer.Option(help="sum: how many of them serially. Default: 10.")] = None,
    count: Annotated[int | None, typer.Option(help="primes: how many. Default: 1000.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that each way may take.")] = 600.0,
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Keep what is finished of the way 'stoker' in this file; the same command again goes on from there.",
        ),
    ] = None,
    ipython_dir: IPythonDir = None,
    json: Json = False,
) -> int:
    """Run the tutorial's workloads on a cluster that runs, in every way the tutorial shows, and check the results."""
    screen = screen_of(context)
    names = WORKLOADS if workload == "all" else (workload,)
    if not set(names) <= set(WORKLOADS):
        raise typer.BadParameter(f"no workload {workload!r}; there are: {', '.join(WORKLOADS)}, all", context)
    if journal is not None and len(names) > 1:
        raise typer.BadParameter("a journal is of one workload", context, param_hint="'--journal'")
    given = {"n": n, "times": times, "serial_times": serial_times, "count": count}
    with connect(profile, ipython_dir=ipython_dir) as cluster:
        reports = tuple(
            run_workload(
                name,
                cluster.view,
                engines=len(cluster.client.ids),
                vias=via.split(","),
                timeout=timeout,
                journal=journal,
                on_outcome=lambda outcome: screen.tell(f"{outcome.workload} via {outcome.via} ..."),
                **given,
            )
            for name in names
        )
    screen.show(reports if workload == "all" else reports[0], as_json=json)
    return 0 if all(report.correct for report in reports) else 1


def _warn(screen: Screen, notices: tuple[str, ...]) -> None:
    for notice in notices:
        screen.warn(notice)


def _leave(signum: int, frame: FrameType | None) -> None:
    # Only once: ending what was started takes seconds at the most, and an impatient second Ctrl-C would cut it short.
    for each in _INTERRUPTS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


add_cluster_commands(app)
add_profile_commands(app)
add_change_commands(app)
add_join_commands(app)
add_spec_commands(app)
