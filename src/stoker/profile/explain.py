"""Explaining a setting: what it is, which key of the spec says it, and where a profile's value of it comes from."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args, get_origin

from stoker.errors import ProfileError, UnknownTargetError
from stoker.profile.catalogue import Catalogue, TraitInfo, find_traits, read_catalogue
from stoker.profile.directory import CONFIG_FILES, ProfileDirectory
from stoker.profile.layers import APPLICATIONS, Entry, Layer, list_entries, parse_layer, parse_overlay
from stoker.profile.modern import modern_path
from stoker.profile.source import UNKNOWN
from stoker.spec.keys import Key, list_keys
from stoker.spec.settings import find_key, list_traits
from stoker.spec.write import render_value
from stoker.system.files import read_or_none

__all__ = ["Explanation", "KeyInfo", "Origin", "TraitUse", "explain_setting", "read_explanation", "read_layers"]

_SECRET = ("key", "curve_secretkey", "connection_args", "connection_kwargs")
"""Traits that hold keys and passwords, of whatever class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """What a key of the spec is."""

    key: str
    """Its dotted name: ``controller.hwm``."""

    default: str | None
    """As TOML writes it; None: to say nothing."""

    help: str
    choices: tuple[str, ...]
    traits: tuple[str, ...]
    """The traits that it speaks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where one application has its value of a trait from."""

    application: str
    setting: str
    """As it stands in the file: of a class above, it may differ from what was asked for."""

    value: str
    """As Python writes it."""

    path: Path | None
    """None: nothing in the profile sets it, and the default holds."""

    line: int | None
    by: Literal["block", "user", "default"]
    """Whether stoker's block says it, or a line of the user's, or nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitUse:
    """A trait, the key that says it, and where a profile's value of it comes from."""

    trait: TraitInfo
    key: str | None
    """None: the spec says it in ``[settings]``, if at all."""

    origins: tuple[Origin, ...]
    """For each application that reads it; empty where no profile was asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything that a name may mean."""

    name: str
    profile: Path | None
    keys: tuple[KeyInfo, ...]
    traits: tuple[TraitUse, ...]


def read_explanation(name: str, directory: ProfileDirectory | None = None) -> Explanation:
    """Explain a setting, with its value in a profile where one is given.

    Raises:
        UnknownTargetError: There is no such setting, or no such profile; says what may have been meant.
        ProfileError: A file of the profile cannot be read.
    """
    if directory is not None and not directory.path.is_dir():
        raise UnknownTargetError(directory.name, f"no such profile: there is no directory {directory.path}")
    layers = None if directory is None else read_layers(directory)
    return explain_setting(name, read_catalogue(), layers=layers, profile=None if directory is None else directory.path)


def read_layers(directory: ProfileDirectory) -> tuple[Layer, ...]:
    """Read what each file of a profile says, and each overlay beside one.

    Raises:
        ProfileError: One of them cannot be read, or would not be loaded.
    """
    layers = []
    for name in CONFIG_FILES:
        for path, parse in (
            (directory.path / name, parse_layer),
            ((directory.path / name).with_suffix(".json"), parse_overlay),
        ):
            try:
                text = read_or_none(path)
            except OSError as error:
                raise ProfileError(path, f"cannot be read: {error.strerror}") from error
            if text is not None:
                layers.append(parse(path, text))
    return tuple(layers)


def explain_setting(
    name: str, catalogue: Catalogue, *, layers: Sequence[Layer] | None = None, profile: Path | None = None
) -> Explanation:
    """Explain what a name means: ``Class.trait``, a trait's name alone, or a key of the spec.

    Args:
        name: A leading ``c.`` and numbers in brackets do no harm.
        catalogue: The real traits.
        layers: What the files of a profile say; None: no profile is asked about.
        profile: Its directory.

    Raises:
        UnknownTargetError: There is no such setting; says what may have been meant.
    """
    asked = re.sub(r"\[[0-9]*\]", "", name.removeprefix("c."))
    keys = [key for key in _list_leaves() if asked in (_plain(key.place), key.name)]
    traits = list(find_traits(asked, catalogue))
    if "." in asked:
        traits += [
            trait for key in keys for setting in list_traits(key.place) for trait in find_traits(setting, catalogue)
        ]
    if not keys and not traits:
        raise UnknownTargetError(
            name, f"no setting of ipyparallel, IPython, ipykernel or a spec{_guess(asked, catalogue)}"
        )
    return Explanation(
        name=name,
        profile=profile,
        keys=tuple(_describe(key) for key in keys),
        traits=tuple(
            TraitUse(
                trait=trait,
                key=find_key(trait.setting),
                origins=() if layers is None else tuple(_find_origins(trait, layers, catalogue)),
            )
            for trait in traits
        ),
    )


