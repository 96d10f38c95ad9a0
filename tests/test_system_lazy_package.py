from __future__ import annotations

import importlib
import inspect
import itertools
import json
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

from stoker.system.lazy_package import import_lazily

INIT = '''
"""A package."""
__version__ = "1.2"
from .one import first
from . import two
made = first + 1
_hidden = "hidden"
'''

numbers = itertools.count()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """Makes a package of modules ``one``, ``two`` and ``three`` that counts how often its ``__init__`` runs."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def write(init: str = INIT) -> ModuleType:
        name = f"stoker_lazy_{next(numbers)}"
        made.append(name)
        place = tmp_path / name
        place.mkdir()
        # Where what runs is noted: it outlives what is taken back.
        (place / "notes.py").write_text("runs = []\n")
        (place / "__init__.py").write_text(f"{init}\nfrom .notes import runs as _runs\n_runs.append(1)\n")
        for number, module in enumerate(("one", "two", "three"), 1):
            (place / f"{module}.py").write_text(f"first = {number}\n")
        importlib.invalidate_caches()
        return import_lazily(name)

    yield write

    for name in made:
        for module in [each for each in sys.modules if each.partition(".")[0] == name]:
            del sys.modules[module]


def runs(package: ModuleType) -> int:
    """Say how often a package's ``__init__`` has run."""
    return len(importlib.import_module(f"{package.__name__}.notes").runs)


def test_modules_are_imported_without_it(make: Callable[..., ModuleType]) -> None:
    package = make()
    name = package.__name__
    namespace: dict[str, Any] = {}

    exec(
        f"import {name}.one\nfrom {name} import two\nfrom {name}.three import first\nimport {name}.two as t", namespace
    )

    assert namespace[name] is package is importlib.import_module(name)
    assert namespace["two"] is namespace["t"] is sys.modules[f"{name}.two"]
    assert namespace["first"] == 3
    assert package.one.first == 1
    assert runs(package) == 0


def test_a_module_is_imported_when_it_is_asked_for_as_an_attribute(make: Callable[..., ModuleType]) -> None:
    package = make()

    found = package.three

    assert found is sys.modules[f"{package.__name__}.three"]
    assert runs(package) == 0


def test_it_looks_like_what_an_import_gives(make: Callable[..., ModuleType], tmp_path: Path) -> None:
    package = make()
    name = package.__name__

    place = tmp_path / name
    assert package.__file__ == str(place / "__init__.py")
    assert list(package.__path__) == [str(place)]
    assert package.__package__ == package.__name__ == name
    assert package.__spec__ is importlib.util.find_spec(name)
    assert package.__loader__ is package.__spec__.loader
    assert repr(package) == f"<module '{name}' from '{place / '__init__.py'}'>"
    assert inspect.ismodule(package)
    assert inspect.getsourcefile(package) == package.__file__
    assert runs(package) == 0


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        pytest.param("import {0}; found = {0}.made", 2, id="an attribute"),
        pytest.param("from {0} import made as found", 2, id="from ... import"),
        pytest.param("from {0} import *; found = made, two.first", (2, 2), id="from ... import *"),
        pytest.param("import {0}; found = {0}._hidden", "hidden", id="a private name"),
        pytest.param("import {0}; found = {0}.__version__", "1.2", id="__version__"),
        pytest.param("import {0}; found = {0}.__doc__", "A package.", id="__doc__"),
        pytest.param("import {0}; found = 'made' in dir({0})", True, id="dir"),
        pytest.param("import {0}; found = {0}.two.first, {0}.first, {0}.made", (2, 1, 2), id="first a module"),
        pytest.param("import {0}; found = getattr({0}, 'none', None)", None, id="what is not there"),
    ],
)
def test_the_first_who_needs_it_has_it_run(make: Callable[..., ModuleType], statement: str, expected: object) -> None:
    package = make()
    namespace: dict[str, Any] = {}

    exec(statement.format(package.__name__), namespace)
    exec(statement.format(package.__name__), namespace)

    assert namespace["found"] == expected
    assert runs(package) == 1
    assert type(package) is ModuleType
    assert package.__doc__ == "A package."
    assert not hasattr(package, "none")
    with pytest.raises(ImportError, match="cannot import name 'none'"):
        exec(f"from {package.__name__} import none")


