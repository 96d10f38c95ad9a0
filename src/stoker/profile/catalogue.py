"""The traits that the installed ipyparallel, IPython and ipykernel really have, and where they are read from.

Importing their applications takes half a second, so it happens only for a spec that names traits.
"""

from __future__ import annotations

import difflib
import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stoker.errors import Fault, SpecError
from stoker.spec import ClusterSpec, thaw_setting

__all__ = ["Catalogue", "TraitInfo", "check_rendered", "check_settings", "find_traits", "read_catalogue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Every configurable class, with the files in which it can be configured."""

    classes: Mapping[str, type[Any]]
    """The traitlets class behind each name."""

    files: Mapping[str, tuple[str, ...]]
    """For each name the config files of the applications that know the class."""

    def files_of(self, name: str) -> tuple[str, ...]:
        """Give the files in which a class is configured."""
        return self.files[name]

    def info(self, class_name: str, name: str) -> TraitInfo | None:
        """Describe a trait; None where there is no such class, or it has no such trait."""
        cls = self.classes.get(class_name)
        trait = None if cls is None else cls.class_traits(config=True).get(name)
        if cls is None or trait is None:
            return None
        return TraitInfo(
            class_name=class_name,
            name=name,
            type=type(trait).__name__,
            default=_describe_default(cls, trait),
            help=" ".join(str(trait.help or "").split()),
            choices=tuple(str(value) for value in getattr(trait, "values", None) or ()),
            files=self.files_of(class_name),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitInfo:
    """What a trait of one class is."""

    class_name: str
    name: str
    type: str
    """The kind of trait: ``Integer``, ``Enum``, ``List``."""

    default: str | None
    """As Python writes it; None: made at run time."""

    help: str
    choices: tuple[str, ...]
    """The values that it allows; empty where they are not a list."""

    files: tuple[str, ...]
    """The config files that it belongs to."""

    @property
    def setting(self) -> str:
        """``Class.trait``."""
        return f"{self.class_name}.{self.name}"


@functools.cache
def read_catalogue() -> Catalogue:
    """Read the classes of every application that loads a file of the profile."""
    from ipykernel.kernelapp import IPKernelApp
    from ipyparallel.cluster.app import IPClusterEngines, IPClusterStart
    from ipyparallel.cluster.cluster import Cluster
    from ipyparallel.cluster.launcher import EngineLauncher
    from ipyparallel.controller.app import IPController
    from ipyparallel.engine.app import IPEngine
    from IPython.terminal.ipapp import TerminalIPythonApp

    applications = {
        # Every application reads ipython_config.py first: what a shell knows is written once, there.
        "ipython_config.py": [TerminalIPythonApp],
        "ipython_kernel_config.py": [IPKernelApp],
        "ipcontroller_config.py": [IPController],
        "ipengine_config.py": [IPEngine],
        "ipcluster_config.py": [IPClusterStart, IPClusterEngines, Cluster, EngineLauncher],
    }
    classes: dict[str, type[Any]] = {}
    files: dict[str, tuple[str, ...]] = {}
    for file, roots in applications.items():
        for cls in _list_classes(roots):
            classes[cls.__name__] = cls
            known = files.get(cls.__name__, ())
            if "ipython_config.py" not in known:
                files[cls.__name__] = (*known, file)
    return Catalogue(classes=classes, files=files)


def check_settings(spec: ClusterSpec, catalogue: Catalogue, *, source: str) -> None:
    """Check the spec's ``[settings]`` against the real traits, by each trait's own validation.

    Raises:
        SpecError: A class or trait does not exist, or a value is refused; all of them at once.
    """
    faults = [
        Fault(source=source, key=f'settings."{name}"', problem=problem)
        for name, value in spec.settings.items()
        if (problem := _find_problem(name, value, catalogue)) is not None
    ]
    if faults:
        raise SpecError(faults)


def check_rendered(files: Mapping[str, Mapping[str, object]], catalogue: Catalogue, *, source: str) -> None:
    """Check everything that is about to be written against the real traits, by each trait's own validation.

    Args:
        files: The traits of each config file, by the file's name.
        catalogue: What there is.
        source: What faults name as the place.

    Raises:
        SpecError: A class or trait does not exist, or is not read from its file, or a value is refused; all at once.
    """
    faults = [
        Fault(source=source, key=f"c.{name} in {file}", problem=problem)
        for file, traits in files.items()
        for name, value in traits.items()
        if (problem := _find_problem(name, value, catalogue) or _find_misplaced(name, file, catalogue)) is not None
    ]
    if faults:
        raise SpecError(faults)


def find_traits(name: str, catalogue: Catalogue) -> tuple[TraitInfo, ...]:
    """Find the traits that a name means: ``Class.trait``, or every class that has a trait of this name."""
    class_name, dot, trait = name.rpartition(".")
    classes = (class_name,) if dot else tuple(catalogue.classes)
    found = (catalogue.info(each, trait) for each in classes)
    return tuple(info for info in found if info is not None)


def _find_misplaced(name: str, file: str, catalogue: Catalogue) -> str | None:
    known = catalogue.files_of(name.partition(".")[0])
    return None if file in known else f"is read from {', '.join(known)} only"


def _describe_default(cls: type[Any], trait: Any) -> str | None:
    made = any(trait.name in vars(parent).get("_trait_default_generators", {}) for parent in cls.__mro__)
    if made or hasattr(cls, f"_{trait.name}_default"):
        return None
    return str(trait.default_value_repr())


def _find_problem(name: str, value: object, catalogue: Catalogue) -> str | None:
    class_name, _, trait_name = name.partition(".")
    cls = catalogue.classes.get(class_name)
    if cls is None:
        return f"no class of ipyparallel, IPython or ipykernel{_suggest(class_name, catalogue.classes)}"
    traits = cls.class_traits(config=True)
    trait = traits.get(trait_name)
    if trait is None:
        return f"{class_name} has no such trait{_suggest(trait_name, traits)}"
    return _try_value(cls, trait, value)


def _try_value(cls: type[Any], trait: Any, value: object) -> str | None:
    from traitlets import List, Set, TraitError

    value = thaw_setting(value)
    if isinstance(trait, List | Set) and isinstance(value, str):
        # So does traitlets, when a trait is set.
        value = [value]
    # An object without __init__: a trait validates there as it does later, and nothing is started.
    maker: Any = cls
    target = maker.__new__(maker)
    try:
        with _Silenced():
            trait._validate(target, value)
    except TraitError as error:
        problem = _first_line(error)
        return problem if "expected" in problem else f"{problem} ({trait.info()} is expected)"
    except Exception:
        # Validators that need a whole object cannot say anything about a value alone.
        return None
    return None


class _Silenced:
    """Keeps deprecated traits from writing to the user's terminal while they are tried."""

    def __enter__(self) -> None:
        self._level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._level)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["refused"])[0].rstrip(".")


def _suggest(word: str, known: Mapping[str, object]) -> str:
    guess = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{guess[0]}'?" if guess else ""


def _list_classes(roots: list[Any]) -> list[type[Any]]:
    """Give each class of some applications, and everything they inherit from that has traits."""
    from traitlets.config import Configurable

    found: dict[type[Any], None] = {}
    for root in roots:
        for cls in (root, *_own_classes(root)):
            for parent in cls.__mro__:
                if issubclass(parent, Configurable):
                    found[parent] = None
    return list(found)


def _own_classes(root: Any) -> list[type[Any]]:
    classes = getattr(root, "classes", None)
    if isinstance(classes, list):
        return classes
    # IPCluster's list is a trait with a default made at run time.
    return list(root().classes) if hasattr(classes, "make_dynamic_default") else []
