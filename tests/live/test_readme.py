"""The README's examples of futures, asyncio and joblib run, and print what stands beside them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stoker.cluster import Cluster
from stoker.spec import parse_spec

pytestmark = pytest.mark.live

SPEC = parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": 2}]})
SECTION = "### Futures, asyncio, joblib\n"
README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text().partition(SECTION)[2].partition("\n##")[0], re.DOTALL)


def test_the_examples_run_and_print_what_they_say(start: Callable[..., Cluster]) -> None:
    start(SPEC)

    ended = [
        subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60, check=False)
        for example in EXAMPLES
    ]

    assert len(EXAMPLES) == 4
    assert [each.stderr for each in ended] == [""] * len(EXAMPLES)
    assert [each.stdout.splitlines() for each in ended] == [list(_list_expected(example)) for example in EXAMPLES]


def _list_expected(example: str) -> list[str]:
    said = re.findall(r"print\(.*\)  # (.*)$", example, re.MULTILINE)
    lines = [text.partition(":")[0] for text in said]
    return [part for line in lines for part in (line.split(", ") if line[0] != "[" else [line])]
