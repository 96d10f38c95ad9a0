"""Mistakes: classes and traits that do not exist, values that are refused, classes in the wrong file."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from stoker.profile.catalogue import Catalogue
from stoker.profile.finding import Finding
from stoker.profile.layers import APPLICATIONS, Entry, Layer, list_entries
from stoker.profile.modern import LAUNCHER_TRAITS, LAUNCHERS, modern_path
from stoker.profile.source import UNKNOWN

__all__ = ["find_class", "find_crash", "find_mistake", "find_refusal", "find_refused", "is_extended"]

_COMMON = "ipython_config.py"
_SHELL_FILES = (_COMMON, "ipython_kernel_config.py", "ipengine_config.py")
# Comes with the kernel's dependencies, loaded when a notebook plots.
_BROUGHT = ("InlineBackend",)
_WILDCARDS = ("*", "0.0.0.0")  # noqa: S104 - what users write
_PACKAGES = ("ipyparallel.", "IPython.", "ipykernel.", "traitlets.")
_LOOPBACK = "127.0.0.1"


def find_mistake(entry: Entry, catalogue: Catalogue, *, extended: bool) -> Finding | None:
    """Say what is wrong with one setting of today's; None where nothing is.

    Args:
        entry: The setting; no old one.
        catalogue: What the installed ipyparallel, IPython and ipykernel know.
        extended: Whether the profile loads IPython extensions or runs code, which may bring classes of their own.
    """
    cls = find_class(entry.class_name, catalogue)
    if cls is None:
        return _find_unknown_class(entry, catalogue, extended=extended)
    if entry.trait[:1].isupper():
        return None
    misplaced = _find_misplaced(entry, catalogue)
    if misplaced is not None:
        return misplaced
    owner = _find_owner(cls, entry.trait, catalogue)
    if owner is None:
        return _describe(
            entry,
            today=f"ignored, with a warning: {entry.class_name} has no such trait",
            remedy=_suggest(entry.trait, _traits_of(cls)) or "remove the line",
        )
    return find_refused(entry, catalogue)


def find_refused(entry: Entry, catalogue: Catalogue) -> Finding | None:
    """Say what comes of a value that its trait refuses; None where it takes it, or nobody can tell beforehand."""
    cls = find_class(entry.class_name, catalogue)
    owner = None if cls is None else _find_owner(cls, entry.trait, catalogue)
    if owner is None or entry.assignment.value is UNKNOWN:
        return None
    problem = find_refusal(owner, entry.trait, entry.assignment.value)
    return None if problem is None else _describe_refusal(entry, problem)


def find_refusal(cls: type[Any], trait_name: str, value: object) -> str | None:
    """Say why a trait refuses a value from a config file; None where it does not, or nobody can tell beforehand."""
    from traitlets import HasTraits, List, Set, TraitError, Type

    trait = _traits_of(cls)[trait_name]
    if isinstance(trait, List | Set) and isinstance(value, str):
        # As traitlets does when it sets one.
        value = [value]
    if isinstance(trait, Type) and isinstance(value, str) and "." in value and not value.startswith(_PACKAGES):
        # A class of the user's own: trying it would run the user's code.
        return None
    # An object of the same name, because errors name it, and nothing of the real one must be started.
    target = type(cls.__name__, (HasTraits,), {})()
    # Finds the classes that it knows by name only.
    trait.instance_init(target)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trait._validate(target, value)
    except (TraitError, ValueError, TypeError, AttributeError) as error:
        if isinstance(trait, Type):
            return f"{value!r} could not be imported"
        return (str(error).splitlines() or ["refused"])[0].rstrip(".")
    return None


def find_crash(layers: Sequence[Layer]) -> tuple[Entry, ...]:
    """Find the lines that make ipcontroller bind its registration port twice and die.

    It does where clients and engines have different addresses and one of them is a wildcard.
    """
    values: dict[str, tuple[object, Entry | None]] = dict.fromkeys(("ip", "client_ip", "engine_ip"), (_LOOPBACK, None))
    old: dict[str, Entry] = {}
    for entry in list_entries(layers, "ipcontroller"):
        path = entry.assignment.path
        renamed = modern_path(entry.file, path)
        if renamed is not None and renamed[0] == "IPController" and renamed[1] in values:
            old[renamed[1]] = entry
        elif path[:-1] == ("IPController",) and path[-1] in values:
            values[path[-1]] = (entry.assignment.value, entry)
    for name, entry in old.items():
        if values[name][1] is None:
            values[name] = (entry.assignment.value, entry)
    known = all(value is not UNKNOWN for value, _ in values.values())
    if not known or values["ip"][0] != _LOOPBACK or values["client_ip"][0] == values["engine_ip"][0]:
        return ()
    blamed = (values["client_ip"], values["engine_ip"])
    return tuple(entry for value, entry in blamed if entry is not None and value in _WILDCARDS)


def find_class(name: str, catalogue: Catalogue) -> type[Any] | None:
    """Find a class by its name: one of the catalogue's, or another one that came with its modules."""
    return catalogue.classes.get(name) or _loaded_classes().get(name)


