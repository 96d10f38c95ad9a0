"""``stoker queue``: the tutorial's job queue of multiprocessing.managers, served, filled, worked at and read."""

from __future__ import annotations

import contextlib
import json as json_module
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from stoker.faces.options import Json
from stoker.faces.screen import Screen, screen_of, until_nobody_reads
from stoker.queue.calls import PRIMES, parse_calls
from stoker.queue.client import Queue
from stoker.queue.directory import Address, QueueDirectory, parse_address
from stoker.queue.line import Line
from stoker.queue.outcome import Result
from stoker.queue.serve import serve as serve_queue
from stoker.queue.work import run_workers
from stoker.spec import ClusterSpec, read_spec

__all__ = ["queue"]

queue = typer.Typer(
    help="A job queue of multiprocessing.managers, for machines that cannot have ipyparallel. Server and workers also "
    "run from the directories queue/, system/ and the file errors.py alone: python -m stoker.queue serve|work.",
    no_args_is_help=True,
)

Spec = Annotated[Path | None, typer.Option("--spec", metavar="FILE", help="A spec, for what its section queue says.")]
Directory = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        metavar="DIR",
        help="The queue's directory: key, journal, address. "
        "Default: as the spec says, else $XDG_STATE_HOME/stoker/queue, else ~/.local/state/stoker/queue.",
    ),
]
Where = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT", help="Where the server listens. Default: as its directory says."),
]
Key = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="The file with the server's key. Default: the one in the directory."),
]
Wait = Annotated[
    float, typer.Option("--wait", min=0, help="Seconds for which a server that does not answer is tried again.")
]


@queue.command()
def serve(
    context: typer.Context,
    spec: Spec = None,
    directory: Directory = None,
    ip: Annotated[
        str | None, typer.Option(help="The address of an interface, or * for all. Default: 127.0.0.1.", metavar="IP")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Default: as when it was last served, else any free one.")
    ] = None,
    lease: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds of silence after which a worker's jobs go to others. Default: 30."),
    ] = None,
    attempts: Annotated[
        int | None, typer.Option(min=1, help="How many workers a job may kill before it is given up. Default: 3.")
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(help="Seconds that a job may take unless its producer says otherwise. Default: no limit."),
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Put the old journal aside, and begin an empty one.")] = False,
) -> None:
    """Serve a queue until Ctrl-C. What was there when it was last served is there again.

    In the tutorial: manager.get_server().serve_forever(), with the password in the source.
    """
    screen = screen_of(context)
    section = _read(spec).queue
    with contextlib.suppress(KeyboardInterrupt):
        serve_queue(
            _place(section.directory, directory),
            ip=section.ip if ip is None else ip,
            port=section.port if port is None else port,
            lease=section.lease if lease is None else lease,
            attempts=section.attempts if attempts is None else attempts,
            time_limit=section.time_limit if time_limit is None else time_limit,
            new=new,
            tell=screen.tell,
            warn=screen.warn,
        )


@queue.command()
def put(
    context: typer.Context,
    function: Annotated[
        str,
        typer.Argument(
            metavar="primes|MODULE:FUNCTION",
            help="What workers are to run. They import it, also from the directory where they were started.",
        ),
    ],
    count: Annotated[int | None, typer.Option(min=1, help="primes: how many. Default: 1000.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds that each job may take.")] = None,
    spec: Spec = None,
    directory: Directory = None,
    address: Where = None,
    key: Key = None,
    wait: Wait = 60.0,
    json: Json = False,
) -> None:
    """Put jobs. Of any function but primes, each line of standard input is one job's arguments, in JSON.

    A list holds the positional arguments, an object the keyword arguments, anything else is the only argument.
    Nothing is put unless all lines are right.

    In the tutorial: manager.connect(); queue = manager.queue(); queue.put(item) for each item.
    """
    screen = screen_of(context)
    if function == "primes":
        name = PRIMES
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [((index,), {}) for index in range(count or 1000)]
    elif count is not None:
        raise typer.BadParameter("only primes has a count; others read arguments from standard input", context)
    else:
        name = function
        if sys.stdin.isatty():
            screen.tell("one job's arguments per line, in JSON; end with Ctrl-D")
        calls = list(parse_calls(sys.stdin, source="standard input"))
    with _connect(screen, spec, directory, address, key, wait) as connected:
        numbers = connected.put_calls(
            name,
            calls,
            time_limit=time_limit,
            progress=lambda done: screen.tell(f"{done} of {len(calls)} put ...") if done < len(calls) else None,
        )
    ranges = _Put(function=name, jobs=len(numbers), first=min(numbers, default=None), last=max(numbers, default=None))
    screen.show(ranges, as_json=json)


