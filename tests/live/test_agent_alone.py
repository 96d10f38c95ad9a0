"""The agent on a host where stoker is not installed: from a directory that holds only what is sent there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stoker
from stoker.agent.order import EngineOrder
from stoker.agent.wire import VERSION, encode_line
from stoker.cluster import Cluster
from stoker.compute import portable
from stoker.launch import ConnectionFiles
from stoker.profile import ProfileDirectory
from stoker.spec import parse_spec

pytestmark = pytest.mark.live

# Site packages without their .pth files: stoker, which is installed for these tests, is not found.
BOOTSTRAP = """
import runpy, sys
sys.path[:0] = {places!r}
sys.argv[1:] = []
runpy.run_module("stoker.agent", run_name="__main__", alter_sys=True)
"""


def list_modules() -> list[str]:
    import sys

    return sorted(name for name in sys.modules if name.partition(".")[0] == "stoker")


@pytest.mark.parametrize("fork", [True, False], ids=["fork", "interpreter"])
def test_an_agent_needs_only_its_own_room_system_and_errors(
    fork: bool, tmp_path: Path, start: Callable[..., Cluster], wait_until: Callable[..., Any]
) -> None:
    cluster = start(parse_spec({"cluster": {"profile": "lab"}, "engines": [{"count": 1}]}))
    connection = json.loads(ConnectionFiles.of(ProfileDirectory.named("lab"), "").engine.read_text())
    source = Path(stoker.__file__).parent
    for room in ("agent", "system"):
        shutil.copytree(source / room, tmp_path / "host" / "stoker" / room)
    shutil.copy(source / "errors.py", tmp_path / "host" / "stoker")
    places = [str(tmp_path / "host"), sysconfig.get_path("platlib")]
    order = EngineOrder(
        number=5, connection=connection, log=str(tmp_path / "log"), arguments=(f"--profile-dir={tmp_path}",), fork=fork
    )
    agent = subprocess.Popen(
        [sys.executable, "-S", "-P", "-c", BOOTSTRAP.format(places=places)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
    )
    assert agent.stdin is not None

    agent.stdin.write(encode_line({"do": "attach", "version": VERSION, "lease": 60.0}))
    agent.stdin.write(encode_line({"do": "start", "order": order.to_json()}))
    agent.stdin.flush()
    wait_until(lambda: 5 in cluster.client.ids)
    modules = cluster.client[5].apply_async(portable(list_modules)).get(20)
    agent.stdin.write(encode_line({"do": "leave", "grace": 5.0}))
    agent.stdin.flush()
    status = agent.wait(20)

    assert {name.split(".")[1] for name in modules if "." in name} <= {"agent", "errors", "system"}
    assert "stoker.agent.engine" in modules
    assert status == 0
