"""Commands about profiles and settings that start and change nothing: ``stoker check`` and its like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stoker.cluster import resolve_spec
from stoker.errors import UnknownTargetError
from stoker.faces.options import IPythonDir, Json
from stoker.faces.screen import screen_of
from stoker.profile import ProfileDirectory
from stoker.profile.check import check_profile
from stoker.spec import ClusterSpec

__all__ = ["add_profile_commands"]

Target = Annotated[
    str | None,
    typer.Argument(
        metavar="SPEC|PROFILE",
        help="A spec (a path that ends in .toml), or the name of a profile, also of one that stoker never touched. "
        "Without it: the profile 'stoker'.",
        show_default=False,
    ),
]


def add_profile_commands(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(check)


def check(context: typer.Context, target: Target = None, ipython_dir: IPythonDir = None, json: Json = False) -> int:
    """Say what in a profile is old, wrong, overridden, drifted or exposed, what comes of it today, and what to do.

    Its files are loaded as ipcontroller, ipengine, ipcluster, IPython and its kernel load them; nothing is changed.
    Exits with 1 where anything is found.
    """
    screen = screen_of(context)
    directory, spec, source = _resolve(target, ipython_dir)
    found = check_profile(directory, spec, source=source)
    screen.show(found if found or json else f"{directory.path}: nothing to say", as_json=json)
    return 1 if found else 0


def _resolve(target: str | None, ipython_dir: Path | None) -> tuple[ProfileDirectory, ClusterSpec | None, Path | None]:
    """Find the profile that is meant, its spec, and the spec's file, as far as there are any."""
    try:
        spec, source = resolve_spec(target, ipython_dir=ipython_dir)
    except UnknownTargetError:
        assert target is not None
        directory = ProfileDirectory.named(target, ipython_dir=ipython_dir)
        if not directory.path.is_dir():
            raise
        return directory, None, None
    return ProfileDirectory.of(spec), spec, Path(source) if source.endswith(".toml") else None
