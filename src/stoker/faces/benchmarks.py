"""``stoker bench``: measures stoker side by side with what it should beat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from stoker.bench import (
    MEMORY,
    QUEUE,
    SSH_START,
    START,
    SUBMIT,
    THROUGHPUT,
    WORKLOADS,
    BenchRecord,
    Bounds,
    Contender,
    Ratios,
    Sample,
    Skipped,
    Standing,
    measure_apply,
    measure_journal,
    measure_memory,
    measure_queue,
    measure_ssh_start,
    measure_start,
    measure_submit,
    measure_throughput,
    measure_workloads,
    render_record,
    write_record,
)
from stoker.bench.trials import INPUTS, WORKS
from stoker.faces.options import Json
from stoker.faces.screen import Screen, screen_of

__all__ = ["bench"]

bench = typer.Typer(help="Measure stoker side by side with what it should beat, in one run.", no_args_is_help=True)

Engines = Annotated[
    list[int] | None,
    typer.Option("--engines", min=1, help="Size of the clusters; may be given several times. Default: 2."),
]
Workers = Annotated[
    list[int] | None,
    typer.Option("--workers", min=1, help="How many workers; may be given several times. Default: 2."),
]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="How many trivial jobs.")]
Primes = Annotated[int, typer.Option("--primes", min=1, help="How many primes, from the first; each is a job.")]
Items = Annotated[
    list[int] | None,
    typer.Option("--items", min=1, help="How many items; may be given several times. Default: 20000 and 1000000."),
]
ManyItems = Annotated[
    list[int] | None,
    typer.Option("--items", min=1, help="How many items; may be given several times. Default: 5000000."),
]
Messages = Annotated[
    list[int] | None,
    typer.Option(
        "--messages", min=1, help="How many items, each in its own message; may be given several times. Default: 50000."
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME", help=f"Which items: {', '.join(INPUTS)}; several times. Default: all."),
]
Works = Annotated[
    list[str] | None,
    typer.Option("--work", metavar="NAME", help=f"Which work: {', '.join(WORKS)}; several times. Default: all."),
]
Repeats = Annotated[int, typer.Option("--repeats", min=1, help="How often each program does it, in each round.")]
Durations = Annotated[
    list[float] | None,
    typer.Option(
        "--duration",
        min=0.0001,
        metavar="SECONDS",
        help="CPU seconds that each item computes; may be given several times. "
        "Default: 0.001, 0.01, 0.1 and 1; for the journal 0.001.",
    ),
]
Rounds = Annotated[int, typer.Option("--rounds", min=1, help="How often each contender runs, in turn.")]
Idle = Annotated[
    float,
    typer.Option(
        "--idle",
        min=0,
        metavar="SECONDS",
        help="Also count the CPU of the whole cluster over so many seconds without work, in % of a core. 0: do not.",
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds that a contender may take in each round.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME", help="Measure this contender; may be given several times. Default: all."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE", dir_okay=False, help="Also write everything to this file, as JSON."),
]


@bench.callback()
def _options() -> None:
    pass


@bench.command()
def start(
    context: typer.Context,
    engines: Engines = None,
    rounds: Rounds = 5,
    idle: Idle = 0.0,
    timeout: Timeout = 120.0,
    only: Only = None,
    output: Output = None,
    json: Json = False,
) -> int:
    """Measure from the first import to the first result; then the memory of the idle cluster; and its stop.

    Contenders: stock (ipyparallel as it is), stock-encrypted, stoker (where the same cluster was started before: the
    profile is there), stoker-fresh (where there is no profile yet), dask (LocalCluster) and ray, which come with the
    extra 'bench'.

    Memory is PSS for each engine: engines with their nannies, or with their agent. Overhead is that of the rest of the
    cluster: controller and supervisor; for dask the measuring program, in which its scheduler and its nannies live.
    """
    screen = screen_of(context)
    contenders = _choose(START, only or [])
    _check_output(output)
    record = measure_start(
        engines=engines or [2],
        rounds=rounds,
        timeout=timeout,
        idle=idle,
        contenders=contenders,
        on_sample=_teller(screen, rounds),
        on_skipped=_warner(screen),
    )
    ratios = Ratios(record=record, measures=("start", "memory"))
    return _finish(screen, record, compared=ratios, output=output, as_json=json)


@bench.command()
def ssh_start(
    context: typer.Context,
    hosts: Annotated[
        list[str],
        typer.Option(
            "--host",
            metavar="HOST",
            help="Where engines are started, as ssh knows it; may be given several times. "
            "scripts/bench builds two hosts where none is given (needs root).",
        ),
    ],
    python: Annotated[str, typer.Option("--python", metavar="PATH", help="The interpreter on hosts.")] = "python3",
    engines: Annotated[int, typer.Option("--engines", min=1, help="How many on each host.")] = 4,
    rounds: Rounds = 3,
    timeout: Timeout = 300.0,
    only: Only = None,
    output: Output = None,
    json: Json = False,
) -> int:
    """Measure engines on other hosts: from the first import until each has answered, and the stop of all.

    Contenders: stock (ipyparallel's SSH launcher as it is) and stoker, where there is no profile yet.

    Counted for each host: processes there while the cluster is up, ssh connections made until it is stopped, those
    kept while it is up, and processes left right after the stop. ssh must get in without asking anything.
    """
    screen = screen_of(context)
    contenders = _choose(SSH_START, only or [])
    _check_output(output)
    record = measure_ssh_start(
        hosts=list(dict.fromkeys(hosts)),
        python=python,
        engines=engines,
        rounds=rounds,
        timeout=timeout,
        contenders=contenders,
        on_sample=_teller(screen, rounds),
        on_skipped=_warner(screen),
    )
    ratios = Ratios(record=record, measures=("start", "stop", "processes", "connections"))
    return _finish(screen, record, compared=ratios, output=output, as_json=json)


@bench.command()
def apply(
    context: typer.Context,
    rounds: Rounds = 3,
    timeout: Timeout = 120.0,
    output: Output = None,
    json: Json = False,
) -> int:
    """Measure `stoker apply` on a profile that nothing has touched since, beside the interpreter's own start."""
    screen = screen_of(context)
    _check_output(output)
    record = measure_apply(rounds=rounds, timeout=timeout, on_sample=_teller(screen, rounds))
    return _finish(screen, record, output=output, as_json=json)


@bench.command()
def queue(
    context: typer.Context,
    workers: Workers = None,
    jobs: Jobs = 10_000,
    primes: Primes = 1000,
    rounds: Rounds = 3,
    timeout: Timeout = 1800.0,
    only: Only = None,
    output: Output = None,
    json: Json = False,
) -> int:
    """Measure job queues from the first put to the last result: many trivial jobs, and the primes.

    Contenders: tutorial (a multiprocessing manager, which computes; 300 trivial jobs at the most, because it does
    about ten a second), tutorial-nodelay (the same without its wait at each connection), pool
    (multiprocessing.Pool.imap), stoker.
    """
    screen = screen_of(context)
    contenders = _choose(QUEUE, only or [])
    _check_output(output)
    record = measure_queue(
        workers=workers or [2],
        jobs=jobs,
        primes=primes,
        rounds=rounds,
        timeout=timeout,
        contenders=contenders,
        on_sample=_teller(screen, rounds),
        on_skipped=_warner(screen),
    )
    return _finish(screen, record, output=output, as_json=json)


@bench.command()
def journal(
    context: typer.Context,
    workers: Workers = None,
    durations: Durations = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.001, help="CPU seconds of all items together.")] = 4.0,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="How many pairs of maps, in each round.")] = 10,
    rounds: Rounds = 3,
    timeout: Timeout = 600.0,
    output: Output = None,
    json: Json = False,
) -> int:
    """Measure what a journal costs: items a second of Cluster.map without one and with one, in turn, in one program.

    Items compute for --duration seconds, 0.001 unless it is given. Kept is what a map with a journal keeps of the
    throughput of the one beside it, as the median of all pairs.
    """
    screen = screen_of(context)
    _check_output(output)
    record = measure_journal(
        workers=workers or [2],
        durations=durations or [0.001],
        seconds=seconds,
        repeats=repeats,
        rounds=rounds,
        timeout=timeout,
        on_sample=_teller(screen, rounds),
    )
    return _finish(screen, record, output=output, as_json=json)


