"""Fingerprints: short digests of functions and items that are the same in every run of the same program.

Pickles do not serve: their bytes depend on which objects are shared, on the order of sets, on line numbers and paths.
A function that travels by value is what its code, defaults, closure and the globals it uses are, and so are functions
and classes of the user's own modules; what is installed is its name. Nothing here runs the user's functions.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import itertools
import marshal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import cloudpickle

from stoker.compute.packing import is_own

__all__ = ["Chain", "describe_function", "digest", "name_function"]

_SIZE = 16
_PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})
_METHODS = (FunctionType, classmethod, property, staticmethod)
_MARSHAL = 2
"""The version of marshal's format that knows no references: equal values have equal bytes."""
_LEFT_OUT = frozenset({"__annotate__", "__annotate_func__", "_abc_impl"})
"""What the interpreter makes of the rest of a class."""

_Seen = dict[int, tuple[int, object]]
"""Functions and classes that were fed, or are being fed, by id: the how-manieth each is, and itself."""


def digest(value: object) -> str:
    """Digest any value; functions and classes by content where they are the user's own."""
    try:
        return _digest(value, classes=True).hex()
    except RecursionError:
        return "too deep"


def name_function(function: Callable[..., Any]) -> str:
    """Name a function by module and qualified name."""
    if isinstance(function, functools.partial):
        return f"partial of {name_function(function.func)}"
    name = getattr(function, "__qualname__", None)
    if name is None:
        return f"an object of {name_function(type(function))}"
    return f"{getattr(function, '__module__', None) or 'builtins'}.{name}"


