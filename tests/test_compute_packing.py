"""Packing: by name while engines have the modules, by value once they turn out to lack them."""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

from stoker.compute.packing import Packer, read_pickler, unpack, unpack_known

MODULE = """
from own_parts.shapes import Shape

FACTOR = 3

def times(x):
    return FACTOR * x

def area(x):
    return Shape(x).area()
"""

SHAPES = """
class Shape:
    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side ** 2
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the user's, which imports from a package without ``__init__.py``."""
    place = tmp_path / "own"
    (place / "own_parts").mkdir(parents=True)
    (place / "own_work.py").write_text(MODULE)
    (place / "own_parts" / "shapes.py").write_text(SHAPES)
    monkeypatch.syspath_prepend(place)
    for name in ("own_work", "own_parts", "own_parts.shapes"):
        # What the import adds is taken away again.
        monkeypatch.setitem(sys.modules, name, None)
        del sys.modules[name]
    import own_work  # type: ignore[import-not-found]

    return own_work


@pytest.fixture
def engine(own: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Any]:
    """An engine that has none of the user's modules."""

    def load(packed: bytes) -> Any:
        with monkeypatch.context() as there:
            for name in ("own_work", "own_parts", "own_parts.shapes"):
                there.setitem(sys.modules, name, None)
            return pickle.loads(packed)

    return load


def test_functions_of_modules_travel_by_name(own: Any, engine: Callable[[bytes], Any]) -> None:
    packer = Packer(own.times)

    assert pickle.loads(packer.function) is own.times
    assert len(packer.function) < 100
    with pytest.raises(ModuleNotFoundError, match="own_work"):
        engine(packer.function)


def test_a_module_that_engines_lack_travels_by_value_from_then_on(own: Any, engine: Callable[[bytes], Any]) -> None:
    packer = Packer(own.times)
    before = packer.function

    helps = packer.take_along("own_work")

    assert helps is True
    assert packer.function != before
    assert engine(packer.function)(14) == 42
    assert engine(packer.pack([own.times]))[0](2) == 6
    assert packer.take_along("own_work") is False


def test_each_module_is_taken_along_when_it_turns_out_to_be_lacking(own: Any, engine: Callable[[bytes], Any]) -> None:
    packer = Packer(own.area)
    packer.take_along("own_work")
    with pytest.raises(ModuleNotFoundError, match="own_parts"):
        engine(packer.function)

    helps = packer.take_along("own_parts")

    assert helps is True
    assert engine(packer.function)(3) == 9


def test_items_that_are_objects_of_own_classes_travel_along(own: Any, engine: Callable[[bytes], Any]) -> None:
    packer = Packer(len)
    packer.take_along("own_parts.shapes")

    (shape,) = engine(packer.pack([own.Shape(4)]))

    assert shape.area() == 16


@pytest.mark.parametrize(
    "name",
    ["", "no_such_module", "__main__", "sys", "math", "json", "json.decoder", "numpy", "cloudpickle", "pytest"],
)
def test_only_modules_of_the_users_own_are_taken_along(name: str) -> None:
    packer = Packer(len)
    packed = packer.function

    assert packer.take_along(name) is False
    assert packer.function is packed


def test_what_other_calls_pack_still_travels_by_name(own: Any) -> None:
    packer = Packer(own.times)
    packer.take_along("own_work")

    packer.pack(own.times)

    assert cloudpickle.list_registry_pickle_by_value() == set()
    assert pickle.loads(Packer(own.times).function) is own.times


def test_nothing_stays_noted_after_an_object_that_cannot_be_packed(own: Any) -> None:
    packer = Packer(own.times)
    packer.take_along("own_work")

    with pytest.raises(TypeError, match="cannot pickle"):
        packer.pack(threading.Lock())

    assert cloudpickle.list_registry_pickle_by_value() == set()


def test_what_the_user_noted_stays_noted(own: Any) -> None:
    packer = Packer(own.times)
    packer.take_along("own_work")
    cloudpickle.register_pickle_by_value(own)

    try:
        packer.pack(own.times)

        assert cloudpickle.list_registry_pickle_by_value() == {"own_work"}
    finally:
        cloudpickle.unregister_pickle_by_value(own)


def test_calls_of_several_threads_do_not_disturb_each_other(own: Any, engine: Callable[[bytes], Any]) -> None:
    packers = [Packer(own.times) for _ in range(4)]
    for packer in packers:
        packer.take_along("own_work")

    with ThreadPoolExecutor(4) as threads:
        packed = list(threads.map(lambda at: packers[at % 4].pack(own.times), range(400)))

    assert {len(each) for each in packed} == {len(packers[0].function)}
    assert engine(packed[-1])(1) == 3


def test_lambdas_and_closures_travel_by_value() -> None:
    step = 5

    def add(x: int) -> int:
        return x + step

    loaded = [pickle.loads(Packer(function).function) for function in (add, lambda x: x * step)]

    assert [function(2) for function in loaded] == [7, 10]


