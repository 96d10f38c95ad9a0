"""Checking: what in a profile is old, wrong, overridden, drifted or exposed, with what comes of it. Changes nothing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from stoker.errors import ProfileError, SpecError
from stoker.profile.block import find_half, read_body, render_block
from stoker.profile.catalogue import Catalogue, check_settings, read_catalogue
from stoker.profile.directory import CONFIG_FILES, ProfileDirectory
from stoker.profile.effective import compare_effective, read_effective
from stoker.profile.exposure import read_exposures
from stoker.profile.finding import Finding
from stoker.profile.layers import APPLICATIONS, Entry, Layer, list_entries, parse_layer, parse_overlay
from stoker.profile.legacy import OldSetting, find_old_import, find_old_setting
from stoker.profile.mistakes import find_crash, find_mistake, find_refused, is_extended
from stoker.profile.modern import modern_path
from stoker.profile.overrides import find_overrides
from stoker.profile.plan import read_text
from stoker.profile.render import ProfileSettings, Traits, render_settings
from stoker.spec import ClusterSpec, read_spec
from stoker.system.machine import Cores, read_cores

__all__ = ["check_profile", "find_faults", "parse_layers"]

_LINE = re.compile(r"\(line (\d+)")
_CRASH = (
    'ipcontroller binds its registration port twice and dies ("Address already in use"): a wildcard for only one of '
    "clients and engines"
)
_CRASH_REMEDY = 'write c.IPController.ip = "*" alone, or controller.ip = "*" in a spec'


def check_profile(
    directory: ProfileDirectory,
    spec: ClusterSpec | None = None,
    *,
    source: Path | None = None,
    cores: Cores | None = None,
) -> tuple[Finding, ...]:
    """Find everything in a profile that is not as its owner thinks, in the order of files and lines.

    Args:
        directory: The profile.
        spec: What it should be; None: only what its files say is looked at.
        source: The spec's file; other specs beside it are looked at too. None: it has none.
        cores: The machine's; None: look.

    Raises:
        SpecError: The spec's ``[settings]`` are faulty.
        ProfileError: A file cannot be read.
    """
    catalogue = read_catalogue()
    twins = _find_twins(directory, spec, source) if spec is not None and source is not None else ()
    if not directory.path.is_dir():
        if spec is None:
            raise ProfileError(directory.path, "there is no such profile")
        missing = "is not there yet: plain ipyparallel makes it with defaults, unencrypted"
        return (*twins, _drifted(directory.path, None, missing))
    settings = None
    if spec is not None:
        check_settings(spec, catalogue, source=str(source or "spec"))
        settings = render_settings(spec, cores=cores or read_cores(), catalogue=catalogue)
    files = _read_files(directory)
    found = list(find_faults(directory.path, files, settings=settings, catalogue=catalogue))
    layers, _ = parse_layers(directory.path, files)
    found += read_exposures(directory, layers)
    found += _find_effective(directory, layers, settings, catalogue, known=found)
    return (*sorted(found, key=lambda finding: _order(directory.path, finding)), *twins)


def find_faults(
    directory: Path, files: Mapping[str, bytes], *, settings: ProfileSettings | None, catalogue: Catalogue
) -> tuple[Finding, ...]:
    """Find what the texts of a profile's files show, in the order of files and lines.

    Args:
        directory: The profile's, for the findings.
        files: The config files, and the ``.json`` files beside them, by name.
        settings: What the spec says; None where there is none, so that blocks are taken as they are.
        catalogue: The traits that there are.
    """
    layers, found = parse_layers(directory, files)
    broken = {finding.path.name for finding in found}
    overrides = find_overrides(layers, _list_wanted(layers, settings), catalogue)
    overriding = {id(override.entry): override.finding for override in overrides}
    crash = {id(entry) for entry in find_crash(layers)}
    extended = is_extended(layers)
    for layer in layers:
        found += _find_old_imports(layer)
        for entry in layer.entries:
            if entry.in_block:
                continue
            finding = _find_old(entry, layers, catalogue, crash=id(entry) in crash)
            if id(entry) in overriding:
                finding = _combine(find_refused(entry, catalogue), finding, overriding[id(entry)])
            finding = finding or find_mistake(entry, catalogue, extended=extended)
            if finding is not None:
                found.append(finding)
    if settings is not None:
        found += _find_drift(directory, {name: text for name, text in files.items() if name not in broken}, settings)
    return tuple(sorted(found, key=lambda finding: _order(directory, finding)))


def parse_layers(directory: Path, files: Mapping[str, bytes]) -> tuple[tuple[Layer, ...], list[Finding]]:
    """Read the files of a profile as text; those that IPython would drop become findings.

    Args:
        directory: The profile's.
        files: Their bytes by name.
    """
    layers: list[Layer] = []
    found: list[Finding] = []
    for name in CONFIG_FILES:
        overlay = name.replace(".py", ".json")
        for file, parse in ((name, parse_layer), (overlay, parse_overlay)):
            text = files.get(file)
            if text is None:
                continue
            path = directory / file
            try:
                layers.append(parse(path, text))
            except ProfileError as error:
                found.append(_describe_broken(path, name, error.problem))
            if file == name and (half := find_half(text)) is not None:
                found.append(_describe_half(path, half))
    return tuple(layers), found


def _read_files(directory: ProfileDirectory) -> dict[str, bytes]:
    names = [each for name in CONFIG_FILES for each in (name, name.replace(".py", ".json"))]
    texts = {name: read_text(directory.path / name) for name in names}
    return {name: text for name, text in texts.items() if text is not None}


def _list_wanted(layers: Sequence[Layer], settings: ProfileSettings | None) -> Mapping[str, Traits]:
    if settings is not None:
        return settings.files
    return {
        layer.file: {entry.assignment.name: entry.assignment.value for entry in layer.entries if entry.in_block}
        for layer in layers
        if layer.span is not None
    }


def _describe_broken(path: Path, file: str, problem: str) -> Finding:
    line = _LINE.search(problem)
    return Finding(
        path=path,
        line=int(line[1]) if line else None,
        setting="",
        kind="wrong",
        today=f"{problem}: {_describe_dropped(file)}",
        remedy="correct it",
    )


def _describe_half(path: Path, line: int) -> Finding:
    return Finding(
        path=path,
        line=line,
        setting="",
        kind="wrong",
        today="half of stoker's block, of which the other half is gone: stoker apply refuses such a file",
        remedy="remove what is left of the block, then apply again",
    )


def _describe_dropped(file: str) -> str:
    readers = [name for name, files in APPLICATIONS.items() if file in files]
    who = "every application" if len(readers) == len(APPLICATIONS) else readers[0]
    unencrypted = ", the controller unencrypted" if "ipcontroller" in readers else ""
    return f"dropped whole, with a message in the log; {who} goes on with defaults{unencrypted}"


def _find_old(entry: Entry, layers: Sequence[Layer], catalogue: Catalogue, *, crash: bool) -> Finding | None:
    old = find_old_setting(entry.file, entry.assignment)
    if old is None:
        return _finding(entry, "wrong", _CRASH, _CRASH_REMEDY) if crash else None
    if old.renamed:
        return _describe_renamed(entry, old, layers, catalogue, crash=crash)
    return _finding(entry, "old", old.today, old.remedy)


def _describe_renamed(
    entry: Entry, old: OldSetting, layers: Sequence[Layer], catalogue: Catalogue, *, crash: bool
) -> Finding:
    new = modern_path(entry.file, entry.assignment.path)
    assert new is not None
    name = f"c.{'.'.join(new)}"
    for application, files in APPLICATIONS.items():
        if entry.file in files and any(
            other.assignment.path == new for other in list_entries(layers, application) if other.file == files[-1]
        ):
            return _finding(entry, "old", f"ignored, with a warning: {name} is set too and wins", "remove the line")
    if crash:
        return _finding(entry, "old", f"{old.today}; there {_CRASH}", _CRASH_REMEDY)
    translated = dataclasses.replace(entry, assignment=dataclasses.replace(entry.assignment, path=new))
    mistake = find_mistake(translated, catalogue, extended=False)
    if mistake is None or "; there " in old.today:
        return _finding(entry, "old", old.today, old.remedy)
    return _finding(entry, "old", f"{old.today}; there {mistake.today}", mistake.remedy)


def _combine(refused: Finding | None, old: Finding | None, override: Finding) -> Finding:
    """Say of a setting that beats the block what else there is to say about it."""
    if old is not None and "translated" not in old.today and "ignored" not in old.today:
        return dataclasses.replace(override, today=f"{old.today}; {override.today}")
    return refused or override


def _find_old_imports(layer: Layer) -> Iterator[Finding]:
    for statement in layer.imports:
        old = find_old_import(statement)
        if old is not None:
            yield Finding(
                path=layer.path,
                line=statement.line,
                setting=f"import {statement.module}",
                kind="old",
                today=old.today,
                remedy=old.remedy,
            )


def _find_drift(directory: Path, files: Mapping[str, bytes], settings: ProfileSettings) -> Iterator[Finding]:
    for name in CONFIG_FILES:
        text = files.get(name)
        path = directory / name
        body = None if text is None else read_body(text)
        if body is None:
            yield _drifted(path, None, "has no block of stoker's: what the spec says does not hold")
        elif body != render_block(settings.files[name]):
            assert text is not None
            line = text[: text.index(body)].count(b"\n") + 1 if body else None
            yield _drifted(path, line, "stoker's block is not what the spec says")


def _drifted(path: Path, line: int | None, today: str) -> Finding:
    return Finding(path=path, line=line, setting="", kind="drifted", today=today, remedy="apply the spec: stoker apply")


def _find_twins(directory: ProfileDirectory, spec: ClusterSpec, source: Path) -> tuple[Finding, ...]:
    """Find other specs beside a spec that are for the same cluster."""
    found = []
    for path in sorted(source.absolute().parent.glob("*.toml")):
        if path.name == source.name:
            continue
        try:
            other = read_spec(path)
        except SpecError:
            # No spec, or none that could be applied.
            continue
        same_place = ProfileDirectory.of(other).path == directory.path
        if same_place and other.cluster.cluster_id == spec.cluster.cluster_id:
            found.append(
                Finding(
                    path=path,
                    line=None,
                    setting="cluster.profile",
                    kind="wrong",
                    today=f"is a spec for the same profile and cluster id as {source.name}: the one applied last holds",
                    remedy="give one of them another cluster.profile, or remove it",
                )
            )
    return tuple(found)


def _find_effective(
    directory: ProfileDirectory,
    layers: Sequence[Layer],
    settings: ProfileSettings | None,
    catalogue: Catalogue,
    *,
    known: Sequence[Finding],
) -> list[Finding]:
    """Load the files, and find what their text does not show."""
    wanted = ProfileSettings(files=_list_wanted(layers, settings))
    drifted = {finding.path.name for finding in known if finding.kind == "drifted"}
    # What is not written yet cannot be in force.
    written = ProfileSettings(files={file: traits for file, traits in wanted.files.items() if file not in drifted})
    dropped = {finding.path for finding in known if "dropped whole" in finding.today}
    beaten = {(override.file, override.trait) for override in find_overrides(layers, wanted.files, catalogue)}
    if any(trait == "IPController.client_ip" for _, trait in beaten):
        # One ip stands for three.
        beaten |= {("ipcontroller_config.py", f"IPController.{name}_ip") for name in ("engine", "monitor")}
    try:
        effective = read_effective(directory, written)
    except ProfileError as error:
        # The rest of what was found is worth telling all the same.
        remedy = "correct it"
        return [Finding(path=error.path, line=None, setting="", kind="wrong", today=error.problem, remedy=remedy)]
    refused = {finding.path.with_suffix(".py") for finding in known if "refuses it and ends" in finding.today}
    return [
        finding
        for finding in compare_effective(written, effective)
        if finding.path not in dropped
        and not (finding.kind == "wrong" and finding.line is None and finding.path in refused)
        and (finding.path.name, finding.setting.removeprefix("c.")) not in beaten
    ]


def _order(directory: Path, finding: Finding) -> tuple[int, int, int]:
    stem = finding.path.stem
    names = [Path(name).stem for name in CONFIG_FILES]
    inside = finding.path.parent == directory and stem in names
    place = names.index(stem) if inside else len(names)
    return place, int(inside and finding.path.suffix == ".json"), finding.line or 0


def _finding(entry: Entry, kind: str, today: str, remedy: str) -> Finding:
    assert kind in ("old", "wrong")
    return Finding(
        path=entry.path,
        line=entry.assignment.line,
        setting=entry.name,
        kind="old" if kind == "old" else "wrong",
        today=today,
        remedy=remedy,
    )