@bench.command()
def throughput(
    context: typer.Context,
    workers: Workers = None,
    items: Items = None,
    inputs: Inputs = None,
    repeats: Repeats = 3,
    rounds: Rounds = 3,
    timeout: Timeout = 600.0,
    only: Only = None,
    output: Output = None,
    json: Json = False,
) -> int:
    """Measure how many items a second go to the workers and back: a trivial function, a list in and a list out.

    Contenders: pool (multiprocessing.Pool.map), executor (ProcessPoolExecutor.map, four chunks a worker), joblib
    (Parallel), plain (ipyparallel's map_sync, on 2000 items at the most), dask (Client.map), ray and stoker
    (Cluster.map). Those three that send each item by itself, plain, dask and ray, have no part in more than 20,000
    items. joblib, dask and ray come with the extra 'bench'.
    """
    screen = screen_of(context)
    contenders = _choose(THROUGHPUT, only or [])
    chosen = _choose_names(INPUTS, inputs, option="--input")
    _check_output(output)
    record = measure_throughput(
        workers=workers or [2],
        items=items or [20_000, 1_000_000],
        inputs=chosen,
        repeats=repeats,
        rounds=rounds,
        timeout=timeout,
        contenders=contenders,
        on_sample=_teller(screen, rounds),
        on_skipped=_warner(screen),
    )
    return _finish(screen, record, compared=Standing(record=record), output=output, as_json=json)


