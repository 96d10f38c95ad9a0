"""Applying for real: killed in the middle, on a full disk, beside another, and again when nothing has changed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.errors import BusyError
from stoker.profile import ProfileDirectory, apply_plan, read_plan
from stoker.profile.directory import CONFIG_FILES
from stoker.spec import parse_spec
from stoker.system.locks import hold_lock

pytestmark = pytest.mark.live

OLD = parse_spec({"cluster": {"profile": "lab"}, "controller": {"hwm": 1}, "engines": [{"count": 1}]})
NEW = parse_spec(
    {
        "cluster": {"profile": "lab"},
        "controller": {"hwm": 7, "ports": "10101-10118"},
        "engines": [{"count": 2, "startup": "x = 1"}],
        "ipython": {"exec_lines": ["y = 1"]},
        "kernel": {"shell_port": 50001},
    }
)
APPLY_FOR_EVER = """
import itertools, sys
from stoker.profile import apply_plan, read_plan
from stoker.spec import parse_spec
specs = [parse_spec(eval(text)) for text in sys.argv[1:]]
print("ready", flush=True)
for spec in itertools.cycle(specs):
    apply_plan(read_plan(spec))
"""


@pytest.fixture
def directory(home: Path) -> ProfileDirectory:
    return ProfileDirectory.named("lab")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.getuid() != 0:
        pytest.skip("only root may mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=200", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def _texts(directory: ProfileDirectory) -> dict[str, bytes]:
    return {name: (directory.path / name).read_bytes() for name in (*CONFIG_FILES, "stoker.toml")}


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.long)])
def test_a_kill_in_the_middle_of_an_apply_leaves_each_file_old_or_new(directory: ProfileDirectory, kills: int) -> None:
    apply_plan(read_plan(OLD))
    old = _texts(directory)
    apply_plan(read_plan(NEW))
    new = _texts(directory)
    words = [repr(spec.model_dump(mode="json", exclude_unset=True)) for spec in (OLD, NEW)]
    chance = random.Random(7)

    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", APPLY_FOR_EVER, *words], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.0, 0.05))  # the moment of the kill, not a wait
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = _texts(directory)

        assert all(found[name] in (old[name], new[name]) for name in found)

        apply_plan(read_plan(NEW))
        assert _texts(directory) == new


def test_a_full_disk_changes_no_file(small_disk: Path, home: Path) -> None:
    environment = {**os.environ, "IPYTHONDIR": str(small_disk / "ipython")}
    stoker = [sys.executable, "-m", "stoker"]
    subprocess.run([*stoker, "apply", "--ipython-dir", environment["IPYTHONDIR"]], env=environment, check=True)
    directory = ProfileDirectory(small_disk / "ipython" / "profile_stoker")
    before = _texts(directory)
    spec = home / "stoker.toml"
    spec.write_text('[controller]\nhwm = 3\n[[engines]]\nstartup = "x = 1"\n')
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1024)
        except OSError:
            pass

    ended = subprocess.run(
        [*stoker, "apply", str(spec), "--ipython-dir", environment["IPYTHONDIR"]],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 1
    assert "No space left on device" in ended.stderr
    assert str(directory.path) in ended.stderr
    assert _texts(directory) == before
    filler.unlink()
    assert not list(directory.path.glob(".*"))


def test_a_profile_that_another_process_writes_is_left_alone(directory: ProfileDirectory) -> None:
    apply_plan(read_plan(OLD))
    before = _texts(directory)

    with hold_lock(directory.pid / "stoker-profile.lock", wait=0, purpose="stoker apply"), pytest.raises(BusyError):
        apply_plan(read_plan(NEW), wait=0.1)

    assert _texts(directory) == before


def test_applying_again_says_that_nothing_changed_without_looking_twice(home: Path) -> None:
    spec = home / "lab.toml"
    spec.write_text("[controller]\nencryption = false\n")
    argv = [sys.executable, "-X", "importtime", "-m", "stoker", "apply", str(spec)]
    subprocess.run(argv, check=True, capture_output=True)

    again = subprocess.run(argv, check=True, capture_output=True, text=True)

    assert again.stdout == f"{home}/ipython/profile_lab: nothing to change\n"
    assert "warning: encryption = false" in again.stderr
    assert "pydantic" not in again.stderr
    assert "traitlets" not in again.stderr


def test_a_changed_spec_or_file_is_applied_although_there_is_a_stamp(home: Path) -> None:
    spec = home / "lab.toml"
    spec.write_text("[controller]\nhwm = 2\n")
    argv = [sys.executable, "-m", "stoker", "apply", str(spec)]
    config = home / "ipython" / "profile_lab" / "ipcontroller_config.py"
    subprocess.run(argv, check=True, capture_output=True)
    subprocess.run(argv, check=True, capture_output=True)

    spec.write_text("[controller]\nhwm = 3\n")
    changed = subprocess.run(argv, check=True, capture_output=True, text=True)
    config.write_text(config.read_text().replace("hwm = 3", "hwm = 4"))
    repaired = subprocess.run(argv, check=True, capture_output=True, text=True)

    assert f"changed {config}" in changed.stdout
    assert f"changed {config}" in repaired.stdout
    assert "c.TaskScheduler.hwm = 3\n" in config.read_text()