def describe_function(function: Callable[..., Any]) -> dict[str, str]:
    """Digest the parts of a function, each by a name that says to people what it is.

    Returns:
        Parts such as ``code``, ``defaults``, ``closure x`` and ``global FACTOR``; two functions with the same parts
        do the same.
    """
    parts = {"name": name_function(function), "Python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    if isinstance(function, functools.partial):
        parts["arguments"] = digest((function.args, function.keywords))
        function = function.func
    if isinstance(function, MethodType):
        parts["object"] = digest(function.__self__)
        function = function.__func__
    if not isinstance(function, FunctionType) or not _is_by_content(function):
        return {**parts, "content": digest(function)}
    return {**parts, **{name: digest(value) for name, value in _list_parts(function)}}


class Chain:
    """The digest of items, one after the other, whatever the number that are fed at a time."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=_SIZE)
        self.count = 0
        """How many items were fed."""

    def feed(self, columns: tuple[Sequence[Any], ...]) -> None:
        """Take in items, given as the values of each argument."""
        items = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        self.count += len(items)
        if _PLAIN.issuperset(map(type, items)):
            # Without the list's own head, which is a letter and its length, these are the bytes of one item each.
            self._hash.update(marshal.dumps(list(items), _MARSHAL)[5:])
            return
        for item in items:
            # The same bytes as above for what is plain: how many are fed at a time makes no difference.
            plain = type(item) in _PLAIN
            self._hash.update(marshal.dumps(item, _MARSHAL) if plain else _digest(item, classes=False))

    def read(self) -> str:
        """Give the digest of all that was fed so far."""
        return self._hash.hexdigest()


def _list_parts(function: FunctionType) -> Iterator[tuple[str, object]]:
    code = function.__code__
    yield "code", code
    yield "defaults", (function.__defaults__, function.__kwdefaults__)
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"closure variable {name}", cell.cell_contents
        except ValueError:
            # A name that is not assigned yet.
            yield f"closure variable {name}", None
    used = cloudpickle.cloudpickle._extract_code_globals(code)
    for name in sorted(used):
        if name in function.__globals__ and not name.startswith("__"):
            value = function.__globals__[name]
            yield f"global {name}", value
            if isinstance(value, ModuleType) and is_own(value):
                yield from _list_members(value, code)
    attributes = {name: value for name, value in vars(function).items() if name != "__wrapped__"}
    if attributes:
        yield "attributes", attributes


def _list_members(module: ModuleType, code: CodeType) -> Iterator[tuple[str, object]]:
    """Give what code may use of a module of the user's: all that it has under names that the code looks up."""
    for name in sorted(_list_names(code)):
        if name in vars(module):
            yield f"global {module.__name__}.{name}", vars(module)[name]


def _list_names(code: CodeType) -> set[str]:
    inner = (_list_names(each) for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*inner)


def _is_by_content(value: FunctionType | type) -> bool:
    module = sys.modules.get(value.__module__ or "")
    local = "<" in value.__qualname__
    return local or module is None or module.__name__ == "__main__" or is_own(module)


def _digest(value: object, *, classes: bool, seen: _Seen | None = None, opened: dict[int, int] | None = None) -> bytes:
    hasher = hashlib.blake2b(digest_size=_SIZE)
    _Feeder(hasher.update, classes=classes, seen=dict(seen or {}), opened=dict(opened or {})).feed(value)
    return hasher.digest()


class _Feeder:
    """Feeds a value to a hash, part by part, so that equal values have equal digests."""

    def __init__(
        self, update: Callable[[bytes], object], *, classes: bool, seen: _Seen, opened: dict[int, int]
    ) -> None:
        self._update = update
        self._classes = classes
        self._seen = seen
        self._opened = opened
        """What is being fed, other than functions and classes, by id: how deep it is."""

    def feed(self, value: Any) -> None:
        kind = type(value)
        if kind in _PLAIN:
            self._update(marshal.dumps(value, _MARSHAL))
        elif kind is CodeType:
            self._feed_code(value)
        elif isinstance(value, FunctionType):
            self._feed_once(value, self._feed_function)
        elif isinstance(value, type):
            self._feed_once(value, self._feed_class)
        elif isinstance(value, ModuleType):
            self._say("module", value.__name__)
        elif isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, ModuleType | None):
            self._say("named", name_function(value))
        elif id(value) in self._opened:
            self._say("again", len(self._opened) - self._opened[id(value)])
        else:
            self._opened[id(value)] = len(self._opened)
            self._feed_object(value)
            del self._opened[id(value)]

    def _feed_object(self, value: Any) -> None:
        kind = type(value)
        if kind in (tuple, list):
            self._say(kind.__name__, len(value))
            for each in value:
                self.feed(each)
        elif kind is dict:
            self._say("dict", len(value))
            if all(type(key) is str for key in value):
                for key in sorted(value):
                    self._say(key)
                    self.feed(value[key])
            else:
                self._feed_unordered(value.items())
        elif kind in (set, frozenset):
            self._say(kind.__name__, len(value))
            self._feed_unordered(value)
        elif callable(value) and isinstance(getattr(value, "__wrapped__", None), FunctionType):
            # Caches and compiled functions: how they pickle says nothing of what they do.
            self._say("around", name_function(kind))
            self.feed(value.__wrapped__)
        else:
            self._feed_reduced(value)

    def _feed_reduced(self, value: object) -> None:
        reduce = copyreg.dispatch_table.get(type(value))
        try:
            reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except Exception:
            # A lock, an open file: it cannot be an item, and nobody knows what it stands for.
            self._say("opaque", name_function(type(value)))
            return
        if isinstance(reduced, str):
            self._say("named", str(getattr(value, "__module__", "")), reduced)
            return
        make, arguments, *rest = reduced
        state, items, pairs = (*rest, None, None, None)[:3]
        self._say("object", name_function(type(value)))
        self.feed(make)
        self.feed(arguments)
        self.feed(state)
        self.feed(None if items is None else list(items))
        self.feed(None if pairs is None else dict(pairs))

    def _feed_unordered(self, values: Iterable[object]) -> None:
        for each in sorted(self._digest_apart(value) for value in values):
            self._update(each)

    def _digest_apart(self, value: object) -> bytes:
        return _digest(value, classes=self._classes, seen=self._seen, opened=self._opened)

    def _feed_once(self, value: Any, feed: Callable[[Any], None]) -> None:
        if id(value) in self._seen:
            self._say("once more", self._seen[id(value)][0])
        else:
            self._seen[id(value)] = len(self._seen), value
            feed(value)

    def _feed_function(self, function: FunctionType) -> None:
        if not _is_by_content(function):
            self._say("named", name_function(function))
            return
        self._say("function", function.__name__)
        for name, part in _list_parts(function):
            self._say(name)
            self.feed(part)

    def _feed_class(self, kind: type) -> None:
        self._say("class", name_function(kind))
        if not self._classes or not _is_by_content(kind):
            return
        self.feed(kind.__bases__)
        for name, member in sorted(vars(kind).items()):
            # Decorators and metaclasses note what they like under such names: addresses, sets in any order.
            special = name.startswith("__") and not isinstance(member, _METHODS)
            if special or name in _LEFT_OUT:
                continue
            self._say(name)
            if isinstance(member, staticmethod | classmethod):
                self.feed(member.__func__)
            elif isinstance(member, property):
                self.feed((member.fget, member.fset, member.fdel))
            else:
                self.feed(member)

    def _feed_code(self, code: Any) -> None:
        # Neither file nor lines: a function may move.
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        self._say("code", *counts, *itertools.chain.from_iterable(names))
        self._update(code.co_code)
        self._update(code.co_exceptiontable)
        self.feed(code.co_consts)

    def _say(self, *words: str | int) -> None:
        self._update(marshal.dumps(words, _MARSHAL))
