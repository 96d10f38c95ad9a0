"""Loading a profile's files as ipcontroller, ipengine, ipcluster, IPython and its kernel do: they are run.

Only for the process that ``effective`` starts.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from traitlets import TraitError
from traitlets.config import Application, Config
from traitlets.config.loader import ConfigFileNotFound, JSONFileConfigLoader, LazyConfigValue, PyFileConfigLoader

from stoker.profile.catalogue import read_catalogue
from stoker.profile.layers import APPLICATIONS

__all__ = ["answer"]

# The classes between an application and an object that it makes, whose sections may be nested in each other.
_PARENTS = {"ipcluster": ("Cluster", "IPClusterStart"), "ipcontroller": ("IPController",), "ipengine": ("IPEngine",)}


def answer(directory: Path) -> None:
    """Answer what standard input asks about a profile, on standard output."""
    question = json.load(sys.stdin)
    # From here on what the files read, print and start must not touch question and answer.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    sys.argv = ["ipython"]
    recorder = _Recorder(out)
    refusals: list[dict[str, str]] = []
    values: list[dict[str, object]] = []
    for application, cls in _applications().items():
        try:
            app = _load(cls, application, directory, recorder)
            values += _list_values(app, application, question)
        except TraitError as error:
            refusals.append({"application": application, "problem": _first_line(error)})
        except ImportError as error:
            refusals.append({"application": application, "problem": f"{type(error).__name__}: {_first_line(error)}"})
    failures = list(recorder.failures.values())
    out.write(json.dumps({"failures": failures, "refusals": refusals, "values": values}).encode() + b"\n")


def _applications() -> dict[str, type[Any]]:
    from ipykernel.kernelapp import IPKernelApp
    from ipyparallel.cluster.app import IPClusterStart
    from ipyparallel.controller.app import IPController
    from ipyparallel.engine.app import IPEngine
    from IPython.terminal.ipapp import TerminalIPythonApp

    classes = (IPController, IPEngine, IPClusterStart, TerminalIPythonApp, IPKernelApp)
    return dict(zip(APPLICATIONS, classes, strict=True))


class _Recorder:
    """Runs each file once, remembers what it set, and notes what it raised."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._loaded: dict[str, Config] = {}
        self._depth = 0
        self.failures: dict[str, dict[str, object]] = {}

    def load(self, loader: Any, run: Callable[[], Config]) -> Config:
        """Give what a file sets; an empty configuration where it raises, because such a file is dropped whole.

        Args:
            loader: The loader of the file.
            run: Makes it load the file.
        """
        loader.clear()
        try:
            loader._find_file()
        except OSError as error:
            raise ConfigFileNotFound(str(error)) from error
        path = str(loader.full_filename)
        if path not in self._loaded:
            self._out.write(json.dumps({"loading": path}).encode() + b"\n")
            self._loaded[path] = self._run(run, path)
        return copy.deepcopy(self._loaded[path])

    def _run(self, run: Callable[[], Config], path: str) -> Config:
        self._depth += 1
        try:
            return copy.deepcopy(run())
        except (Exception, SystemExit) as error:
            # Whatever a user's file raises is what we are here to tell.
            self.failures[path] = {
                "path": path,
                "line": _find_line(error, path),
                "problem": f"{type(error).__name__}: {_first_line(error)}".rstrip(": "),
            }
            if self._depth > 1:
                # A file that loads another one is dropped with it.
                raise
            return Config()
        finally:
            self._depth -= 1


def _load(cls: type[Any], application: str, directory: Path, recorder: _Recorder) -> Any:
    """Make an application and give it the configuration that it would have; nothing is started or written."""
    from IPython.core.application import ENV_CONFIG_DIRS, SYSTEM_CONFIG_DIRS

    class PythonLoader(PyFileConfigLoader):
        def load_config(self) -> Config:
            return recorder.load(self, super().load_config)

    class JsonLoader(JSONFileConfigLoader):
        def load_config(self) -> Config:
            return recorder.load(self, super().load_config)

    # Of a class of the same name, because sections go by names.
    app = type(
        cls.__name__, (cls,), {"python_config_loader_class": PythonLoader, "json_config_loader_class": JsonLoader}
    )()
    app.config.ProfileDir.location = str(directory)
    paths = [str(directory), *ENV_CONFIG_DIRS, *SYSTEM_CONFIG_DIRS]
    for file in APPLICATIONS[application]:
        config = Config()
        for loaded, _ in app._load_config_files(Path(file).stem, path=paths, log=None):
            config.merge(loaded)
        app.update_config(config)
    if hasattr(app, "init_deprecated_config"):
        app.init_deprecated_config()
    assert isinstance(app, Application)
    return app


