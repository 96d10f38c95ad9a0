"""What the agent imports before it forks."""

from __future__ import annotations

import json
import subprocess
import sys

CONTENTS = """
import json, sys
from types import ModuleType

{0}

def describe(value):
    if isinstance(value, ModuleType):
        return value.__name__
    return f"{{type(value).__name__}} {{getattr(value, '__module__', '')}}.{{getattr(value, '__qualname__', '')}}"

found = {{}}
for name in ("ipyparallel", "jupyter_client"):
    package = __import__(name)
    names = dir(package)
    found[name] = {{each: describe(getattr(package, each)) for each in names}}
    found[name]["type"] = type(package).__name__
json.dump(found, sys.stdout)
"""


def test_a_task_that_uses_a_package_gets_what_an_import_gives() -> None:
    preload = "from stoker.agent.preload import preload; preload()"
    plain = "import stoker.agent.engine, ipyparallel.client.remotefunction"

    lazily, at_once = (
        json.loads(subprocess.run([sys.executable, "-c", CONTENTS.format(way)], capture_output=True, check=True).stdout)
        for way in (preload, plain)
    )

    assert lazily == at_once


def test_what_clients_and_managers_need_is_left_out() -> None:
    program = "from stoker.agent.preload import preload; preload(); import sys; print(*sys.modules)"

    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert {"ipyparallel.engine.app", "jupyter_client.session"} <= set(printed)
    assert not {"ipyparallel.cluster", "ipyparallel.client.client", "jupyter_client.manager"} & set(printed)