@queue.command()
def work(
    context: typer.Context,
    workers: Annotated[int, typer.Option("-n", "--workers", min=1, help="How many jobs are run at once.")] = 1,
    spec: Spec = None,
    directory: Directory = None,
    address: Where = None,
    key: Key = None,
    wait: Wait = 60.0,
) -> None:
    """Run jobs on this machine until the queue is closed and all is done. Any number of these, on any machines.

    What a worker was at when it is interrupted, or dies, goes to another.

    In the tutorial: while not queue.empty(): manager.primes(queue.get()), which computed on the server.
    """
    screen = screen_of(context)
    place, where = _place(_read(spec).queue.directory, directory), _parse(address)
    # As `python -m` has it: modules beside which a worker is started are found.
    sys.path.insert(0, "")
    done = run_workers(
        workers, lambda: Line(place, address=where, key=key, wait=wait, tell=screen.tell), tell=screen.tell
    )
    screen.show(f"all is done; {done} results came from here")


@queue.command()
def results(
    context: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", help="Wait for those to come, until the queue is closed and all is done.")
    ] = False,
    after: Annotated[int, typer.Option(min=0, help="Only of jobs with higher numbers.")] = 0,
    spec: Spec = None,
    directory: Directory = None,
    address: Where = None,
    key: Key = None,
    wait: Wait = 60.0,
    json: Annotated[bool, typer.Option("--json", help="Print each result as a line of JSON.")] = False,
) -> int:
    """Print each result once, in the order of the jobs: number and value. Exits with 1 if a job gave no value.

    Results stay with the server; --after NUMBER goes on behind the last one seen.

    In the tutorial there is no counterpart: its clients print what they compute, and that is all.
    """
    screen = screen_of(context)
    failed = False
    with _connect(screen, spec, directory, address, key, wait) as connected, until_nobody_reads():
        for result in connected.results(follow=follow, after=after):
            failed = failed or not result.ok
            print(_render_line(result) if json else _render_text(result), flush=follow)  # noqa: T201
    return 1 if failed else 0


@queue.command()
def status(
    context: typer.Context,
    spec: Spec = None,
    directory: Directory = None,
    address: Where = None,
    key: Key = None,
    wait: Wait = 5.0,
    json: Json = False,
) -> None:
    """Show how a queue is: jobs waiting, running, done; its workers.

    In the tutorial: queue.qsize(), at best.
    """
    screen = screen_of(context)
    with _connect(screen, spec, directory, address, key, wait) as connected:
        screen.show(connected.status(), as_json=json)


@queue.command()
def close(
    context: typer.Context,
    spec: Spec = None,
    directory: Directory = None,
    address: Where = None,
    key: Key = None,
    wait: Wait = 60.0,
) -> None:
    """Say that no more jobs come: workers end when all is done. The server goes on, for those who read results.

    In the tutorial: clients leave when queue.empty(), also when it is empty for a moment only.
    """
    screen = screen_of(context)
    with _connect(screen, spec, directory, address, key, wait) as connected:
        connected.close()
        seen = connected.status()
    screen.show(f"closed; {seen.waiting + seen.running} of {seen.put} jobs are still to be done")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Put:
    function: str
    jobs: int
    first: int | None
    last: int | None

    def __str__(self) -> str:
        if not self.jobs:
            return "no job was put: there were no arguments"
        return f"put {self.jobs} jobs of {self.function}, numbers {self.first} to {self.last}"


def _read(spec: Path | None) -> ClusterSpec:
    return ClusterSpec() if spec is None else read_spec(spec)


def _place(said: Path | None, given: Path | None) -> QueueDirectory:
    path = given or said
    return QueueDirectory.default() if path is None else QueueDirectory(path.expanduser())


def _parse(address: str | None) -> Address | None:
    return None if address is None else parse_address(address)


def _connect(
    screen: Screen, spec: Path | None, directory: Path | None, address: str | None, key: Path | None, wait: float
) -> Queue:
    place = _place(_read(spec).queue.directory, directory)
    return Queue(Line(place, address=_parse(address), key=key, wait=wait, tell=screen.tell))


def _render_text(result: Result) -> str:
    if result.ok:
        return f"{result.number}\t{result.value!r}"
    where = f"attempt {result.attempt}, {result.host}, process {result.pid}"
    text = f"{result.number}\tfailed: {result.call}: {result.problem} ({where})"
    return "\n".join([text, *(f"    {line}" for line in (result.traceback or "").splitlines())])


def _render_line(result: Result) -> str:
    fields: dict[str, object] = {name: getattr(result, name) for name in ("number", "function", "ok")}
    if result.ok:
        try:
            json_module.dumps(result.value)
            fields["value"] = result.value
        except (TypeError, ValueError):
            fields["repr"] = repr(result.value)
    else:
        fields |= {name: getattr(result, name) for name in ("problem", "call", "traceback")}
    fields |= {name: getattr(result, name) for name in ("host", "pid", "attempt", "seconds", "ended")}
    return json_module.dumps(fields)