def _list_values(app: Any, application: str, question: dict[str, dict[str, object]]) -> Iterator[dict[str, object]]:
    spoken_for = {name for file in APPLICATIONS[application] for name in question.get(file, {})}
    for file in APPLICATIONS[application]:
        for name, wanted in question.get(file, {}).items():
            try:
                pairs = [
                    (_show(value), _same(value, it))
                    for value, it in _evaluate(app, application, name, wanted, spoken_for)
                ]
            except TraitError as error:
                # Of an object that is made later, perhaps in another process: the application itself goes on.
                pairs = [(f"nothing ({_first_line(error)})", False)]
            for shown, same in pairs:
                yield {"application": application, "file": file, "name": name, "shown": shown, "wanted": same}


def _evaluate(
    app: Any, application: str, name: str, wanted: object, spoken_for: set[str]
) -> Iterator[tuple[object, object]]:
    """Give the values that a trait has in an application, and beside each what the wanted one would be there."""
    section, _, trait_name = name.partition(".")
    if section in type(app).section_names():
        yield getattr(app, trait_name), _validate(app, app.traits()[trait_name], wanted)
        return
    for cls in _list_classes(app, application, section, trait_name):
        if cls.__name__ != section and f"{cls.__name__}.{trait_name}" in spoken_for:
            continue
        trait = cls.class_traits()[trait_name]
        parents = tuple(read_catalogue().classes[parent] for parent in _PARENTS.get(application, ()))
        # Some objects are made without a parent, in a process of their own, and see no nested section.
        for chain in (parents, parents[-1:], ()):
            yield _find_value(cls, trait, app.config, chain), _validate(None, trait, wanted)


def _list_classes(app: Any, application: str, section: str, trait: str) -> Iterator[type[Any]]:
    """List the class of a section, if the application knows it, and those below it that are configured apart."""
    catalogue = read_catalogue()
    cls = catalogue.classes[section]
    known = catalogue.files_of(section)
    if APPLICATIONS[application][-1] not in known and not (
        application == "ipengine" and issubclass(catalogue.classes["IPKernelApp"], cls)
    ):
        return
    yield cls
    for name, other in catalogue.classes.items():
        if other is not cls and issubclass(other, cls) and app.config._has_section(name) and trait in app.config[name]:
            yield other


def _find_value(cls: type[Any], trait: Any, config: Config, parents: tuple[type[Any], ...]) -> object:
    merged = _merge_sections(cls, config, parents)
    if trait.name not in merged:
        return trait.default()
    value = merged[trait.name]
    if isinstance(value, LazyConfigValue):
        value = value.get_value(trait.default())
    return _validate(None, trait, value)


def _merge_sections(cls: type[Any], config: Config, parents: tuple[type[Any], ...]) -> Config:
    """Merge what applies to an object, as ``Configurable._find_my_config`` does for one that is there."""
    configs = [config]
    if parents:
        configs.append(_merge_sections(parents[0], config, parents[1:]))
    merged = Config()
    for each in configs:
        for name in cls.section_names():
            if each._has_section(name):
                merged.merge(each[name])
    return merged


def _validate(target: Any, trait: Any, value: object) -> object:
    from traitlets import HasTraits, List, Set

    if isinstance(trait, List | Set) and isinstance(value, str):
        value = [value]
    if target is None:
        target = HasTraits()
        # Finds the classes that it knows by name only.
        trait.instance_init(target)
    return trait._validate(target, value)


def _same(value: object, wanted: object) -> bool:
    return _normalize(value) == _normalize(wanted)


def _normalize(value: object) -> object:
    if isinstance(value, tuple | list):
        return [_normalize(item) for item in value]
    return value


def _show(value: object) -> str:
    return f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else repr(value)


def _find_line(error: BaseException, path: str) -> int | None:
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return lines[-1] if lines else None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
