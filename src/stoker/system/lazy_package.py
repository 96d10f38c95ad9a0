"""Packages whose ``__init__`` runs when it is first needed, not when one of their modules is imported."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

__all__ = ["import_lazily"]

# Python's own lock of a module: import statements of other threads respect it, and of threads that would wait for each
# other for ever one is told so.
_ModuleLock: Any = vars(importlib._bootstrap).get("_ModuleLockManager")


def import_lazily(name: str) -> ModuleType:
    """Import a package, but leave its ``__init__`` to the first who asks for what only that can give.

    For packages whose ``__init__`` makes nothing under the name of one of their modules: who asks for such a name is
    given the module. A package that is imported already stays as it is; what is no package is imported as ever.

    Args:
        name: A top-level package.

    Raises:
        ModuleNotFoundError: There is none.
    """
    if name in sys.modules:
        return sys.modules[name]
    spec: Any = importlib.util.find_spec(name)
    is_package = spec is not None and spec.submodule_search_locations and hasattr(spec.loader, "get_code")
    if not is_package or _ModuleLock is None:
        return importlib.import_module(name)
    module = importlib.util.module_from_spec(spec)
    spec._initializing = False
    module.__class__ = _LazyPackage
    return sys.modules.setdefault(name, module)


class _LazyPackage(ModuleType):
    # Becomes a plain module when its __init__ has run; another thread may be in one of these methods then, so they look
    # nothing up in this class.

    def __getattr__(self, name: str) -> Any:
        spec: Any = self.__spec__
        if _may_define(spec, name):
            module = f"{spec.name}.{name}"
            # Also for a module: __init__, which may import it too, does so under this lock.
            with _ModuleLock(spec.name):
                # While __init__ runs, a module of the package is there if it was imported, as in every package.
                if not (_is_special(name) or spec._initializing) and importlib.util.find_spec(module) is not None:
                    return importlib.import_module(module)
                _run(self)
        # If it is not there, this says so as of every module.
        return ModuleType.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "__spec__":
            # By importlib.reload, which then runs it.
            self.__class__ = ModuleType  # type: ignore[assignment]
        elif not (_is_special(name) or _is_module(self, name, value)):
            # Later it would put its own in the place of this.
            _run(self)
        ModuleType.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if not _is_special(name):
            _run(self)
        ModuleType.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        _run(self)
        return list(ModuleType.__dir__(self))

    def __reduce__(self) -> tuple[Any, ...]:
        # As cloudpickle does it with modules, which it knows by their exact class.
        return importlib.import_module, (self.__name__,)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        _run(self)
        return vars(self)["__doc__"]  # type: ignore[no-any-return]


def _run(package: ModuleType) -> None:
    """Run ``__init__`` if it has not run. Where another thread runs it, wait for that; where this one does, do not."""
    spec: Any = package.__spec__
    with _ModuleLock(spec.name):
        if type(package) is not _LazyPackage or spec._initializing:
            return
        before = set(vars(package))
        # Has import statements of other threads wait.
        spec._initializing = True
        try:
            spec.loader.exec_module(package)
            package.__class__ = ModuleType  # type: ignore[assignment]
        except BaseException as error:
            # The next who asks starts anew.
            for name in set(vars(package)) - before:
                if not _is_module(package, name, vars(package)[name]):
                    del vars(package)[name]
            if isinstance(error, AttributeError):
                # It would look as if only what was asked for were not there.
                raise ImportError(f"{spec.name}: {error}", name=spec.name, path=spec.origin) from error
            raise
        finally:
            spec._initializing = False


def _may_define(spec: Any, name: str) -> bool:
    """Say whether a package's ``__init__`` may define a name."""
    if not _is_special(name):
        return name.isidentifier()
    # Programs look through all modules for names such as __wrapped__ or __warningregistry__.
    return name == "__all__" or name in spec.loader.get_code(spec.name).co_names


def _is_special(name: str) -> bool:
    return name.startswith("__")


def _is_module(package: ModuleType, name: str, value: object) -> bool:
    """Say whether this is the package's module of that name, which the import system puts there."""
    return isinstance(value, ModuleType) and value is sys.modules.get(f"{package.__name__}.{name}")
