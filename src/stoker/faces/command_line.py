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
from stoker.faces.screen import Screen, Terminal
from stoker.profile import apply_plan, read_plan
from stoker.workloads import VIAS, WORKLOADS, run_workload

__all__ = ["WrongUsage", "call", "main", "run"]

WrongUsage: Any = typer.BadParameter.__base__
"""What typer raises for words that make no command (click's ``UsageError``, or that of the click within typer)."""

app = typer.Typer(
    name="stoker",
    help="Clusters of IPython engines: one file says what the cluster should be, one command makes it so.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(bench, name="bench")

Spec = Annotated[
    str | None,
    typer.Argument(
        metavar="SPEC",
        help="A spec (a path that ends in .toml), or the name of a profile that one was applied to. "
        "Without it: one engine per core of this machine, under the profile 'stoker'.",
        show_default=False,
    ),
]
Profile = Annotated[
    str | None,
    typer.Argument(
        metavar="PROFILE",
        help="The profile's name, or NAME:CLUSTER_ID, or the spec's path. Without it: the only cluster that runs.",
        show_default=False,
    ),
]
IPythonDir = Annotated[
    Path | None,
    typer.Option(
        "--ipython-dir", help="Where profiles are. Default: as the spec says, else $IPYTHONDIR, else ~/.ipython."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Wait = Annotated[
    float, typer.Option("--wait", min=0, help="Seconds to wait for another command that starts or stops the cluster.")
]


def main() -> None:
    """Run the command line; exit with 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    # A terminal that is closed, or a kill, in the middle of a start must end what was started, as Ctrl-C does.
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _leave)
    sys.exit(run(sys.argv[1:], Terminal()))


def run(arguments: list[str], screen: Screen) -> int:
    """Run one command and give its exit code.

    Args:
        arguments: The words after ``stoker``.
        screen: Where it shows what it has to say.
    """
    try:
        return call(arguments, screen)
    except WrongUsage as error:
        error.show()
        return 2
    except StokerError as error:
        screen.fail(f"stoker: {error}")
        return 1
    except (KeyboardInterrupt, typer.Abort):
        screen.fail("stoker: interrupted")
        return 130


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
    screen = _screen(context)
    value, source = resolve_spec(spec, ipython_dir=ipython_dir)
    _warn(screen, value.notices)
    screen.show(read_plan(value, source=source), as_json=json)


@app.command()
def apply(context: typer.Context, spec: Spec = None, ipython_dir: IPythonDir = None, json: Json = False) -> None:
    """Write a spec into its profile: a marked block at the end of each config file, and a copy of the spec."""
    screen = _screen(context)
    value, source = resolve_spec(spec, ipython_dir=ipython_dir)
    _warn(screen, value.notices)
    changes = read_plan(value, source=source)
    apply_plan(changes)
    if json:
        screen.show(changes, as_json=True)
        return
    for change in changes.changes:
        screen.show(f"{'changed' if change.before is not None else 'created'} {change.path}")
    if not changes:
        screen.show(changes)


@app.command()
def up(
    context: typer.Context,
    spec: Spec = None,
    ipython_dir: IPythonDir = None,
    wait: Wait = 120.0,
    json: Json = False,
) -> None:
    """Make a cluster run: apply its spec, start controller and engines, wait until every engine answers."""
    screen = _screen(context)
    value, source = resolve_spec(spec, ipython_dir=ipython_dir)
    started = start_cluster(value, source=source, wait=wait, on_stage=lambda stage: screen.tell(f"{stage} ..."))
    _warn(screen, started.notices)
    screen.show(started, as_json=json)


@app.command()
def status(context: typer.Context, profile: Profile = None, ipython_dir: IPythonDir = None, json: Json = False) -> None:
    """Show how a cluster is; without a name, every one that runs."""
    screen = _screen(context)
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
    _screen(context).show(stop_cluster(find_cluster(profile, ipython_dir=ipython_dir), wait=wait), as_json=json)


@app.command("run")
def run_(
    context: typer.Context,
    workload: Annotated[str, typer.Argument(help=f"One of: {', '.join(WORKLOADS)}, or all of them: all.")],
    profile: Profile = None,
    via: Annotated[str, typer.Option(help="Which ways to run it, with commas between.")] = ",".join(VIAS),
    n: Annotated[int | None, typer.Option(help="sum: adds up range(N). [default: 10000000]")] = None,
    times: Annotated[int | None, typer.Option(help="sum: how many sums on the cluster. [default: 100]")] = None,
    serial_times: Annotated[int | None, typer.Option(help="sum: how many of them serially. [default: 10]")] = None,
    count: Annotated[int | None, typer.Option(help="primes: how many. [default: 1000]")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that each way may take.")] = 600.0,
    ipython_dir: IPythonDir = None,
    json: Json = False,
) -> int:
    """Run the tutorial's workloads on a cluster that runs, in every way the tutorial shows, and check the results."""
    screen = _screen(context)
    names = WORKLOADS if workload == "all" else (workload,)
    if not set(names) <= set(WORKLOADS):
        raise typer.BadParameter(f"no workload {workload!r}; there are: {', '.join(WORKLOADS)}, all", context)
    given = {"n": n, "times": times, "serial_times": serial_times, "count": count}
    with connect(profile, ipython_dir=ipython_dir) as cluster:
        reports = tuple(
            run_workload(
                name,
                cluster.view,
                engines=len(cluster.client.ids),
                vias=via.split(","),
                timeout=timeout,
                on_outcome=lambda outcome: screen.tell(f"{outcome.workload} via {outcome.via} ..."),
                **given,
            )
            for name in names
        )
    screen.show(reports if workload == "all" else reports[0], as_json=json)
    return 0 if all(report.correct for report in reports) else 1


def _screen(context: typer.Context) -> Screen:
    screen = context.obj
    assert isinstance(screen, Screen)
    return screen


def _warn(screen: Screen, notices: tuple[str, ...]) -> None:
    for notice in notices:
        screen.warn(notice)


def _leave(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
