from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.system import machine
from stoker.system.machine import Cores, read_cores


@pytest.fixture
def topology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four cores of two hardware threads each: 0 and 4, 1 and 5, 2 and 6, 3 and 7."""
    for cpu in range(8):
        directory = tmp_path / f"cpu{cpu}" / "topology"
        directory.mkdir(parents=True)
        (directory / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    monkeypatch.setattr(machine, "_TOPOLOGY", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("allowed", "cores"),
    [
        pytest.param(range(8), Cores(logical=8, physical=4), id="whole machine"),
        pytest.param({0, 4}, Cores(logical=2, physical=1), id="both threads of one core"),
        pytest.param({0, 1}, Cores(logical=2, physical=2), id="one thread of two cores"),
        pytest.param({3}, Cores(logical=1, physical=1), id="one thread"),
        pytest.param({1, 8, 9}, Cores(logical=3, physical=3), id="some of unknown topology"),
    ],
)
@pytest.mark.usefixtures("topology")
def test_only_what_this_process_may_use_counts(
    allowed: range | set[int], cores: Cores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(allowed), raising=False)

    assert read_cores() == cores


@pytest.mark.parametrize(("count", "cores"), [(6, Cores(logical=6, physical=6)), (None, Cores(logical=1, physical=1))])
def test_a_system_without_affinity_has_as_many_cores_as_it_says(
    count: int | None, cores: Cores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)

    assert read_cores() == cores


@pytest.mark.live
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_a_process_bound_to_one_core_has_one() -> None:
    code = (
        "import os\n"
        "from stoker.system.machine import read_cores\n"
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "print(read_cores())\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)

    assert done.stdout == "Cores(logical=1, physical=1)\n", done.stderr