def _loaded_classes() -> dict[str, type[Any]]:
    from traitlets.config import Configurable

    found: dict[str, type[Any]] = {}
    pending: list[type[Any]] = [Configurable]
    while pending:
        cls = pending.pop()
        if cls.__name__ not in found:
            found[cls.__name__] = cls
            pending += cls.__subclasses__()
    return found


def _find_unknown_class(entry: Entry, catalogue: Catalogue, *, extended: bool) -> Finding | None:
    name = entry.class_name
    # An extension's class may well be called something like another one.
    guess = _suggest(name, catalogue.classes, cutoff=0.9 if extended else 0.6)
    if entry.file in _SHELL_FILES and (name in _BROUGHT or (extended and not guess)):
        return None
    return _describe(
        entry,
        today="ignored in silence: ipyparallel, IPython and ipykernel have no class of this name",
        remedy=guess or "remove the line",
    )


def _find_misplaced(entry: Entry, catalogue: Catalogue) -> Finding | None:
    if entry.class_name not in catalogue.classes or len(entry.assignment.path) != 2:
        return None
    if entry.file == _COMMON or _is_known_in(entry.class_name, entry.file, catalogue):
        return None
    reader = next((name for name, files in APPLICATIONS.items() if files[-1] == entry.file), entry.file)
    homes = " or ".join(catalogue.files_of(entry.class_name))
    return _describe(
        entry,
        today=f"ignored in silence: {reader} does not know {entry.class_name}",
        remedy=f"move the line to {homes}",
    )


def _is_known_in(name: str, file: str, catalogue: Catalogue) -> bool:
    homes = catalogue.files_of(name)
    if file in homes:
        return True
    if file == "ipengine_config.py" and "ipython_kernel_config.py" in homes:
        # An engine has a whole kernel application in it.
        return True
    if _COMMON not in homes:
        return False
    if file in _SHELL_FILES:
        return not name.startswith("Terminal")
    # The bases of every application, and the profile's directory.
    cls = catalogue.classes[name]
    known = (catalogue.classes[other] for other, files in catalogue.files.items() if file in files)
    return name == "ProfileDir" or any(issubclass(other, cls) for other in known)


def _find_owner(cls: type[Any], trait: str, catalogue: Catalogue) -> type[Any] | None:
    """Find the class that has a trait: the section's own, or one below it, which reads the section too."""
    if trait in _traits_of(cls):
        return cls
    below = (other for other in catalogue.classes.values() if issubclass(other, cls) and trait in _traits_of(other))
    return next(below, None)


def _traits_of(cls: type[Any]) -> dict[str, Any]:
    traits: dict[str, Any] = cls.class_traits(config=True)
    return traits


def _describe_refusal(entry: Entry, problem: str) -> Finding:
    reader = next((name for name, files in APPLICATIONS.items() if files[-1] == entry.file), entry.file)
    today = f"{reader} refuses it and ends: {problem}"
    if entry.class_name == "TaskScheduler":
        today = f"the scheduler's process dies at the start, the controller stays up without it: {problem}"
    remedy = "correct the value"
    if entry.trait in LAUNCHER_TRAITS:
        remedy = _suggest(str(entry.assignment.value).lower(), LAUNCHERS) or f"choose one of {', '.join(LAUNCHERS)}"
    return _describe(entry, today=today, remedy=remedy)


def _suggest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    guess = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"did you mean {guess[0]!r}?" if guess else ""


def _describe(entry: Entry, *, today: str, remedy: str) -> Finding:
    return Finding(
        path=entry.path, line=entry.assignment.line, setting=entry.name, kind="wrong", today=today, remedy=remedy
    )


def is_extended(layers: Sequence[Layer]) -> bool:
    """Say whether a profile loads IPython extensions or runs code of its own at the start."""
    traits = ("extensions", "exec_lines", "exec_files", "exec_PYTHONSTARTUP", "code_to_run")
    return any(entry.trait in traits for entry in _entries(layers))


def _entries(layers: Sequence[Layer]) -> Iterator[Entry]:
    return (entry for layer in layers for entry in layer.entries)
