"""A real IPython: the tutorial's lines typed into a terminal, stoker's own, and a notebook's kernel."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from stoker.profile import ProfileDirectory, find_ipython_dir

pytestmark = pytest.mark.live

SOON = 90
"""Seconds that a line may take on a busy machine."""
SPEC = Path(__file__).parents[2] / "cluster_profiles" / "mastering_python.toml"
PROMPT = r"\r?\nIn \[\d+\]: "


class Shell:
    """An IPython in a terminal."""

    def __init__(self, program: str) -> None:
        arguments = ["--simple-prompt", "--no-banner", "--colors=NoColor", "--no-confirm-exit"]
        environment = {**os.environ, "TERM": "dumb", "COLUMNS": "200"}
        self._child = pexpect.spawn(
            program, arguments, env=environment, encoding="utf-8", echo=False, timeout=SOON, dimensions=(50, 200)
        )
        self._child.expect(r"In \[1\]: ")

    def type(self, *lines: str) -> str:
        """Type a statement, and give what appears before the next prompt."""
        block = [*lines, ""] if len(lines) > 1 else lines
        for line in block[:-1]:
            self._child.sendline(line)
            self._child.expect(r" +\.\.\.: ")
        self._child.sendline(block[-1])
        self._child.expect(PROMPT)
        return str(self._child.before).replace("\r\n", "\n").strip()

    def interrupt(self, line: str, *, when: Callable[[], object]) -> str:
        """Type a line, press Ctrl-C when something is so, and give what appears before the next prompt."""
        self._child.sendline(line)
        when()
        self._child.sendintr()
        self._child.expect(PROMPT)
        return str(self._child.before).replace("\r\n", "\n").strip()

    def leave(self) -> None:
        self._child.sendline("exit")
        self._child.expect(pexpect.EOF)
        self._child.close()


@pytest.fixture
def shell(programs: Callable[[str], str]) -> Iterator[Shell]:
    typed = Shell(programs("ipython"))
    yield typed
    typed.leave()


@pytest.mark.parametrize("n", [1_000_000, pytest.param(10_000_000, marks=pytest.mark.long)])
def test_the_tutorials_lines_work_in_a_terminal(n: int, start: Callable[..., Any], shell: Shell) -> None:
    start(SPEC)

    shell.type("import ipyparallel")
    shell.type("client = ipyparallel.Client(profile='mastering_python')")
    shell.type("view = client.load_balanced_view()")
    shell.type(f"result = view.map(lambda _: sum(range({n})), range(100))")
    waited = shell.type("result.wait()")
    sums = shell.type("len(result.get()), set(result.get())")
    shell.type("@view.parallel()", "def loop(_):", f"    return sum(range({n}))")
    looped = shell.type("set(sum((loop.map(range(4)).get() for i in range(5)), []))")

    assert re.sub(r"Out\[\d+\]: ", "", waited) == "True"
    assert re.sub(r"Out\[\d+\]: ", "", sums) == f"(100, {{{n * (n - 1) // 2}}})"
    assert re.sub(r"Out\[\d+\]: ", "", looped) == f"{{{n * (n - 1) // 2}}}"


def test_stokers_lines_work_in_a_terminal(shell: Shell, processes: Callable[[], list[str]]) -> None:
    loaded = shell.type("%load_ext stoker")
    planned = shell.type(f"%stoker plan {SPEC}")
    up = shell.type(f"%stoker up {SPEC}")
    status = shell.type("%stoker status")
    names = shell.type("type(cluster).__name__, type(rc).__name__, type(view).__name__")
    used = shell.type("view.map(abs, [-1, -2, -3], block=False).get(60)")
    shown = shell.type("cluster")
    run = shell.type("%stoker run sum --n 1000 --times 10")
    planned_again = shell.type("%stoker plan mastering_python")
    failed = shell.type("%stoker up nothing_of_this_name")
    misspelt = shell.type("%stoker upp")
    down = shell.type("%stoker down")
    ended = shell.type("%stoker status")

    assert loaded == ""
    assert "+c.TaskScheduler.scheme_name = 'leastload'" in planned
    assert re.search(r"Out\[\d+\]: \ncluster +mastering_python, up in \d+\.\d s$", up, re.MULTILINE)
    engines = [line.split()[:4] for line in status.splitlines() if line.startswith("engine ")]
    assert [(number, state) for _, number, _, state in engines] == [
        (str(n), "ready") for n in range(os.cpu_count() or 1)
    ]
    assert names.endswith("('Cluster', 'Client', 'LoadBalancedView')")
    assert used.endswith("[1, 2, 3]")
    assert [line.split() for line in shown.splitlines() if line.startswith("state ")] == [["state", "running"]]
    rows = [line.split() for line in run.splitlines() if line.lstrip().startswith("sum")]
    assert [(row[1], row[2], row[-1]) for row in rows] == [
        (via, "10", "yes") for via in ("serial", "map", "parallel", "call", "stoker")
    ]
    path = ProfileDirectory.named("mastering_python").path
    assert planned_again.endswith(f"{path}: nothing to change")
    problem = f"neither a spec (a path that ends in .toml) nor a profile below {find_ipython_dir()}"
    assert failed == f"UnknownTargetError: nothing_of_this_name: {problem}"
    assert misspelt.startswith("UsageError: No such command 'upp'.")
    assert re.search(r"mastering_python is down: \d+ processes ended$", down)
    assert ended.endswith("no cluster runs; start one with: stoker up")
    everything = [planned, up, status, shown, run, planned_again, failed, misspelt, down, ended]
    assert not any("Traceback" in text for text in everything)
    assert not [line for line in processes() if "ipyparallel" in line or "stoker." in line]


def test_ctrl_c_in_px_interrupts_the_engines_which_go_on(
    start: Callable[..., Any], shell: Shell, wait_until: Callable[..., Any]
) -> None:
    cluster = start(SPEC)
    pids = [engine.pid for engine in cluster.status().engines]

    shell.type("import ipyparallel")
    shell.type("client = ipyparallel.Client(profile='mastering_python')")
    shell.type("direct = client[:]; direct.block = True; direct.activate()")
    shell.type("%px import time")
    interrupted = shell.interrupt(
        "%px time.sleep(60)",
        when=lambda: wait_until(lambda: all(engine.busy > 0 for engine in cluster.status().engines)),
    )
    wait_until(lambda: all(engine.busy == 0 for engine in cluster.status().engines))
    after = shell.type("client[:].apply_async(abs, -7).get(60)")
    status = cluster.status()

    assert "Sending signal SIGINT to engines" in interrupted
    assert after.endswith(str([7] * len(pids)))
    assert [engine.pid for engine in status.engines] == pids
    assert sum(engine.restarts for engine in status.engines) == 0


def test_a_notebook_shows_a_cluster_as_html(shared_dir: Path) -> None:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", startup_timeout=SOON)
    try:
        texts = [_execute(client, code) for code in ("%load_ext stoker", "%stoker status", "import stoker")]
        shown = _execute(client, "stoker.connect('shared')")
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)

    assert texts[0] == {}
    for data in (texts[1], shown):
        assert data["text/html"].startswith("<pre>")
        assert data["text/html"].endswith("</pre>")
        assert "running" in data["text/html"]
        for kind in ("text/html", "text/plain"):
            assert [data[kind].count(name) for name in ("agent local", "engine 0", "engine 1")] == [1, 1, 1]
            # Theirs, and none of anybody else's.
            assert data[kind].count("ready") == 3


def _execute(client: Any, code: str) -> dict[str, str]:
    """Run a cell; give the data of what it displays last."""
    data: dict[str, str] = {}

    def look(message: Any) -> None:
        assert message["msg_type"] != "error", message["content"]
        data.update(message["content"].get("data", {}))

    client.execute_interactive(code, output_hook=look, timeout=SOON)
    return data


def test_the_extension_can_be_unloaded_again(run: Callable[..., Any], tmp_path: Path) -> None:
    script = tmp_path / "lines.ipy"
    script.write_text("%load_ext stoker\n%unload_ext stoker\n%load_ext stoker\n%stoker --version\n%unload_ext stoker\n")
    names = "from IPython import get_ipython\nprint('stoker' in get_ipython().magics_manager.magics['line'])\n"
    script.write_text(script.read_text() + names)

    ran = run(sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", script).check()

    assert ran.out == "stoker 0.1.0\nFalse\n"
