"""Overrides: what beats stoker's block, although it stands in the same profile. Pure: knows layers, not files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stoker.profile.catalogue import Catalogue
from stoker.profile.finding import Finding
from stoker.profile.layers import APPLICATIONS, Entry, Layer, list_entries
from stoker.profile.mistakes import find_class
from stoker.profile.modern import modern_path
from stoker.profile.render import Traits
from stoker.profile.source import UNKNOWN

__all__ = ["Override", "find_overrides"]

_LOOPBACK = "127.0.0.1"
_IP = ("IPController", "ip")
_REMEDY = "remove the line; say it in the spec"
# From ipcontroller's and ipengine's own tables of aliases and flags.
_ALIASES = {
    "ip": "IPController.ip",
    "location": "IPController.location",
    "ports": "IPController.ports",
    "ping": "HeartMonitor.period",
    "scheme": "TaskScheduler.scheme_name",
    "hwm": "TaskScheduler.hwm",
    "log-level": "IPController.log_level",
    "timeout": "IPEngine.timeout",
    "work-dir": "IPEngine.work_dir",
    "c": "IPEngine.startup_command",
}
_FLAGS = {
    "nodb": ("IPController.db_class", "NoDB"),
    "dictdb": ("IPController.db_class", "DictDB"),
    "sqlitedb": ("IPController.db_class", "SQLiteDB"),
    "mongodb": ("IPController.db_class", "MongoDB"),
    "debug": ("IPController.log_level", "10"),
    "quiet": ("IPController.log_level", "50"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One setting that beats one of the block's."""

    entry: Entry
    file: str
    """The config file whose block it beats."""

    trait: str
    """What it beats: ``Class.trait``."""

    finding: Finding


@dataclass(frozen=True, slots=True)
class _Wanted:
    file: str
    name: str
    value: object
    order: tuple[int, int, float]
    """Where the block stands among the entries of an application."""


def find_overrides(layers: Sequence[Layer], wanted: Mapping[str, Traits], catalogue: Catalogue) -> tuple[Override, ...]:
    """Find the settings that make an application go by something else than the block.

    Args:
        layers: The profile's files.
        wanted: What the block of each file says, or should say.
        catalogue: Tells which class is derived from which.
    """
    found: dict[tuple[str, int, str], Override] = {}
    for application, files in APPLICATIONS.items():
        entries = [entry for entry in list_entries(layers, application) if not entry.in_block]
        targets = list(_list_wanted(layers, wanted, files))
        candidates = [*_find_stronger(application, entries, targets, catalogue)]
        if application == "ipcontroller":
            candidates += _find_ip(entries, targets)
        if application == "ipcluster":
            candidates += _find_arguments(entries, wanted)
        for override in candidates:
            assignment = override.entry.assignment
            found.setdefault((str(override.entry.path), assignment.line, assignment.name), override)
    return tuple(found.values())


def _list_wanted(layers: Sequence[Layer], wanted: Mapping[str, Traits], files: Sequence[str]) -> Iterator[_Wanted]:
    for place, file in enumerate(files):
        numbers = [entry.order[2] for layer in layers for entry in layer.entries if _is_block_of(entry, file)]
        # Where there is no block yet, it will come at the end.
        order = (place, 0, max(numbers, default=float("inf")))
        for name, value in wanted.get(file, {}).items():
            yield _Wanted(file, name, value, order)


def _is_block_of(entry: Entry, file: str) -> bool:
    return entry.in_block and entry.path.name == file


def _find_stronger(
    application: str, entries: Sequence[Entry], targets: Sequence[_Wanted], catalogue: Catalogue
) -> Iterator[Override]:
    files = APPLICATIONS[application]
    for entry in entries:
        order = (files.index(entry.file), *entry.order[1:])
        for target in targets:
            section, _, trait = target.name.partition(".")
            if entry.trait != trait or _same(entry.assignment.value, target.value):
                continue
            why = _compare(entry, section, later=order > target.order, target=target, catalogue=catalogue)
            if why is not None:
                yield _override(entry, target.file, target.name, f"{why}{_instead(entry, target.value)}")


