"""Checking what is about to be written, and verifying that it holds once the profile is loaded."""

from __future__ import annotations

import contextlib
import sys
from importlib import metadata
from pathlib import Path

from stoker.profile.block import remove_block
from stoker.profile.catalogue import check_rendered, read_catalogue
from stoker.profile.directory import CONFIG_FILES
from stoker.profile.effective import verify_profile
from stoker.profile.finding import Finding
from stoker.profile.plan import Plan, read_text
from stoker.system.stamp import make_stamp, read_stamp, write_stamp

__all__ = ["check_plan", "list_config_files", "verify_plan"]


def check_plan(plan: Plan, *, source: str) -> None:
    """Check everything that a plan writes against the traits of the installed packages, before it is written.

    Args:
        plan: What is to be applied.
        source: What faults name as the place.

    Raises:
        SpecError: A trait does not exist, is not read from its file, or refuses its value; all of them at once.
    """
    if plan and plan.settings is not None:
        check_rendered(plan.settings.files, read_catalogue(), source=source)


def verify_plan(plan: Plan, *, always: bool = False) -> tuple[Finding, ...]:
    """Load an applied profile as its applications do, and find what is not as its spec says.

    That takes half a second in a process of its own, so it is done only where it can find something: where the files
    hold more than stoker wrote, and were changed since they were verified last.

    Args:
        plan: What was applied.
        always: Load in any case.

    Raises:
        ProfileError: Loading took too long, or ended the process that did it.
    """
    if plan.settings is None or not (always or _holds_foreign_text(plan)):
        return ()
    file = plan.directory.pid / "profile-verified.json"
    circumstances = {"python": sys.version, **{name: metadata.version(name) for name in ("stoker", "ipyparallel")}}
    known = read_stamp(file)
    if not always and known is not None and known.holds(circumstances):
        return ()
    findings = verify_profile(plan.directory, plan.settings)
    if not findings:
        with contextlib.suppress(OSError):
            write_stamp(file, make_stamp(list_config_files(plan), circumstances=circumstances, lines=()))
    return findings


def list_config_files(plan: Plan) -> list[Path]:
    """List every file that is loaded with a profile, be it there or not, and the copy of the spec."""
    names = [*CONFIG_FILES, *(Path(name).with_suffix(".json").name for name in CONFIG_FILES)]
    return [*(plan.directory.path / name for name in names), plan.directory.spec]


def _holds_foreign_text(plan: Plan) -> bool:
    for path in list_config_files(plan):
        text = read_text(path)
        if path.suffix == ".json" and text is not None:
            return True
        if path.suffix == ".py" and (remove_block(path, text) or b"").strip():
            return True
    return False
