"""``stoker bundle`` and ``stoker engines``: engines by hand, on any machine, with one file that is carried there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from stoker.cluster import find_cluster
from stoker.cluster.join import JoinPlan, join_cluster
from stoker.errors import NotRunningError, UnknownTargetError
from stoker.faces.options import IPythonDir, Profile
from stoker.faces.screen import screen_of
from stoker.launch import AgentSettings, ConnectionFiles
from stoker.launch.bundle import parse_bundle, read_bundle, write_bundle
from stoker.profile import ProfileDirectory
from stoker.profile.engines import render_engine_environment
from stoker.spec import EngineGroup
from stoker.system.files import make_directory, read_or_none
from stoker.system.machine import read_cores

__all__ = ["add_join_commands"]

Location = Annotated[
    str | None,
    typer.Option(
        "--location", help="The address or name at which engines reach the controller's machine. Default: as it says."
    ),
]


def add_join_commands(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (bundle, engines):
        app.command()(command)


def bundle(
    context: typer.Context,
    profile: Profile = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file. Default: NAME-engines.json in this directory.")
    ] = None,
    location: Location = None,
    ipython_dir: IPythonDir = None,
) -> None:
    """Write the one file that another machine needs to start engines of a cluster that runs.

    Carry it there safely; `stoker engines` starts engines from it. Whoever has it can run code on the cluster. It is
    good as long as the cluster runs.
    """
    screen = screen_of(context)
    address = find_cluster(profile, ipython_dir=ipython_dir)
    file = ConnectionFiles.of(address.directory, address.cluster_id).engine
    data = read_or_none(file)
    if data is None:
        raise NotRunningError(f"no controller runs here: there is no connection file {file}")
    found = parse_bundle(data, source=str(file))
    found = found if location is None else found.at(location)
    path = output or Path(f"{address.name.replace(':', '-')}-engines.json")
    write_bundle(found, path)
    if found.is_for_one_machine:
        screen.warn(
            f"the controller listens at {found.host} only: on other machines this file is of no use; "
            'in the spec, [controller] ip = "ADDRESS" opens it'
        )
    screen.show(f"{path}: carry it to a machine, and start engines there with: stoker engines --join {path.name}")


def engines(
    context: typer.Context,
    join: Annotated[
        Path,
        typer.Option("--join", metavar="FILE", help="From `stoker bundle`, or ipyparallel's ipcontroller-engine.json."),
    ],
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=1, help="How many. Default: one per core of this machine.")
    ] = None,
    location: Location = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", help="Of this machine, whose configuration engines read. Default: none.", metavar="NAME"
        ),
    ] = None,
    lease: Annotated[
        float, typer.Option("--lease", min=1, help="Seconds without a controller after which they are ended.")
    ] = 120.0,
    logs: Annotated[
        Path | None, typer.Option("--logs", help="Directory of their logs. Default: ~/.local/state/stoker/joined.")
    ] = None,
) -> None:
    """Start engines here that join a controller elsewhere, and keep them until Ctrl-C.

    One that dies is started again under its number. They end with this command, when a client ends the cluster, and
    when the controller has been away for the lease.

    In the tutorial: the profile is created and the key file copied by hand on each machine, then ipengine is typed once
    for each engine.
    """
    screen = screen_of(context)
    number = count or read_cores().logical
    found = read_bundle(join)
    found = (found if location is None else found.at(location)).resolve()
    if not found.is_encrypted:
        screen.warn("the controller is not encrypted: all that engines say and hear crosses the network as it is")
    directory = None if profile is None else ProfileDirectory.named(profile).path
    if directory is not None and not directory.is_dir():
        raise UnknownTargetError(profile or "", f"there is no profile {directory} on this machine")
    place = (logs or _name_logs()).absolute()
    make_directory(place)
    plan = JoinPlan(
        bundle=found,
        count=number,
        settings=AgentSettings(lease=lease),
        logs=place,
        profile=directory,
        work_dir=Path.cwd(),
        env=render_engine_environment(EngineGroup(count=number), shared=number > 1),
    )
    screen.tell(f"starting {number} engine{'s' if number != 1 else ''}; logs are in {place} ...")
    join_cluster(plan, tell=screen.tell)


def _name_logs() -> Path:
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return base / "stoker" / "joined"
