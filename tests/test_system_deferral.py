from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.system.deferral import defer

NAME = "stoker_test_of_deferral"


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module that can be imported, and is not yet."""
    (tmp_path / f"{NAME}.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = list(sys.meta_path)
    yield
    sys.modules.pop(NAME, None)
    assert sys.meta_path == before


def test_entries_wait_until_their_module_is_imported() -> None:
    one: dict[Any, Any] = {f"{NAME}.Thing": 1, "other.Thing": 2, bytes: 3}
    other: dict[Any, Any] = {f"{NAME}.sub.Thing": 4}

    defer(NAME, one, other)

    assert one == {"other.Thing": 2, bytes: 3}
    assert other == {}
    importlib.import_module("colorsys")
    assert other == {}
    importlib.import_module(NAME)
    assert one == {f"{NAME}.Thing": 1, "other.Thing": 2, bytes: 3}
    assert other == {f"{NAME}.sub.Thing": 4}


def test_what_was_put_there_meanwhile_stays() -> None:
    table: dict[Any, Any] = {f"{NAME}.Thing": 1}

    defer(NAME, table)
    table[f"{NAME}.Thing"] = 2
    importlib.import_module(NAME)

    assert table == {f"{NAME}.Thing": 2}


def test_nothing_is_taken_where_the_module_is_there() -> None:
    importlib.import_module(NAME)
    table: dict[Any, Any] = {f"{NAME}.Thing": 1}

    defer(NAME, table)

    assert table == {f"{NAME}.Thing": 1}


def test_a_table_without_such_entries_adds_nothing_to_imports() -> None:
    before = list(sys.meta_path)

    defer(NAME, {bytes: 1})

    assert sys.meta_path == before
