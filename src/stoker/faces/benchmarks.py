"""``stoker bench``: measures stoker side by side with what it should beat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stoker.bench import (
    QUEUE,
    START,
    BenchRecord,
    Contender,
    Sample,
    measure_apply,
    measure_queue,
    measure_start,
    render_record,
    write_record,
)
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
Rounds = Annotated[int, typer.Option("--rounds", min=1, help="How often each contender runs, in turn.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds that a contender may take in each round.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME", help="Measure this contender; may be given several times. Default: all."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE", dir_okay=False, help="Also write everything to this file, as JSON."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@bench.callback()
def _options() -> None:
    pass


@bench.command()
def start(
    context: typer.Context,
    engines: Engines = None,
    rounds: Rounds = 5,
    timeout: Timeout = 120.0,
    only: Only = None,
    output: Output = None,
    json: Json = False,
) -> int:
    """Measure from the first import to the first result of a load-balanced view; and the stop.

    Contenders: stock (ipyparallel as it is), stock-encrypted, stoker (on a fresh profile), stoker-applied (on a
    profile that the spec was applied to).
    """
    screen = screen_of(context)
    contenders = _choose(START, only or [])
    _check_output(output)
    record = measure_start(
        engines=engines or [2],
        rounds=rounds,
        timeout=timeout,
        contenders=contenders,
        on_sample=lambda sample: screen.tell(_describe(sample, rounds)),
        on_skipped=lambda skipped: screen.warn(f"{skipped.contender} is skipped: {skipped.reason}"),
    )
    return _finish(screen, record, output=output, as_json=json)


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
    record = measure_apply(
        rounds=rounds, timeout=timeout, on_sample=lambda sample: screen.tell(_describe(sample, rounds))
    )
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
        on_sample=lambda sample: screen.tell(_describe(sample, rounds)),
        on_skipped=lambda skipped: screen.warn(f"{skipped.contender} is skipped: {skipped.reason}"),
    )
    return _finish(screen, record, output=output, as_json=json)


def _finish(screen: Screen, record: BenchRecord, *, output: Path | None, as_json: bool) -> int:
    screen.show(render_record(record) if as_json else record, as_json=as_json)
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


def _check_output(output: Path | None) -> None:
    # Before minutes of measuring, not after.
    if output is not None and not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"no such directory: {output.absolute().parent}", param_hint="'--output'")


def _describe(sample: Sample, rounds: int) -> str:
    result = sample.problem or ", ".join(f"{name} {value:.2f}" for name, value in sample.figures.items())
    left = f" ({sample.left} processes were left behind)" if sample.left else ""
    return f"{sample.case}, round {sample.round} of {rounds}: {sample.contender}: {result}{left}"