def _compare(entry: Entry, section: str, *, later: bool, target: _Wanted, catalogue: Catalogue) -> str | None:
    path = entry.assignment.path
    if entry.class_name != section:
        cls, base = find_class(entry.class_name, catalogue), find_class(section, catalogue)
        if cls is None or base is None or not issubclass(cls, base):
            return None
        return f"{entry.class_name} is more special than {section} and beats c.{target.name} of stoker's block"
    if path[:-1] == ("IPController", "HeartMonitor"):
        return f"beats c.{target.name} of stoker's block in the hub, but not in the heart monitor's own process"
    if len(path) > 2:
        return f"a nested section beats c.{target.name} of stoker's block"
    if not later:
        return None
    if entry.path.suffix == ".json":
        return f"the .json file beats c.{target.name} of stoker's block"
    if entry.file != target.file:
        return f"{entry.file} is read after {target.file} and beats c.{target.name} of stoker's block"
    return f"stands below stoker's block and beats its c.{target.name}"


def _find_ip(entries: Sequence[Entry], targets: Sequence[_Wanted]) -> Iterator[Override]:
    target = next((target for target in targets if target.name == "IPController.client_ip"), None)
    if target is None:
        return
    plain = [entry for entry in entries if entry.assignment.path[-2:] == _IP]
    renamed = [entry for entry in entries if modern_path(entry.file, entry.assignment.path) == _IP]
    chosen = (plain or renamed)[-1:]
    for entry in chosen:
        if entry.assignment.value == _LOOPBACK:
            continue
        translated = "is translated to c.IPController.ip, which" if not plain else "wherever it stands, it"
        today = f"{translated} beats client_ip, engine_ip and monitor_ip of stoker's block: the controller listens at "
        shown = "an address computed at load time" if entry.assignment.value is UNKNOWN else entry.assignment.value
        remedy = "remove the line; say controller.ip in the spec"
        yield _override(entry, target.file, target.name, f"{today}{shown!s}, its monitor port too", remedy)


def _find_arguments(entries: Sequence[Entry], wanted: Mapping[str, Traits]) -> Iterator[Override]:
    for entry in entries:
        file = "ipengine_config.py" if entry.trait == "engine_args" else "ipcontroller_config.py"
        for argument, name, value in _list_arguments(entry):
            traits = wanted.get(file, {})
            if name == "IPController.ip":
                beaten = "IPController.client_ip" if value != _LOOPBACK else ""
            else:
                beaten = name if str(traits.get(name)) != value else ""
            if beaten in traits:
                who = "the engines" if entry.trait == "engine_args" else "the controller"
                today = (
                    f"ipcluster starts {who} with {argument}, and a command line beats every file: "
                    f"c.{beaten} = {traits[beaten]!r} of stoker's block does not count"
                )
                yield _override(entry, file, beaten, today)


def _list_arguments(entry: Entry) -> Iterator[tuple[str, str, str]]:
    """Give the arguments that a setting of ipcluster passes on: as they stand, the trait meant, its value."""
    value = entry.assignment.value
    if entry.class_name == "Cluster" and entry.trait in ("controller_ip", "controller_location"):
        alias = entry.trait.removeprefix("controller_")
        if isinstance(value, str) and value:
            yield f"--{alias}={value}", _ALIASES[alias], value
        return
    if entry.trait not in ("controller_args", "engine_args") or not isinstance(value, str | list | tuple):
        return
    words = [value] if isinstance(value, str) else [str(word) for word in value]
    for place, word in enumerate(words):
        name, equals, text = word.lstrip("-").partition("=")
        if not word.startswith("-"):
            continue
        if name in _FLAGS and not equals:
            yield word, *_FLAGS[name]
        elif equals:
            yield word, _ALIASES.get(name, name), text
        elif place + 1 < len(words) and not words[place + 1].startswith("-"):
            yield f"{word} {words[place + 1]}", _ALIASES.get(name, name), words[place + 1]


def _override(entry: Entry, file: str, trait: str, today: str, remedy: str = _REMEDY) -> Override:
    finding = Finding(
        path=entry.path,
        line=entry.assignment.line,
        setting=entry.name,
        kind="overridden",
        today=today,
        remedy=remedy,
    )
    return Override(entry=entry, file=file, trait=trait, finding=finding)


def _instead(entry: Entry, wanted: object) -> str:
    if entry.assignment.value is UNKNOWN:
        return f": computed when the file is loaded, not surely {wanted!r}"
    return f": {entry.assignment.value!r}, not {wanted!r}"


def _same(value: object, wanted: object) -> bool:
    if isinstance(value, list | tuple) and isinstance(wanted, list | tuple):
        return list(value) == list(wanted)
    return (type(value) is type(wanted) and value == wanted) or (
        isinstance(value, int | float) and isinstance(wanted, int | float) and value == wanted
    )
