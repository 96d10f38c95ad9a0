"""Fingerprints: the same in every run of the same program, and others where something else would be computed."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.compute.fingerprint import Chain, describe_function, digest

PROGRAM = """
import dataclasses, enum, functools, json, math, threading
from collections import OrderedDict
import abc, random, re, typing
import numpy as np
import pydantic
from stoker.compute.fingerprint import Chain, describe_function
{filler}
TABLE = {{"a": {{1, 2, "x", "y"}}, 3: frozenset("hello")}}
LOCK = threading.Lock()

class Color(enum.Enum):
    RED = 1
    BLUE = 2

@dataclasses.dataclass
class Pair:
    left: int
    right: int = 3

    def swap(self):
        return Pair(self.right, self.left)

class Model(pydantic.BaseModel):
    name: str = "a"
    tags: set[str] = {{"x", "y"}}

    @pydantic.field_validator("name")
    @classmethod
    def check(cls, value):
        return value

class Row(typing.NamedTuple):
    x: int
    y: str = "a"

class Base(abc.ABC):
    __slots__ = ("q",)

    @abc.abstractmethod
    def go(self): ...

    @abc.abstractmethod
    def come(self): ...

class Thing(Base):
    def go(self):
        return {{"a", "b"}}

    def come(self):
        return super().come()

CHANCE = random.Random(4)
WORD = re.compile("a+")

def classes(x):
    return Model(), Row(x), Thing(), CHANCE, WORD

def helper(x):
    return triple(x - 1) if x else TABLE

def triple(x, *, y=(1, 2), z={{"q", "w", "e"}}):
    if x in {{"aa", "bb", "cc"}}:
        return helper(x)
    with LOCK:
        return Color.RED, Pair(1), np.sum(x), math.sin(x), cached(x)

@functools.lru_cache
def cached(x):
    return x

def outer(v):
    def inner(x):
        return x + v + triple(x)
    return inner

class Tool:
    def __init__(self):
        self.state = {{"k": [1, self]}}

    def __call__(self, x):
        return x

    def method(self, x):
        return Pair(x)

functions = {{
    "function": triple,
    "lambda": lambda x: [y for y in x if y in {{"p", "q", "r"}}],
    "closure": outer({{"s", "t"}}),
    "partial": functools.partial(triple, y={{"u", "v"}}),
    "object": Tool(),
    "method": Tool().method,
    "numpy": np.sum,
    "ufunc": np.sin,
    "builtin": math.sin,
    "descriptor": str.upper,
    "cached": cached,
    "classes": classes,
    "bound": "abc".find,
}}
chain = Chain()
items = [Pair(1, 2), {{"a", "b"}}, {{1: 2, "x": None}}, np.arange(3), Color.RED, 1, "x", lambda x: x, OrderedDict(a=1)]
items += [Model(tags={{"p", "q"}}), Row(1), np.float32(3), WORD]
chain.feed((items,))
print(json.dumps({{name: describe_function(each) for name, each in functions.items()}} | {{"items": chain.read()}}))
"""


def _make(source: str, name: str = "task") -> Any:
    """Make a function as a script of this text has it."""
    namespace: dict[str, Any] = {"__name__": "__main__", "functools": functools}
    exec(compile(textwrap.dedent(source), "script", "exec"), namespace)
    return namespace[name]


def test_functions_and_items_have_the_same_fingerprints_in_every_run(tmp_path: Path) -> None:
    found = []
    for run, seed in enumerate(["0", "1", "2", "random"]):
        script = tmp_path / str(run) / "script.py"
        script.parent.mkdir()
        # Functions may move within their file, and the file to another directory.
        script.write_text(PROGRAM.format(filler="#\n" * run))
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        ended = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        found.append(json.loads(ended.stdout))

    assert found[1:] == found[:-1]
    # All of them are told apart.
    described = [json.dumps(each) for each in found[0].values()]
    assert len(set(described)) == len(described)


BASE = """
def task(x):
    return x + 1
