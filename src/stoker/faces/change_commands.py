"""``stoker migrate`` and ``stoker revert``: change a profile's own lines, and change them back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stoker.cluster import refuse_running
from stoker.errors import ConflictError
from stoker.faces.options import Json
from stoker.faces.screen import screen_of
from stoker.profile import ProfileDirectory, apply_plan, check_plan, verify_plan
from stoker.profile.migrate import read_migration
from stoker.profile.revert import read_reversion
from stoker.spec import read_spec

__all__ = ["add_change_commands"]

Profile = Annotated[str, typer.Argument(metavar="PROFILE", help="The profile's name.")]
IPythonDir = Annotated[
    Path | None, typer.Option("--ipython-dir", help="Where profiles are. Default: $IPYTHONDIR, else ~/.ipython.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")]


def add_change_commands(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(migrate)
    app.command()(revert)


def migrate(
    context: typer.Context,
    profile: Profile,
    dry_run: DryRun = False,
    ipython_dir: IPythonDir = None,
    json: Json = False,
) -> int:
    """Comment a profile's old settings out, each with the reason, and say them in a spec and stoker's block instead.

    Nothing else moves, and `stoker revert` brings every byte back. Exits with 1 where something is left that only its
    owner can change.
    """
    screen = screen_of(context)
    directory = ProfileDirectory.named(profile, ipython_dir=ipython_dir)
    migration = read_migration(directory, read_spec(directory.spec) if directory.spec.exists() else None)
    check_plan(migration.plan, source=str(directory.path))
    if not dry_run:
        apply_plan(migration.plan)
        for finding in verify_plan(migration.plan, always=True):
            screen.warn(str(finding))
    screen.show(migration, as_json=json)
    if dry_run and not json:
        screen.show(migration.plan)
    return 1 if migration.left else 0


def revert(
    context: typer.Context,
    profile: Profile,
    dry_run: DryRun = False,
    force: Annotated[bool, typer.Option("--force", help="Also drop what was written by hand into the block.")] = False,
    ipython_dir: IPythonDir = None,
    json: Json = False,
) -> None:
    """Take everything of stoker's out of a profile: its files get back the bytes from before.

    What you wrote since then outside stoker's block stays.
    """
    screen = screen_of(context)
    directory = ProfileDirectory.named(profile, ipython_dir=ipython_dir)
    refuse_running(directory)
    reversion = read_reversion(directory)
    if reversion.conflicts and not force:
        raise ConflictError(
            [str(conflict) for conflict in reversion.conflicts],
            remedy="move these lines out of the block to keep them, or drop them with --force",
        )
    if not dry_run:
        apply_plan(reversion.plan)
    screen.show(reversion.plan, as_json=json)