def test_the_function_is_packed_once_and_only_when_it_is_wanted() -> None:
    packings = []

    class Counted:
        def __call__(self, x: int) -> int:
            return x

        def __reduce__(self) -> tuple[type[int], tuple[int]]:
            packings.append(self)
            return int, (1,)

    packer = Packer(Counted())
    assert packings == []

    assert packer.function is packer.function
    assert len(packings) == 1


def test_a_function_that_cannot_be_packed_says_so_each_time() -> None:
    lock = threading.Lock()
    packer = Packer(lambda x: lock)

    for _ in range(2):
        with pytest.raises(TypeError, match="cannot pickle"):
            _ = packer.function


def test_large_buffers_travel_within() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(10_000)

    loaded = pickle.loads(Packer(len).pack((array[:10], array)))

    assert [column.tolist() for column in loaded] == [list(range(10)), list(range(10_000))]
    assert len(Packer(len).pack((array[:10],))) < 1000


def test_the_text_of_the_pickler_is_the_librarys_own() -> None:
    assert read_pickler() == Path(cloudpickle.cloudpickle.__file__).read_text(encoding="utf-8")


def test_a_class_that_travelled_by_value_stays_as_it_is_when_it_comes_back(own: Any) -> None:
    packer = Packer(own.area)
    packer.take_along("own_parts")
    packed = packer.pack(own.Shape(4))
    area = own.Shape.area

    come_back = unpack(packed)

    assert (type(come_back), come_back.side) == (own.Shape, 4)
    assert own.Shape.area is area
    pickle.loads(packed)
    assert own.Shape.area is not area


@pytest.mark.parametrize("value", [None, [1, "x"], {"a": (1.5, b"y")}, OSError], ids=repr)
def test_anything_else_comes_back_as_pickle_has_it(value: object) -> None:
    assert unpack(cloudpickle.dumps(value)) == value


def test_a_closure_comes_back_working() -> None:
    step = 5

    assert unpack(cloudpickle.dumps(lambda x: x + step))(1) == 6


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[Any]], bytes]:
    """Packs a list as an engine does whose modules this process lacks: their parts are got by name there."""
    module = ModuleType("foreign")
    exec(_FOREIGN, module.__dict__)

    def pack(values: Sequence[Any]) -> bytes:
        with monkeypatch.context() as there:
            there.setitem(sys.modules, "foreign", module)
            made = [value(module) if callable(value) else value for value in values]
            packed: bytes = cloudpickle.dumps(made, protocol=5)
        return packed

    return pack


_FOREIGN = """
import collections, enum

class Plain:
    def __init__(self, value):
        self.value = value

class Slots:
    __slots__ = ("value",)

    def __init__(self):
        self.value = 3

class Items(list): pass
class Names(dict): pass
class Color(enum.Enum):
    RED = 1
Pair = collections.namedtuple("Pair", "a b")

def make():
    return 3

class Odd:
    def __reduce__(self):
        return make, (), {"x": 1}, iter([1, 2]), iter({1: 2}.items())
"""


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda module: module.Plain(3), id="object"),
        pytest.param(lambda module: module.Slots(), id="slots"),
        pytest.param(lambda module: module.Items([1, 2]), id="list"),
        pytest.param(lambda module: module.Names(a=1), id="dictionary"),
        pytest.param(lambda module: module.Color.RED, id="member of an enum"),
        pytest.param(lambda module: module.Pair(1, 2), id="named tuple"),
        pytest.param(lambda module: module.Odd(), id="what a function makes"),
        pytest.param(lambda module: module.Plain, id="class"),
        pytest.param(lambda module: module.make, id="function"),
        pytest.param(lambda module: {"deep": [(module.Plain(1), 2)]}, id="within others"),
    ],
)
def test_of_a_list_what_can_be_read_is_and_the_rest_is_named(
    make: Callable[[ModuleType], Any], foreign: Callable[[Sequence[Any]], bytes]
) -> None:
    packed = foreign([1, make, "two", [3.0], None])
    with pytest.raises(ModuleNotFoundError):
        unpack(packed)

    values, missing = unpack_known(packed)

    assert values == [1, None, "two", [3.0], None]
    assert missing == {1: "ModuleNotFoundError: No module named 'foreign'"}


def test_a_class_that_its_module_lacks_is_named(own: Any) -> None:
    shape = own.Shape(4)
    packed = cloudpickle.dumps([shape, 5], protocol=5)
    del sys.modules["own_parts.shapes"].Shape  # type: ignore[attr-defined]

    values, missing = unpack_known(packed)

    assert values == [None, 5]
    assert list(missing) == [0]
    assert missing[0].startswith("AttributeError: ")
    assert "Shape" in missing[0]


def test_what_fails_for_something_else_fails_again() -> None:
    packed = cloudpickle.dumps([1, _Refusing()], protocol=5)

    with pytest.raises(AttributeError, match="not here"):
        unpack_known(packed)


class _Refusing:
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise AttributeError("not here")
