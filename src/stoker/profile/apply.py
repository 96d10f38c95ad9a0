"""Applying: performs a plan, each file whole or not at all."""

from __future__ import annotations

from stoker.errors import ProfileError
from stoker.profile.plan import Plan
from stoker.system.files import make_directory, read_or_none, write_file

__all__ = ["apply_plan"]


def apply_plan(plan: Plan) -> None:
    """Make the directories and write the files of a plan.

    Where it fails half-way, each file is the old or the new one; the next apply does the rest.

    Raises:
        ProfileError: A file or directory cannot be written, or was changed since the plan was made.
    """
    for path, mode in plan.directories:
        try:
            make_directory(path, mode=mode)
        except OSError as error:
            raise ProfileError(path, f"cannot be made: {error.strerror}") from error
    for change in plan.changes:
        try:
            if read_or_none(change.path) != change.before:
                raise ProfileError(change.path, "was changed by someone else in this moment; apply again")
            write_file(change.path, change.after)
        except OSError as error:
            raise ProfileError(change.path, f"cannot be written: {error.strerror}") from error
