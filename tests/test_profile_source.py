from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from stoker.errors import ProfileError
from stoker.profile.source import UNKNOWN, parse_source

PATH = Path("ipcontroller_config.py")


def _read(text: str | bytes) -> list[tuple[str, object, int]]:
    source = parse_source(PATH, text if isinstance(text, bytes) else text.encode())
    return [(each.name, each.value, each.line) for each in source.assignments]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("c.A.b = 1", [("A.b", 1, 1)], id="plain"),
        pytest.param("c = get_config()\n\nc.A.b = '*'", [("A.b", "*", 3)], id="c by hand"),
        pytest.param("cfg = get_config()\ncfg.A.b = 1", [("A.b", 1, 2)], id="another name"),
        pytest.param("get_config().A.b = 1", [("A.b", 1, 1)], id="no name"),
        pytest.param("c.A.B.c = [1,\n 2]", [("A.B.c", [1, 2], 1)], id="nested, two lines"),
        pytest.param("c['A']['b'] = 1", [("A.b", 1, 1)], id="by item"),
        pytest.param("c.A.b = c.C.d = 1", [("A.b", 1, 1), ("C.d", 1, 1)], id="chained"),
        pytest.param("c.A.b, c.C.d = 1, 2", [("A.b", 1, 1), ("C.d", 2, 1)], id="in a tuple"),
        pytest.param("c.A.b, x = f()", [("A.b", UNKNOWN, 1)], id="from a call"),
        pytest.param("c.A.b = g()", [("A.b", UNKNOWN, 1)], id="computed"),
        pytest.param("c.A.b += [1]", [("A.b", UNKNOWN, 1)], id="in place"),
        pytest.param("c.A.b.append(1)", [("A.b", UNKNOWN, 1)], id="by method"),
        pytest.param("if True:\n    c.A.b = 1", [("A.b", 1, 2)], id="conditional"),
        pytest.param("# c.A.b = 1\nd.A.b = 1\nc.A = 1\nc[0].b = 1", [], id="none"),
        pytest.param(b"\xef\xbb\xbfc.A.b = 1\r\nc.A.d = 2\r", [("A.b", 1, 1), ("A.d", 2, 2)], id="BOM, CRLF, CR"),
        pytest.param(b"# coding: latin-1\nc.A.b = '\xe9'", [("A.b", "\xe9", 2)], id="latin-1"),
    ],
)
def test_settings_are_found_with_value_and_line(text: str | bytes, expected: list[tuple[str, object, int]]) -> None:
    assert _read(text) == expected


def test_statements_that_share_a_line_or_are_indented_do_not_stand_alone() -> None:
    text = b"c.A.a = 1\nc.A.b = 1; c.A.c = 1\nif True:\n    c.A.d = 1\nc.A.e = [\n 1]\n"

    source = parse_source(PATH, text)

    assert [(each.path[1], each.whole_lines, each.last_line) for each in source.assignments] == [
        ("a", True, 1),
        ("b", False, 2),
        ("c", False, 2),
        ("d", False, 4),
        ("e", True, 6),
    ]


def test_imports_are_found() -> None:
    source = parse_source(PATH, b"import os, IPython.parallel\nfrom IPython.parallel import Client\nfrom . import x\n")

    assert [(each.module, each.line) for each in source.imports] == [
        ("os", 1),
        ("IPython.parallel", 1),
        ("IPython.parallel", 2),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(b"x =\n", "is no Python (line 1: invalid syntax)", id="syntax"),
        pytest.param(b"x = 1\ny = '\xe9'\n", "is no Python (line 2: (unicode error)", id="encoding"),
        pytest.param(b"# coding: hex\nx = 1\n", "is no Python (line 1: 'hex' is not a text encoding", id="codec"),
        pytest.param(b"a\0b", "is no Python (line 1: source code string cannot contain null bytes)", id="NUL"),
        pytest.param(b"-" * 100_000 + b"1", "is no Python (line 1: nested too deeply)", id="deep"),
        pytest.param(b"c" + b".a" * 20_000 + b"=1", "is no Python (line 1: nested too deeply)", id="long path"),
    ],
)
def test_what_is_no_python_is_refused_with_its_line(text: bytes, problem: str) -> None:
    with pytest.raises(ProfileError, match=re.escape(f"{PATH}: {problem}")):
        parse_source(PATH, text)


TEXTS = st.one_of(
    st.binary(max_size=80),
    st.lists(
        st.sampled_from([*"c.=[](){}:,'\"#\\\n\r\t 01aA*", "get_config()", "import ", "c.A.b", "\xe9", "coding: "])
    ).map(lambda parts: "".join(parts).encode()),
)


@settings(max_examples=examples(500), deadline=None)
@given(TEXTS)
def test_any_text_gives_settings_or_an_error_that_names_file_and_line(text: bytes) -> None:
    try:
        source = parse_source(PATH, text)
    except ProfileError as error:
        problem = str(error)
    else:
        lines = len(text.splitlines())
        assert all(1 <= each.line <= each.last_line <= lines for each in source.assignments)
        return
    assert re.match(rf"{re.escape(str(PATH))}: is no Python \(line \d+: ", problem)