def test_afterwards_it_is_what_an_import_would_have_given(make: Callable[..., ModuleType]) -> None:
    package = make()
    package.two, package.made  # noqa: B018
    lazily = dict(vars(package))
    for name in [name for name in sys.modules if name.partition(".")[0] == package.__name__]:
        del sys.modules[name]

    at_once = vars(importlib.import_module(package.__name__))

    assert lazily.keys() == at_once.keys()
    assert {name: type(each) for name, each in lazily.items()} == {name: type(each) for name, each in at_once.items()}


def test_who_looks_through_all_modules_does_not_have_it_run(make: Callable[..., ModuleType]) -> None:
    package = make()

    for name in ("__wrapped__", "__bases__", "__warningregistry__", "__test__", "<lambda>", "", "a.b"):
        assert not hasattr(package, name)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        warnings.warn("a warning", stacklevel=1)
    inspect.getmodule(test_who_looks_through_all_modules_does_not_have_it_run)
    assert isinstance(package, ModuleType)
    package.__test__ = {}

    assert runs(package) == 0


def test_pickle_finds_what_names_no_module(make: Callable[..., ModuleType]) -> None:
    package = make()

    class Function:
        """What names itself, and no module."""

        __module__ = None

        def __reduce__(self) -> str:
            return "made"

    value = Function()
    package.made = value

    assert pickle.dumps(value).count(package.__name__.encode()) == 1
    assert runs(package) == 1


def test_a_function_that_uses_it_is_pickled_by_cloudpickle(make: Callable[..., ModuleType]) -> None:
    package = make()
    namespace: dict[str, Any] = {"__name__": "__main__", "package": package}
    exec("def function(): return package", namespace)

    function = cloudpickle.loads(cloudpickle.dumps(namespace["function"]))

    assert function() is package
    assert runs(package) == 0


def test_what_is_set_or_deleted_stays_so(make: Callable[..., ModuleType]) -> None:
    package = make()
    package.made = "mine"
    assert package.made == "mine"
    assert runs(package) == 1

    other = make()
    del other.made
    assert not hasattr(other, "made")
    assert runs(other) == 1


def test_reload_runs_it_once(make: Callable[..., ModuleType]) -> None:
    package = make(f"{INIT}\nimport sys; seen = sys.modules[__name__].made")

    assert importlib.reload(package) is package

    assert type(package) is ModuleType
    assert (package.made, package.seen, runs(package)) == (2, 2, 1)


def test_what_it_imports_may_use_what_is_there_so_far(make: Callable[..., ModuleType], tmp_path: Path) -> None:
    package = make()
    name = package.__name__
    (tmp_path / name / "two.py").write_text(
        f"import {name}\nfirst = 2\nseen = {name}.first, hasattr({name}, 'made'), hasattr({name}, 'three')\n"
    )

    assert package.made == 2

    assert package.two.seen == (1, False, False)
    assert runs(package) == 1


def test_its_error_reaches_whoever_asks_until_it_succeeds(make: Callable[..., ModuleType]) -> None:
    package = make("early = 1\nfrom .one import first\nfrom .notes import fine\nlate = 2")

    for _ in range(2):
        with pytest.raises(ImportError, match="cannot import name 'fine'"):
            package.late  # noqa: B018
        with pytest.raises(ImportError, match="cannot import name 'fine'"):
            exec(f"from {package.__name__} import late")
        # Nor what it had made before.
        with pytest.raises(ImportError, match="cannot import name 'fine'"):
            package.early  # noqa: B018
        assert importlib.import_module(package.__name__) is package
        assert package.one.first == 1
    package.notes.fine = True

    assert (package.early, package.late, package.fine, runs(package)) == (1, 2, True, 1)


