from __future__ import annotations

import math
import os.path
from typing import Any

import pytest

from stoker.agent.setup import Setup, pack_setup, run_setup, run_setups


@pytest.fixture
def namespace() -> dict[str, Any]:
    return {}


@pytest.mark.parametrize(
    ("module", "bound"),
    [
        pytest.param("math", {"math": math}, id="plain"),
        pytest.param("os.path", {"os": os}, id="inner one binds the outer"),
        pytest.param("math as m", {"m": math}, id="under another name"),
        pytest.param("os.path as where", {"where": os.path}, id="inner one under another name"),
        pytest.param("  math   as   m ", {"m": math}, id="spaces"),
    ],
)
def test_imports_bind_what_the_statement_would(namespace: dict[str, Any], module: str, bound: dict[str, Any]) -> None:
    run_setup(pack_setup(Setup(imports=(module,))), namespace)

    assert namespace == bound


def test_names_are_set_after_imports_and_the_function_is_called_last(namespace: dict[str, Any]) -> None:
    # Whatever it is given travels; this list stays the engine's own.
    def function() -> None:
        import builtins

        builtins.called = True  # type: ignore[attr-defined]

    run_setup(pack_setup(Setup(imports=("math",), names={"math": 5, "x": [1]}, function=function)), namespace)

    import builtins

    assert namespace == {"math": 5, "x": [1]}
    assert builtins.called  # type: ignore[attr-defined]
    del builtins.called  # type: ignore[attr-defined]


def test_set_ups_run_in_their_order(namespace: dict[str, Any]) -> None:
    run_setups([pack_setup(Setup(names={"x": 1, "y": 1})), pack_setup(Setup(names={"x": 2}))], namespace)

    assert namespace == {"x": 2, "y": 1}


def test_a_module_that_is_missing_is_an_import_error(namespace: dict[str, Any]) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        run_setup(pack_setup(Setup(imports=("no_such_module",))), namespace)


def test_a_set_up_travels_as_plain_text() -> None:
    assert pack_setup(Setup(names={"ä": "ö"})).isascii()