@bench.command()
def submit(
    context: typer.Context,
    workers: Workers = None,
    calls: Annotated[int, typer.Option("--calls", min=1, help="How many calls are submitted.")] = 20_000,
    repeats: Repeats = 3,
    rounds: Rounds = 3,
    timeout: Timeout = 600.0,
    only: Only = None,
    output: Output = None,
    json: Json = False,
) -> int:
    """Measure how many calls of a trivial function a second come home, each with its future; and one call alone.

    Contenders: pool (multiprocessing.Pool.apply_async), executor (ProcessPoolExecutor.submit), plain (ipyparallel's
    apply_async on stoker's cluster, 2000 calls at the most), dask (Client.submit), ray and stoker (Cluster.submit).
    Plain, dask and ray have no part in more than 20,000 calls. dask and ray come with the extra 'bench'.
    """
    screen = screen_of(context)
    contenders = _choose(SUBMIT, only or [])
    _check_output(output)
    record = measure_submit(
        workers=workers or [2],
        calls=calls,
        repeats=repeats,
        rounds=rounds,
        timeout=timeout,
        contenders=contenders,
        on_sample=_teller(screen, rounds),
        on_skipped=_warner(screen),
    )
    standing = Standing(record=record, measures=("rate", "trip"))
    return _finish(screen, record, compared=standing, output=output, as_json=json)


@bench.command()
def memory(
    context: typer.Context,
    workers: Workers = None,
    items: ManyItems = None,
    messages: Messages = None,
    rounds: Rounds = 1,
    timeout: Timeout = 1800.0,
    only: Only = None,
    output: Output = None,
    json: Json = False,
) -> int:
    """Measure by how much a map that keeps no results makes client, hub, schedulers and engines grow.

    Items go in batches, then one a message. Contenders: plain (ipyparallel's LoadBalancedView.map, an item a message;
    it does about 250 a second and has no part in more than 50,000 items), plain-encrypted, and stoker (Cluster.imap).

    Memory is USS, in MB: of all schedulers together, of the hub, of the client, of each engine, and of all others
    (supervisor and agent). Hub and schedulers may keep 2,000 bytes of each message, and nothing of an item.
    """
    screen = screen_of(context)
    contenders = _choose(MEMORY, only or [])
    _check_output(output)
    record = measure_memory(
        workers=workers or [2],
        items=items or [5_000_000],
        messages=messages or [50_000],
        rounds=rounds,
        timeout=timeout,
        contenders=contenders,
        on_sample=_teller(screen, rounds),
        on_skipped=_warner(screen),
    )
    return _finish(screen, record, compared=Bounds(record=record), output=output, as_json=json)