def test_an_attribute_error_in_it_is_no_missing_name(make: Callable[..., ModuleType]) -> None:
    package = make("import sys\nsys.nothing")

    with pytest.raises(ImportError, match="module 'sys' has no attribute 'nothing'") as caught:
        hasattr(package, "made")

    assert caught.value.name == package.__name__
    assert isinstance(caught.value.__cause__, AttributeError)


SLOW = """
early = 1
from .notes import runs
runs.append(0)
_begun.set()
_go_on.wait(10)
late = 2
"""


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param("import {0}; found = {0}.late", id="an attribute"),
        pytest.param("from {0} import late as found", id="from ... import"),
        pytest.param("from {0} import *; found = late", id="from ... import *"),
        pytest.param("import {0}; found = 'late' in dir({0}) and 2", id="dir"),
        pytest.param("from {0} import three; found = three.first - 1", id="a module"),
    ],
)
def test_threads_that_ask_at_once_get_it_whole(make: Callable[..., ModuleType], ask: str) -> None:
    package = make(SLOW)
    begun, go_on = threading.Event(), threading.Event()
    vars(package).update(_begun=begun, _go_on=go_on)
    found: list[object] = []

    def run() -> None:
        namespace: dict[str, Any] = {}
        exec(ask.format(package.__name__), namespace)
        found.append(namespace["found"])

    first = threading.Thread(target=lambda: package.late)
    others = [threading.Thread(target=run) for _ in range(3)]
    first.start()
    assert begun.wait(10)
    for thread in others:
        thread.start()
    others[0].join(0.1)
    assert found == []
    go_on.set()
    for thread in (first, *others):
        thread.join(10)

    assert found == [2] * 3
    # Once: at its begin and at its end.
    assert runs(package) == 2


def test_threads_that_wait_for_each_other_come_to_an_end(make: Callable[..., ModuleType], tmp_path: Path) -> None:
    package = make("from . import notes\nnotes.begin()\nfrom . import two\nlate = 2")
    name = package.__name__
    # The one holds the module and asks for the package, whose __init__ the other runs, which asks for the module.
    (tmp_path / name / "two.py").write_text(
        f"import {name}\nfrom . import notes\nnotes.enter()\nfound = hasattr({name}, 'none')\n"
    )
    begun, entered = threading.Event(), threading.Event()
    ended: list[object] = []

    def begin() -> None:
        begun.set()
        assert entered.wait(10)

    def enter() -> None:
        entered.set()
        assert begun.wait(10)

    def run(statement: str) -> None:
        try:
            exec(statement)
        except Exception as error:
            ended.append(error)
        else:
            ended.append(None)

    vars(package.notes).update(begin=begin, enter=enter)
    statements = f"import {name}.two", f"import {name}; {name}.late"
    threads = [threading.Thread(target=run, args=(each,), daemon=True) for each in statements]
    threads[0].start()
    assert entered.wait(10)
    threads[1].start()
    for thread in threads:
        thread.join(20)

    assert len(ended) == 2
    # Who would have waited for ever is told so; nothing stays half made.
    assert all(each is None or isinstance(each, (RuntimeError, ImportError)) for each in ended), ended
    assert (package.two.found, package.late, runs(package)) == (False, 2, 1)


def test_what_is_imported_already_stays_as_it_is(make: Callable[..., ModuleType]) -> None:
    package = make()
    del sys.modules[package.__name__]
    real = importlib.import_module(package.__name__)

    assert import_lazily(package.__name__) is real
    assert import_lazily("json") is json
    assert type(real) is ModuleType


def test_a_module_that_is_no_package_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "stoker_lazy_plain.py").write_text("made = 1\n")

    module = import_lazily("stoker_lazy_plain")
    del sys.modules["stoker_lazy_plain"]

    assert vars(module)["made"] == 1


def test_a_package_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'stoker_lazy_none'") as caught:
        import_lazily("stoker_lazy_none")

    assert caught.value.name == "stoker_lazy_none"
