from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tomlkit

import stoker

ROOT = Path(__file__).parent.parent
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

_IMPORT = """
import sys
import {module}
heavy = ("ipyparallel", "IPython", "ipykernel", "traitlets", "jupyter_client", "zmq", "pydantic", "numpy")
print(*sorted(name for name in heavy if name in sys.modules))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the source, with a configuration that holds this project's contract."""
    shutil.copytree(ROOT / "src" / "stoker", tmp_path / "stoker", ignore=shutil.ignore_patterns("__pycache__"))
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (tmp_path / "contract.toml").write_text(tomlkit.dumps({"tool": {"importlinter": contract}}))
    return tmp_path


def _lint(tree: Path) -> subprocess.CompletedProcess[str]:
    # Its directory comes first on its path, so that the copy is what it looks at.
    argv = [LINT_IMPORTS, "--config", tree / "contract.toml", "--no-cache", "--no-logo"]
    return subprocess.run(argv, cwd=tree, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        pytest.param("stoker", "", id="stoker"),
        pytest.param("stoker.errors", "", id="errors"),
        pytest.param("stoker.system.processes", "", id="system"),
        pytest.param("stoker.spec", "pydantic", id="spec"),
        pytest.param("stoker.profile.plan", "pydantic", id="profile"),
        pytest.param("stoker.agent.server", "", id="agent"),
        pytest.param("stoker.cluster.supervise", "", id="supervisor"),
    ],
)
def test_importing_loads_nothing_heavy(module: str, heavy: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT.format(module=module)], capture_output=True, text=True, timeout=60
    )

    assert done.stdout == f"{heavy}\n", done.stderr


@pytest.mark.parametrize("name", stoker.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(stoker, name).__name__ == name
    assert name in dir(stoker)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'stoker' has no attribute 'quux'$"):
        stoker.quux  # noqa: B018


def test_imports_point_downwards(tree: Path) -> None:
    done = _lint(tree)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts: 1 kept, 0 broken." in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "found"),
    [
        pytest.param(
            "spec/ports.py", "import stoker.faces", "stoker.spec is not allowed to import stoker.faces", id="up"
        ),
        pytest.param(
            "system/files.py",
            "def late():\n    from stoker.profile import plan",
            "stoker.system is not allowed to import stoker.profile",
            id="up, inside a function",
        ),
        pytest.param(
            "errors.py",
            "from stoker.system import files",
            "stoker.errors is not allowed to import stoker.system",
            id="up by one row",
        ),
        pytest.param(
            "compute/__init__.py",
            "import stoker.cluster",
            "stoker.compute is not allowed to import stoker.cluster",
            id="work to the life of a cluster",
        ),
    ],
)
def test_an_import_that_points_upwards_is_found(tree: Path, module: str, line: str, found: str) -> None:
    with (tree / "stoker" / module).open("a") as file:
        file.write(f"\n{line}\n")

    done = _lint(tree)

    assert done.returncode == 1, done.stdout + done.stderr
    assert found in done.stdout
    assert "Contracts: 0 kept, 1 broken." in done.stdout