@bench.command()
def workloads(
    context: typer.Context,
    workers: Workers = None,
    works: Works = None,
    n: Annotated[int, typer.Option("--n", min=1, help="sum: how many numbers are added.")] = 10_000_000,
    times: Annotated[int, typer.Option("--times", min=1, help="sum: how often.")] = 100,
    count: Annotated[int, typer.Option("--count", min=1, help="primes: how many, from the first.")] = 1000,
    durations: Durations = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.001, help="spin: CPU seconds of all items together.")
    ] = 4.0,
    repeats: Repeats = 1,
    rounds: Rounds = 3,
    timeout: Timeout = 1800.0,
    only: Only = None,
    output: Output = None,
    json: Json = False,
) -> int:
    """Measure how long the sum, the primes, and items that spin for a given time take, and how busy workers are kept.

    Contenders: serial (a plain loop), loops (one for each worker at once, which nobody feeds: what the cores give),
    pool (multiprocessing.Pool.map) and plain (ipyparallel's view.map), each with the best of several chunk sizes, and
    stoker (Cluster.map). Efficiency is the plain loop's time in the same round, divided by the contender's and by the
    cores that workers can have.
    """
    screen = screen_of(context)
    contenders = _choose(WORKLOADS, only or [])
    chosen = _choose_names(WORKS, works, option="--work")
    _check_output(output)
    record = measure_workloads(
        workers=workers or [2],
        works=chosen,
        n=n,
        times=times,
        count=count,
        durations=durations or [0.001, 0.01, 0.1, 1.0],
        seconds=seconds,
        repeats=repeats,
        rounds=rounds,
        timeout=timeout,
        contenders=contenders,
        on_sample=_teller(screen, rounds),
        on_skipped=_warner(screen),
    )
    standing = Standing(record=record, serial=WORKLOADS[0].name)
    return _finish(screen, record, compared=standing, output=output, as_json=json)


def _finish(
    screen: Screen,
    record: BenchRecord,
    *,
    output: Path | None,
    as_json: bool,
    compared: Bounds | Ratios | Standing | None = None,
) -> int:
    screen.show(render_record(record) if as_json else record, as_json=as_json)
    if compared and not as_json:
        screen.show(compared)
    if output is not None:
        try:
            write_record(output, record)
        except OSError as error:
            screen.fail(f"stoker: {output}: {error.strerror}")
            return 1
    return 0 if record.measured else 1


def _choose(contenders: tuple[Contender, ...], only: list[str]) -> tuple[Contender, ...]:
    names = [contender.name for contender in contenders]
    unknown = [name for name in only if name not in names]
    if unknown:
        raise typer.BadParameter(f"no contender {unknown[0]!r}; there are: {', '.join(names)}", param_hint="'--only'")
    return tuple(contender for contender in contenders if not only or contender.name in only)


def _choose_names(names: tuple[str, ...], chosen: list[str] | None, *, option: str) -> tuple[str, ...]:
    unknown = [name for name in chosen or () if name not in names]
    if unknown:
        raise typer.BadParameter(f"no {unknown[0]!r}; there are: {', '.join(names)}", param_hint=f"'{option}'")
    return tuple(name for name in names if not chosen or name in chosen)


def _check_output(output: Path | None) -> None:
    # Before minutes of measuring, not after.
    if output is not None and not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"no such directory: {output.absolute().parent}", param_hint="'--output'")


def _teller(screen: Screen, rounds: int) -> Callable[[Sample], None]:
    return lambda sample: screen.tell(_describe(sample, rounds))


def _warner(screen: Screen) -> Callable[[Skipped], None]:
    return lambda skipped: screen.warn(f"{skipped.contender} is skipped: {skipped.reason}")


def _describe(sample: Sample, rounds: int) -> str:
    result = sample.problem or ", ".join(f"{name} {value:.2f}" for name, value in sample.figures.items())
    left = f" ({sample.left} processes were left behind)" if sample.left else ""
    return f"{sample.case}, round {sample.round} of {rounds}: {sample.contender}: {result}{left}"
