"""``stoker scale``, ``restart``, ``interrupt`` and ``logs``: what can be done with a cluster that runs."""

from __future__ import annotations

from functools import partial
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from stoker.cluster import Cluster, find_cluster
from stoker.cluster.log_view import choose_logs, follow_logs, read_logs
from stoker.faces.data import to_data
from stoker.faces.options import IPythonDir, Json, Profile
from stoker.faces.screen import screen_of

__all__ = ["add_cluster_commands"]

Engine = Annotated[int | None, typer.Option("--engine", min=0, help="An engine's number. Default: all engines.")]


def add_cluster_commands(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (scale, restart, interrupt, logs):
        app.command()(command)


def scale(
    context: typer.Context,
    count: Annotated[int, typer.Argument(metavar="N", min=0, help="How many engines there are to be.")],
    profile: Profile = None,
    group: Annotated[
        int | None,
        typer.Option(min=0, help="Of which group, by its place in the spec; needed where there are several."),
    ] = None,
    ipython_dir: IPythonDir = None,
    json: Json = False,
) -> None:
    """Change the number of engines of a cluster that runs.

    New ones are ready when the command ends. Of those that are too many, idle ones leave first, and busy ones when
    they have finished what they run; what waits for them goes to others. `stoker up` goes back to the spec's number.
    """
    screen = screen_of(context)
    answer = _cluster(profile, ipython_dir).scale(count, group=group)
    if json:
        screen.show(answer, as_json=True)
        return
    lines = [f"started {_name(answer['added'])}"] if answer["added"] else []
    if answer["leaving"]:
        lines.append(f"leaving when idle: {_name(answer['leaving'])}")
    if not lines:
        lines.append("nothing was changed")
    wanted = answer["wanted"]
    screen.show("\n".join([*lines, f"{wanted} engine{' is' if wanted == 1 else 's are'} wanted"]))


def restart(
    context: typer.Context,
    profile: Profile = None,
    engine: Engine = None,
    controller: Annotated[
        bool, typer.Option("--controller", help="The controller instead: engines keep their names.")
    ] = False,
    ipython_dir: IPythonDir = None,
    json: Json = False,
) -> None:
    """Start engines, or the controller, again; they are back when the command ends.

    Engines come back under their numbers, with start-up code and all that `on_every_engine` gave, and without the names
    they had. With the controller, engines keep their names; what was under way with load-balanced views is lost.
    One that was given up gets another chance.
    """
    screen = screen_of(context)
    if engine is not None and controller:
        raise typer.BadParameter("--engine and --controller: give one of them", context)
    done = _cluster(profile, ipython_dir).restart(engine=engine, controller=controller)
    screen.show({"restarted": done} if json else f"started again: {', '.join(done) or 'none'}", as_json=json)


def interrupt(
    context: typer.Context,
    profile: Profile = None,
    engine: Engine = None,
    ipython_dir: IPythonDir = None,
    json: Json = False,
) -> None:
    """Interrupt what engines run: a KeyboardInterrupt in the task; an idle engine is left as it is.

    It goes through the engines' agent. Code in C is interrupted when it returns; `stoker restart` does not wait for it.
    """
    screen = screen_of(context)
    told = _cluster(profile, ipython_dir).interrupt(engine)
    screen.show({"engines": told} if json else f"interrupted: {_name(told)}", as_json=json)


def logs(
    context: typer.Context,
    profile: Profile = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is added, until Ctrl-C or the cluster's end.")
    ] = False,
    engine: Annotated[int | None, typer.Option("--engine", min=0, help="Only this engine's.")] = None,
    controller: Annotated[bool, typer.Option("--controller", help="Only the controller's.")] = False,
    supervisor: Annotated[bool, typer.Option("--supervisor", help="Only the supervisor's.")] = False,
    agent: Annotated[bool, typer.Option("--agent", help="Only the agents'.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines of each log at first.")] = 10,
    ipython_dir: IPythonDir = None,
    json: Json = False,
) -> None:
    """Show the ends of a cluster's logs, each line with its origin in front.

    All logs, unless some are chosen. Works without a supervisor, too. With --follow, engines that are added are
    followed as well; --json then prints a line of JSON for each line.
    """
    screen = screen_of(context)
    address = find_cluster(profile, ipython_dir=ipython_dir)
    choose = partial(choose_logs, address, engine=engine, controller=controller, supervisor=supervisor, agent=agent)
    if follow:
        for line in follow_logs(choose, lines=lines):
            screen.stream(dumps(to_data(line)) if json else str(line))
        return
    chosen = choose()
    found = read_logs(chosen, lines=lines)
    if found or json:
        screen.show(found if json else "\n".join(map(str, found)), as_json=json)
    elif lines:
        screen.show("\n".join(f"{origin} | nothing in {path}" for origin, path in chosen.items()))


def _cluster(profile: str | None, ipython_dir: Path | None) -> Cluster:
    return Cluster(find_cluster(profile, ipython_dir=ipython_dir), started=False)


def _name(engines: list[int]) -> str:
    return f"engine {', '.join(map(str, sorted(engines)))}" if engines else "no engine"
