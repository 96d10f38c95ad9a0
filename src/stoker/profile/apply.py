"""Applying: performs a plan, all of it or, where the disk or someone else stands in the way, nothing."""

from __future__ import annotations

import contextlib

from stoker.errors import ProfileError
from stoker.profile.plan import FileChange, Plan
from stoker.system.files import StagedFile, find_staged, make_directory, read_or_none, remove_file, stage_file
from stoker.system.locks import hold_lock

__all__ = ["apply_plan"]

_WAIT = 10.0
"""Seconds to wait for another process that writes the same profile."""


def apply_plan(plan: Plan, *, wait: float = _WAIT) -> None:
    """Make the directories and write the files of a plan.

    Every new content lies on the disk before the first file is replaced; each file is the old or the new one at
    any moment. After a kill in between, the next apply does the rest.

    Args:
        plan: What to change.
        wait: Seconds to wait for another process that writes the same profile.

    Raises:
        ProfileError: A file or directory cannot be written, or was changed since the plan was made; no file was
            changed.
        BusyError: Another process still writes the profile.
    """
    if not plan and not find_staged(plan.directory.path):
        return
    for path, mode in plan.directories:
        try:
            make_directory(path, mode=mode)
        except OSError as error:
            raise ProfileError(path, f"cannot be made: {error.strerror}") from error
    with contextlib.ExitStack() as stack:
        lock = plan.directory.pid / "stoker-profile.lock"
        try:
            stack.enter_context(hold_lock(lock, wait=wait, purpose="stoker apply"))
        except OSError as error:
            raise ProfileError(lock, f"cannot be written: {error.strerror}") from error
        # What a kill in the middle of an earlier apply left; we hold the lock.
        for path in find_staged(plan.directory.path):
            remove_file(path)
        for change in plan.changes:
            _check_unchanged(change)
        staged = [_stage(change, stack) for change in plan.changes]
        for change, file in zip(plan.changes, staged, strict=True):
            _commit(change, file)


def _check_unchanged(change: FileChange) -> None:
    try:
        now = read_or_none(change.path)
    except OSError as error:
        raise ProfileError(change.path, f"cannot be read: {error.strerror}") from error
    if now != change.before:
        raise ProfileError(change.path, "was changed by someone else in this moment; apply again")


def _stage(change: FileChange, stack: contextlib.ExitStack) -> StagedFile | None:
    if change.after is None:
        return None
    try:
        return stack.enter_context(stage_file(change.path, change.after))
    except OSError as error:
        raise ProfileError(change.path, f"cannot be written: {error.strerror}") from error


def _commit(change: FileChange, staged: StagedFile | None) -> None:
    try:
        if staged is None:
            remove_file(change.path)
        else:
            staged.commit()
    except OSError as error:
        raise ProfileError(change.path, f"cannot be written: {error.strerror}") from error