"""


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        pytest.param(BASE, BASE.replace("1", "2"), ["code"], id="a constant"),
        pytest.param(BASE, BASE.replace("+", "-"), ["code"], id="an operator"),
        pytest.param(BASE, "def task(x):\n    return x.real + 1\n", ["code"], id="a name"),
        pytest.param(
            "def task(x):\n    return x in {'a', 'b'}\n",
            "def task(x):\n    return x in {'a', 'c'}\n",
            ["code"],
            id="a set among the constants",
        ),
        pytest.param(
            "def task(x):\n    return [y + 1 for y in x]\n",
            "def task(x):\n    return [y + 2 for y in x]\n",
            ["code"],
            id="a constant of an inner function",
        ),
        pytest.param("def task(x, y=1):\n    pass\n", "def task(x, y=2):\n    pass\n", ["defaults"], id="a default"),
        pytest.param(
            "def task(x, *, y=1):\n    pass\n", "def task(x, *, y=2):\n    pass\n", ["defaults"], id="a keyword default"
        ),
        pytest.param(
            "def make(v):\n    return lambda x: x + v\ntask = make(1)\n",
            "def make(v):\n    return lambda x: x + v\ntask = make(2)\n",
            ["closure variable v"],
            id="what it closes over",
        ),
        pytest.param(
            "FACTOR = 3\ndef task(x):\n    return x * FACTOR\n",
            "FACTOR = 4\ndef task(x):\n    return x * FACTOR\n",
            ["global FACTOR"],
            id="a global",
        ),
        pytest.param(
            "def helper(x):\n    return x\ndef task(x):\n    return helper(x)\n",
            "def helper(x):\n    return -x\ndef task(x):\n    return helper(x)\n",
            ["global helper"],
            id="a function that it calls",
        ),
        pytest.param(
            "class Tool:\n    def run(self, x):\n        return x\ndef task(x):\n    return Tool().run(x)\n",
            "class Tool:\n    def run(self, x):\n        return -x\ndef task(x):\n    return Tool().run(x)\n",
            ["global Tool"],
            id="a method of a class that it uses",
        ),
        pytest.param(
            "task = functools.partial(max, 1)\n", "task = functools.partial(max, 2)\n", ["arguments"], id="a partial"
        ),
        pytest.param(
            "class Tool:\n    def __init__(self, k):\n        self.k = k\n    def run(self, x):\n        return x\n"
            "task = Tool(1).run\n",
            "class Tool:\n    def __init__(self, k):\n        self.k = k\n    def run(self, x):\n        return x\n"
            "task = Tool(2).run\n",
            ["object"],
            id="the object of a method",
        ),
        pytest.param(BASE, "# moved\n\n" + BASE, [], id="not its line"),
        pytest.param(BASE, "OTHER = 1\n" + BASE, [], id="not a global that it does not use"),
        pytest.param(BASE, BASE.replace("(x)", "(x: int) -> int"), [], id="not an annotation"),
    ],
)
def test_what_a_function_would_do_otherwise_is_named(before: str, after: str, changed: list[str]) -> None:
    old, new = describe_function(_make(before)), describe_function(_make(after))

    assert [name for name in old if old[name] != new[name]] == changed
    assert old == describe_function(_make(before))


def test_what_a_function_uses_of_a_module_of_the_users_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "fingerprinted.py").write_text("def used(x):\n    return x\n\ndef unused(x):\n    return x\n")
    import fingerprinted  # type: ignore[import-not-found]

    task = _make("import fingerprinted\ndef task(x):\n    return fingerprinted.used(x)\n")
    before = describe_function(task)

    monkeypatch.setattr(fingerprinted, "unused", lambda x: -x)
    assert describe_function(task) == before
    monkeypatch.setattr(fingerprinted, "used", lambda x: -x)
    after = describe_function(task)
    assert [name for name in after if after[name] != before[name]] == ["global fingerprinted.used"]


def test_functions_that_call_each_other_have_fingerprints() -> None:
    source = "def even(x):\n    return not x or odd(x - 1)\ndef odd(x):\n    return x and even(x - 1)\n"

    assert describe_function(_make(source, "even")) == describe_function(_make(source, "even"))


def test_an_object_that_holds_itself_has_a_fingerprint() -> None:
    def make() -> list[Any]:
        held: list[Any] = [1, {"a": 2}]
        held.append({"list": held, 3: held})
        return held

    assert digest(make()) == digest(make())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.sets(st.integers() | st.text())
    ),
    max_leaves=8,
)


@given(items=st.lists(VALUES, max_size=20), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_a_chain_does_not_depend_on_how_many_items_are_fed_at_a_time(items: list[Any], sizes: list[int]) -> None:
    whole, cut = Chain(), Chain()
    whole.feed((items,))
    at = 0
    while at < len(items):
        size = sizes[at % len(sizes)]
        cut.feed((tuple(items[at : at + size]),))
        at += size

    assert (cut.count, cut.read()) == (whole.count, whole.read())


@given(first=VALUES, second=VALUES)
def test_values_have_the_same_digest_if_they_look_the_same(first: Any, second: Any) -> None:
    def show(value: Any) -> str:
        if isinstance(value, dict):
            return f"{{{sorted((show(key), show(item)) for key, item in value.items())}}}"
        if isinstance(value, set):
            return f"set{sorted(map(show, value))}"
        return f"{type(value)}{list(map(show, value)) if isinstance(value, list | tuple) else repr(value)}"

    assert (digest(first) == digest(second)) == (show(first) == show(second))