def _find_origins(trait: TraitInfo, layers: Sequence[Layer], catalogue: Catalogue) -> Iterator[Origin]:
    # The value for a class beats that for a class above it, wherever they stand.
    line = [cls.__name__ for cls in catalogue.classes[trait.class_name].__mro__]
    for application, files in APPLICATIONS.items():
        if not set(files) & set(trait.files):
            continue
        entries = [
            entry
            for entry in list_entries(layers, application)
            if entry.trait == trait.name and entry.class_name in line
        ]
        plain = [entry for entry in entries if len(entry.assignment.path) == 2]
        # The last of those for the lowest class.
        best = min(reversed(plain), key=lambda entry: line.index(entry.class_name), default=None)
        yield _origin(application, trait, best)
        # A nested section holds for some of the objects only.
        yield from (_origin(application, trait, entry) for entry in entries if len(entry.assignment.path) > 2)


def _origin(application: str, trait: TraitInfo, entry: Entry | None) -> Origin:
    if entry is None:
        value = "made at run time" if trait.default is None else trait.default
        return Origin(application=application, setting=trait.setting, value=value, path=None, line=None, by="default")
    found = entry.assignment.value
    return Origin(
        application=application,
        setting=entry.assignment.name,
        value=_show(trait, found),
        path=entry.path,
        line=entry.assignment.line,
        by="block" if entry.in_block else "user",
    )


def _show(trait: TraitInfo, value: object) -> str:
    if trait.name in _SECRET:
        return "(a secret, not shown)"
    return "computed in the file" if value is UNKNOWN else repr(value)


def _describe(key: Key) -> KeyInfo:
    annotation = key.field.annotation
    default = key.field.default
    return KeyInfo(
        key=key.place,
        default=None if default is None else render_value(default),
        help=key.description,
        choices=get_args(annotation) if get_origin(annotation) is Literal else (),
        traits=list_traits(key.place),
    )


def _list_leaves() -> list[Key]:
    """List the keys that hold values: not the sections that hold keys."""
    return [key for key in list_keys() if key.section is None or key.field.examples]


def _plain(place: str) -> str:
    return place.replace("[]", "")


def _guess(asked: str, catalogue: Catalogue) -> str:
    """Suggest what is spelt alike: of a class that exists, its traits only."""
    class_name, dot, trait = asked.rpartition(".")
    for file in CONFIG_FILES:
        if (path := modern_path(file, (class_name, trait))) is not None:
            return f"; {class_name} is an old name: did you mean '{'.'.join(path)}'?"
    if dot and class_name in catalogue.classes:
        return _nearest(trait, catalogue.classes[class_name].class_traits(config=True), prefix=f"{class_name}.")
    keys = [_plain(key.place) for key in _list_leaves()]
    names = {name: None for cls in catalogue.classes.values() for name in cls.class_traits(config=True)}
    if not dot:
        return _nearest(asked, [*(key.rpartition(".")[2] for key in keys), *names])
    settings = [f"{each}.{name}" for each, cls in catalogue.classes.items() for name in cls.class_traits(config=True)]
    return _nearest(asked, [*keys, *settings])


def _nearest(word: str, known: Iterable[str], *, prefix: str = "") -> str:
    lowered = {name.lower(): name for name in reversed(list(known))}
    found = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean '{prefix}{lowered[found[0]]}'?" if found else ""
