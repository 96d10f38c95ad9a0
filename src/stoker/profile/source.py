"""Reading a config file as text: which traits it sets, where, and to what. Runs nothing of it."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stoker.errors import ProfileError

__all__ = ["UNKNOWN", "Assignment", "Import", "Source", "parse_source"]


class _Unknown:
    def __repr__(self) -> str:
        return "<computed when the file is loaded>"


UNKNOWN = _Unknown()
"""The value of an assignment that is no literal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One statement that sets or changes a trait."""

    path: tuple[str, ...]
    """The sections and the trait: ``("IPController", "HeartMonitor", "period")``."""

    value: object
    """Its literal value; ``UNKNOWN`` where it is computed, or changed in place."""

    line: int
    """Its first line, from 1."""

    last_line: int
    whole_lines: bool
    """Whether the statement stands alone on its lines, at the file's top level."""

    @property
    def name(self) -> str:
        """The dotted name, as it stands in the file but for ``c.``."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import statement."""

    module: str
    line: int
    last_line: int
    whole_lines: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a config file's text says."""

    assignments: tuple[Assignment, ...]
    """In the order of the file."""

    imports: tuple[Import, ...]


def parse_source(path: Path, text: bytes) -> Source:
    """Find the assignments to the configuration in a config file's text.

    Args:
        path: The file, for error messages.
        text: What it holds.

    Raises:
        ProfileError: It is no Python, or not in the encoding that it claims.
    """
    try:
        # From bytes, as IPython does it: the coding line, the BOM and the line ends are Python's own affair.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except SyntaxError as error:
        raise ProfileError(path, f"is no Python (line {error.lineno or 1}: {error.msg})") from None
    except ValueError as error:
        raise ProfileError(path, f"is no Python (line 1: {error})") from None
    except (MemoryError, RecursionError):
        raise ProfileError(path, "is no Python (line 1: nested too deeply)") from None
    statements = list(_walk(tree))
    alone = _find_alone(tree)
    names = _find_config_names(tree)
    return Source(
        assignments=tuple(
            found for statement in statements for found in _read_assignments(statement, names, id(statement) in alone)
        ),
        imports=tuple(found for statement in statements for found in _read_imports(statement, id(statement) in alone)),
    )


def _walk(tree: ast.Module) -> list[ast.stmt]:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def _find_alone(tree: ast.Module) -> set[int]:
    """Find the top-level statements that share no line with another."""
    spans = [(node.lineno, node.end_lineno or node.lineno) for node in tree.body]
    return {
        id(node)
        for place, node in enumerate(tree.body)
        if (place == 0 or spans[place - 1][1] < spans[place][0])
        and (place + 1 == len(spans) or spans[place][1] < spans[place + 1][0])
    }


def _find_config_names(tree: ast.Module) -> set[str]:
    """Find the names that the file gives the configuration; ``c`` by custom."""
    names = {"c"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _is_get_config(node.value):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def _is_get_config(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "get_config"


def _read_assignments(node: ast.stmt, names: set[str], alone: bool) -> Iterator[Assignment]:
    for target, value in _list_targets(node):
        path = _read_path(target, names)
        if path is not None and len(path) >= 2:
            yield Assignment(
                path=path,
                value=UNKNOWN if value is None else _read_literal(value),
                line=node.lineno,
                last_line=node.end_lineno or node.lineno,
                whole_lines=alone,
            )


def _list_targets(node: ast.stmt) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Give what a statement sets, and to what; None where that is no expression of its own."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _pair(target, node.value)
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield node.target, node.value
    elif isinstance(node, ast.AugAssign):
        yield node.target, None
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        # c.InteractiveShellApp.exec_lines.append("...") and its like.
        yield node.value.func.value, None


def _pair(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    if not isinstance(target, ast.Tuple | ast.List):
        yield target, value
    elif isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
        for one, its in zip(target.elts, value.elts, strict=True):
            yield from _pair(one, its)
    else:
        for one in target.elts:
            yield from _pair(one, ast.Name(id="_"))


def _read_path(node: ast.expr, names: set[str]) -> tuple[str, ...] | None:
    parts: list[str] = []
    while not (isinstance(node, ast.Name) or _is_get_config(node)):
        if isinstance(node, ast.Attribute):
            parts.append(node.attr)
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            if not isinstance(node.slice.value, str):
                return None
            parts.append(node.slice.value)
        else:
            return None
        node = node.value
    if isinstance(node, ast.Name) and node.id not in names:
        return None
    return tuple(reversed(parts))


def _read_literal(node: ast.expr) -> object:
    try:
        value: object = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return UNKNOWN
    return value


def _read_imports(node: ast.stmt, alone: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        modules = [name.name for name in node.names]
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        modules = [node.module or ""]
    else:
        return
    for module in modules:
        yield Import(module=module, line=node.lineno, last_line=node.end_lineno or node.lineno, whole_lines=alone)
