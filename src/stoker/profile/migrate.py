"""Migrating: plans old settings out of a profile's files, and what they mean into its spec and block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.errors import ProfileError
from stoker.profile.block import remove_block
from stoker.profile.directory import CONFIG_FILES, ProfileDirectory, find_ipython_dir
from stoker.profile.legacy import OldImport, OldSetting, find_old_import, find_old_setting, modern
from stoker.profile.plan import Plan, read_plan, read_text
from stoker.profile.retire import Retired
from stoker.profile.source import UNKNOWN, Assignment, Import, parse_source
from stoker.spec import ClusterSpec, parse_spec

__all__ = ["Migration", "Step", "read_migration"]

# At any other value than its default it beats client_ip and engine_ip, which the block sets.
_BEATS_THE_BLOCK = ("IPController.ip",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One statement that is commented out, or carried into the spec, or left to its owner."""

    path: Path
    line: int
    """From 1, in the file as it is."""

    setting: str
    """As it stands in the file."""

    becomes: Mapping[str, object]
    """Keys of the spec that say the same; empty where nothing needs to."""

    note: str
    """Why; for one that is left, what its owner has to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What migrating a profile changes."""

    spec: ClusterSpec
    """What the profile is made from afterwards."""

    plan: Plan
    retired: tuple[Step, ...]
    """Commented out."""

    carried: tuple[Step, ...]
    """Left as they are, and said in the spec too, because stoker's block would override them."""

    left: tuple[Step, ...]
    """Old, but not to be changed by a program."""


def read_migration(directory: ProfileDirectory, spec: ClusterSpec | None) -> Migration:
    """Plan a profile's way from old settings to a spec.

    Args:
        directory: The profile.
        spec: What was applied to it before; what it says itself beats old settings. None: nothing was.

    Raises:
        ProfileError: The profile is not there, or a file cannot be read or parsed.
        SpecError: What the old settings say makes no spec.
    """
    if not directory.path.is_dir():
        raise ProfileError(directory.path, "there is no such profile")
    found = _Found()
    for name in CONFIG_FILES:
        path = directory.path / name
        rest = remove_block(path, read_text(path))
        if rest is not None:
            source = parse_source(path, rest)
            statements: list[Assignment | Import] = [*source.assignments, *source.imports]
            for statement in sorted(statements, key=lambda one: one.line):
                found.sort_in(path, statement)
    migrated = _merge(directory, spec, found.wishes())
    return Migration(
        spec=migrated,
        plan=read_plan(migrated, source=f"{directory.path} (migrated)", retired=found.statements),
        retired=tuple(found.retired),
        carried=tuple(found.carried),
        left=tuple(found.left),
    )


class _Found:
    def __init__(self) -> None:
        self.retired: list[Step] = []
        self.carried: list[Step] = []
        self.left: list[Step] = []
        self.statements: dict[str, tuple[Retired, ...]] = {}

    def sort_in(self, path: Path, statement: Assignment | Import) -> None:
        if isinstance(statement, Import):
            old_import = find_old_import(statement)
            if old_import is not None:
                self._retire(path, statement, f"import {statement.module}", old_import, {})
            return
        becomes = modern(statement)
        old = find_old_setting(path.name, statement)
        if old is None and statement.name in _BEATS_THE_BLOCK:
            old = OldSetting(today="beats client_ip and engine_ip", remedy="say it in the spec: controller.ip")
        if old is not None:
            self._retire(path, statement, f"c.{statement.name}", old, becomes)
        elif becomes and not any(key.startswith("settings.") for key in becomes):
            self.carried.append(
                _step(path, statement, f"c.{statement.name}", becomes, "stoker's block would override it")
            )

    def wishes(self) -> dict[str, object]:
        """Give what all of them say together; of two for one key the later one, as IPython would."""
        wishes: dict[str, object] = {}
        for step in sorted(
            (*self.retired, *self.carried), key=lambda one: (CONFIG_FILES.index(one.path.name), one.line)
        ):
            wishes.update(step.becomes)
        return wishes

    def _retire(
        self,
        path: Path,
        statement: Assignment | Import,
        setting: str,
        old: OldSetting | OldImport,
        becomes: Mapping[str, object],
    ) -> None:
        note = f"{old.today}; {old.remedy}"
        launcher = isinstance(statement, Assignment) and statement.path[-1] == "engine_launcher_class"
        if launcher and not becomes:
            self.left.append(_step(path, statement, setting, {}, f"no launcher of a spec says this: {note}"))
        elif not statement.whole_lines:
            self.left.append(_step(path, statement, setting, {}, f"not alone on its line, or within a block: {note}"))
        elif isinstance(statement, Assignment) and statement.value is UNKNOWN:
            self.left.append(_step(path, statement, setting, {}, f"its value is computed: {note}"))
        else:
            self.retired.append(_step(path, statement, setting, becomes, note))
            self._comment_out(path, statement, f"{setting}: {old.today}{_say(becomes)}")

    def _comment_out(self, path: Path, statement: Assignment | Import, reason: str) -> None:
        known = self.statements.get(path.name, ())
        # One statement can set two traits, or import two modules.
        if all(statement.line != one.first for one in known):
            one = Retired(first=statement.line, last=statement.last_line, reason=reason)
            self.statements[path.name] = (*known, one)


def _step(path: Path, statement: Assignment | Import, setting: str, becomes: Mapping[str, object], note: str) -> Step:
    return Step(path=path, line=statement.line, setting=setting, becomes=dict(becomes), note=note)


def _say(becomes: Mapping[str, object]) -> str:
    if not becomes:
        return ""
    return "; now in the spec: " + ", ".join(f"{key} = {value!r}" for key, value in becomes.items())


def _merge(directory: ProfileDirectory, spec: ClusterSpec | None, wishes: Mapping[str, object]) -> ClusterSpec:
    """Put the wishes into what the spec says itself, which wins."""
    data: dict[str, Any] = {} if spec is None else spec.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    for key, value in wishes.items():
        _set_default(data, _split(key), value)
    data["cluster"] = {**data.get("cluster", {}), "profile": directory.name}
    if directory.path.parent != find_ipython_dir():
        data["cluster"]["ipython_dir"] = str(directory.path.parent)
    return parse_spec(data, source=f"{directory.path} (migrated)")


def _split(key: str) -> list[str]:
    if key.startswith("settings."):
        return ["settings", key.removeprefix("settings.").strip('"')]
    return key.split(".")


def _set_default(data: dict[str, Any], path: list[str], value: object) -> None:
    *sections, last = path
    for section in sections:
        data = data.setdefault("engines", [{}])[0] if section == "engines[0]" else data.setdefault(section, {})
    data.setdefault(last, value)
