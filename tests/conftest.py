"""What every test gets: nothing of the user's machine, and proof that nothing of the test is left on it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from requirements import do_without
from stoker.system.processes import ProcessId, find_marked

_TEST_MARK = "STOKER_TEST"


# Before anything is imported or made for several tests: nothing may touch the real home.
_SESSION_HOME = tempfile.mkdtemp(prefix="stoker-tests-")
os.environ.update(HOME=_SESSION_HOME, IPYTHONDIR=f"{_SESSION_HOME}/ipython")

# How long one example takes says more of the machine than of the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--long"):
        os.environ["STOKER_TEST_LONG"] = "1"


def pytest_unconfigure() -> None:
    shutil.rmtree(_SESSION_HOME, ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run what takes long, every seed and every kill")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    for item in items:
        if "long" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="only with scripts/test --long"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and no variable of the user's that would lead elsewhere."""
    directory = tmp_path / "home"
    directory.mkdir()
    for name in [name for name in os.environ if name.startswith(("IPP_", "STOKER_RUN", "JUPYTER", "IPYTHON"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("IPYTHONDIR", str(directory / "ipython"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    return directory


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After a live test no process that it started, directly or through others, runs on.

    Every process that a test starts inherits a mark in its environment.
    """
    if "live" not in request.keywords:
        yield
        return
    mark = f"{os.getpid()}-{tmp_path}"
    monkeypatch.setenv(_TEST_MARK, mark)

    yield

    left = _wait_until_gone(mark)
    commands = [_command(process) for process in left]
    for process in left:
        os.kill(process.pid, 9)
    assert not commands, f"processes are left: {commands}"


@pytest.fixture
def require(request: pytest.FixtureRequest) -> object:
    """Skip where a program or module is missing; fail where STOKER_REQUIRE says that it must be there."""

    def need(name: str) -> str:
        path = shutil.which(name) or getattr(importlib.util.find_spec(name), "origin", None)
        if path is None:
            do_without(name, f"{name} is not installed")
        return path

    return need


def _wait_until_gone(mark: str) -> tuple[ProcessId, ...]:
    import time

    deadline = time.monotonic() + 5
    while (left := _others(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _others(mark: str) -> tuple[ProcessId, ...]:
    return tuple(process for process in find_marked(_TEST_MARK, mark) if process.pid != os.getpid())


def _command(process: ProcessId) -> str:
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return f"process {process.pid}"
