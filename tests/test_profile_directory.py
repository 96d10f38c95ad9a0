from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from IPython.paths import get_ipython_dir

from stoker import profile
from stoker.profile.directory import ProfileDirectory, find_ipython_dir
from stoker.spec import parse_spec

# Ours first: IPython's makes the directory.
_ASK_BOTH = """
from stoker.profile.directory import find_ipython_dir
print(find_ipython_dir())
from IPython.paths import get_ipython_dir
print(get_ipython_dir())
"""


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        pytest.param({}, "home/.ipython", id="without the variable"),
        pytest.param({"IPYTHONDIR": "{tmp}/elsewhere"}, "elsewhere", id="with the variable"),
    ],
)
def test_the_directory_of_ipython_is_the_one_that_a_new_ipython_uses(
    variables: dict[str, str], expected: str, tmp_path: Path
) -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("IPYTHONDIR", "XDG_CONFIG_HOME")}
    env |= {name: value.format(tmp=tmp_path) for name, value in variables.items()}

    done = subprocess.run([sys.executable, "-c", _ASK_BOTH], env=env, capture_output=True, text=True, timeout=30)

    assert done.stdout.splitlines() == [str(tmp_path / expected)] * 2, done.stderr


@pytest.mark.filterwarnings("ignore:Ignoring:UserWarning")
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        pytest.param({"IPYTHONDIR": "{tmp}/a/../b/"}, "b", id="not normal"),
        pytest.param({"IPYTHONDIR": "~/elsewhere"}, "home/elsewhere", id="below home"),
        pytest.param({"IPYTHONDIR": "~nobody-of-that-name/x"}, "~nobody-of-that-name/x", id="home of nobody"),
        pytest.param({"IPYTHONDIR": "elsewhere"}, "elsewhere", id="relative"),
        pytest.param({"IPYTHONDIR": ""}, ".", id="empty"),
        pytest.param({"HOME": "{tmp}/link"}, "home/.ipython", id="home is a link"),
        pytest.param({"XDG_CONFIG_HOME": "{tmp}/xdg"}, "xdg/ipython", id="place of old versions"),
        pytest.param({"XDG_CONFIG_HOME": "{tmp}/xdg", "HOME": "{tmp}/new"}, "new/.ipython", id="old and new place"),
    ],
)
def test_the_directory_of_ipython_is_found_as_ipython_finds_it(
    variables: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "home")
    (tmp_path / "xdg" / "ipython").mkdir(parents=True)
    (tmp_path / "new" / ".ipython").mkdir(parents=True)
    # IPython makes no directory whose path has one part only.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "~nobody-of-that-name").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IPYTHONDIR")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))

    found = find_ipython_dir()

    assert found == Path(os.path.normpath(tmp_path / expected))
    assert found == Path(get_ipython_dir()).absolute()


def test_a_profile_lies_where_ipython_looks(home: Path) -> None:
    directory = ProfileDirectory.of(parse_spec({"cluster": {"profile": "lab"}}))

    assert directory == ProfileDirectory(home / "ipython" / "profile_lab")
    assert find_ipython_dir() == home / "ipython"


def test_a_profile_lies_where_the_spec_says(tmp_path: Path) -> None:
    directory = ProfileDirectory.of(parse_spec({"cluster": {"profile": "lab", "ipython_dir": str(tmp_path)}}))

    assert directory == ProfileDirectory(tmp_path / "profile_lab")


def test_the_places_of_a_profile_are_known_without_pydantic_and_the_spec_room() -> None:
    code = "import sys, stoker.profile.directory; print(*sorted(name for name in sys.modules if 'stoker' in name))"
    heavy = (
        "import sys, stoker.profile.directory; print([name for name in ('pydantic', 'tomlkit') if name in sys.modules])"
    )

    done = [
        subprocess.run([sys.executable, "-c", each], capture_output=True, text=True, timeout=30, check=True).stdout
        for each in (code, heavy)
    ]

    rooms = "stoker stoker.profile stoker.profile.directory stoker.system stoker.system.late\n"
    assert done == [rooms, "[]\n"]


def test_every_public_name_of_the_room_is_found_when_it_is_asked_for() -> None:
    found = {name: getattr(profile, name) for name in profile.__all__}

    assert {name: value.__name__ for name, value in found.items()} == {name: name for name in profile.__all__}
    assert set(profile.__all__) <= set(dir(profile))
    with pytest.raises(AttributeError, match=r"^module 'stoker.profile' has no attribute 'read_plam'$"):
        profile.read_plam  # noqa: B018


def test_a_profile_knows_its_places() -> None:
    directory = ProfileDirectory(Path("/lab/profile_night"))

    places = [directory.spec, directory.security, directory.pid, directory.log, directory.startup]

    assert directory.name == "night"
    assert [str(place) for place in places] == [
        "/lab/profile_night/stoker.toml",
        "/lab/profile_night/security",
        "/lab/profile_night/pid",
        "/lab/profile_night/log",
        "/lab/profile_night/startup",
    ]
