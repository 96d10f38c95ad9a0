"""Packing: functions and items as bytes. What the engines turn out to lack goes again by value."""

from __future__ import annotations

import inspect
import io
import pickle
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import cloudpickle

from stoker.compute.runner import dump_strings
from stoker.compute.source import Columns

__all__ = ["Packer", "is_own", "read_pickler", "unpack", "unpack_known"]

_NOT_MINE = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


_set_class_state: Callable[[type, Any], type] = cloudpickle.cloudpickle._class_setstate
_FILL_CLASS = b"_class_setstate"
_registering = threading.Lock()
"""Modules that travel by value are noted for the whole process, and other threads pack, too."""


class Packer:
    """Packs what one call sends. Functions and classes of modules travel by name, until an engine lacks the module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._by_value: list[ModuleType] = []
        self._packed: bytes | None = None

    @property
    def function(self) -> bytes:
        """The function, packed once.

        Raises:
            TypeError, pickle.PicklingError: It cannot be packed.
        """
        if self._packed is None:
            self._packed = self.pack(self._function)
        return self._packed

    def pack(self, value: object) -> bytes:
        """Pack anything."""
        if not self._by_value:
            packed: bytes = cloudpickle.dumps(value, protocol=5)
            return packed
        with _registering:
            users = cloudpickle.list_registry_pickle_by_value()
            added = [module for module in self._by_value if module.__name__ not in users]
            for module in added:
                cloudpickle.register_pickle_by_value(module)
            try:
                packed = cloudpickle.dumps(value, protocol=5)
            finally:
                for module in added:
                    cloudpickle.unregister_pickle_by_value(module)
        return packed

    def pack_columns(self, columns: Columns) -> bytes:
        """Pack the items of a batch."""
        return dump_strings(columns, columns) or self.pack(columns)

    def take_along(self, name: str) -> bool:
        """Have a module that engines lack travel by value from now on.

        Returns:
            Whether that can help: it is a module of the user's own, and did not travel already.
        """
        module = sys.modules.get(name)
        if module is None or module in self._by_value or not is_own(module):
            return False
        self._by_value.append(module)
        self._packed = None
        return True


def unpack(packed: bytes) -> Any:
    """Unpack what an engine packed.

    Raises:
        Exception: It cannot be: something that it needs is missing here, for instance.
    """
    if _FILL_CLASS in packed:
        return _Unpickler(io.BytesIO(packed)).load()
    return pickle.loads(packed)  # noqa: S301 - the user's own


def unpack_known(packed: bytes) -> tuple[list[Any], dict[int, str]]:
    """Unpack of a list what can be, where ``unpack`` fails for a module or a class that is missing here.

    Returns:
        The values, None in the place of each that cannot be had; and by place what is missing.

    Raises:
        Exception: It fails for something else.
    """
    values = _KnownUnpickler(io.BytesIO(packed)).load()
    missing = {}
    for place, value in enumerate(values):
        try:
            _Finder(io.BytesIO(), protocol=5).dump(value)
        except _MissingError as error:
            missing[place] = str(error)
            values[place] = None
    return values, missing


def read_pickler() -> str:
    """Give the text of cloudpickle, for engines that lack it."""
    return inspect.getsource(cloudpickle.cloudpickle)


def is_own(module: ModuleType) -> bool:
    """Tell whether a module is the user's own: neither installed nor ``__main__``."""
    file = getattr(module, "__file__", None)
    if module.__name__ == "__main__" or (file is not None and not file.endswith(".py")):
        return False
    # A package without __init__.py has no file, but directories.
    paths = [Path(each).resolve() for each in (list(getattr(module, "__path__", ())) if file is None else [file])]
    # An editable install lies elsewhere; what the standard library's directory holds includes site-packages.
    return bool(paths) and not any(path.is_relative_to(place) for path in paths for place in _NOT_MINE)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _fill_class if name == "_class_setstate" else super().find_class(module, name)


class _MissingError(Exception):
    pass


class _Missing:
    """Stands for what is made of something that is missing here, until the rest has been read."""

    problem = ""

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Take whatever it would have been made of."""

    def __call__(self, *args: object, **kwargs: object) -> Self:
        return self

    def _take(self, *args: object) -> None:
        """Take whatever would have been put into it."""

    __setstate__ = __setitem__ = append = extend = add = update = _take


class _KnownUnpickler(_Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError) as error:
            return type("Missing", (_Missing,), {"problem": f"{type(error).__name__}: {error}"})


class _Finder(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, _Missing) or (isinstance(obj, type) and issubclass(obj, _Missing)):
            raise _MissingError(obj.problem)
        return super().reducer_override(obj)


def _fill_class(filled: type, state: Any) -> type:
    # A class that travelled by value comes back with what it was on the engine; the one here is to stay as it is.
    own: object = sys.modules.get(filled.__module__)
    for name in filled.__qualname__.split("."):
        own = getattr(own, name, None)
    return filled if own is filled else _set_class_state(filled, state)
