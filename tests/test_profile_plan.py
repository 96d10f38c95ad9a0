from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from stoker.errors import ProfileError
from stoker.profile import FileChange, Plan, ProfileDirectory, apply_plan, read_plan
from stoker.profile.directory import CONFIG_FILES
from stoker.spec import ClusterSpec, parse_spec, read_spec
from stoker.system.machine import Cores

CORES = Cores(logical=2, physical=1)


@pytest.fixture
def profile(home: Path) -> Path:
    return home / "ipython" / "profile_lab"


def _spec(**sections: Any) -> ClusterSpec:
    return parse_spec({"cluster": {"profile": "lab"}, **sections})


def _plan(**sections: Any) -> Plan:
    return read_plan(_spec(**sections), cores=CORES)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _read_all(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def test_a_plan_changes_nothing(home: Path) -> None:
    plan = _plan()

    assert plan
    assert list(home.iterdir()) == []


def test_a_new_profile_gets_directories_config_files_and_last_the_spec(profile: Path) -> None:
    plan = _plan()

    assert plan.directory == ProfileDirectory(profile)
    assert plan.directories == (
        (profile, 0o755),
        (profile / "security", 0o700),
        (profile / "pid", 0o700),
        (profile / "log", 0o755),
        (profile / "startup", 0o755),
    )
    assert [change.path for change in plan.changes] == [profile / name for name in (*CONFIG_FILES, "stoker.toml")]
    assert {change.before for change in plan.changes} == {None}


def test_an_applied_plan_is_on_disk_readable_by_its_owner_alone(profile: Path) -> None:
    plan = _plan()

    apply_plan(plan)

    assert _read_all(profile) == {change.path.name: change.after for change in plan.changes}
    assert {path.name: oct(_mode(path)) for path in profile.iterdir()} == {
        **dict.fromkeys((*CONFIG_FILES, "stoker.toml"), "0o600"),
        "security": "0o700",
        "pid": "0o700",
        "log": "0o755",
        "startup": "0o755",
    }


def test_the_plan_after_an_apply_is_empty(profile: Path) -> None:
    sections = {"engines": [{"count": 2, "env": {"A": "Käse 🧀"}}], "settings": {"IPEngine.log_level": 10}}
    apply_plan(_plan(**sections))
    applied = _read_all(profile)

    plan = _plan(**sections)
    apply_plan(plan)

    assert not plan
    assert (plan.directories, plan.changes) == ((), ())
    assert _read_all(profile) == applied


def test_the_copy_of_the_spec_reads_back_as_the_spec(profile: Path, tmp_path: Path) -> None:
    spec = parse_spec(
        {"cluster": {"profile": "lab"}, "engines": [{"work_dir": "data"}], "queue": {"directory": "queue"}},
        base=tmp_path,
    )

    apply_plan(read_plan(spec, cores=CORES))

    assert read_spec(profile / "stoker.toml") == spec


def test_another_spec_changes_only_the_files_that_it_concerns(profile: Path) -> None:
    apply_plan(_plan())

    plan = _plan(controller={"hwm": 2})

    assert plan.directories == ()
    assert [change.path.name for change in plan.changes] == ["ipcontroller_config.py", "stoker.toml"]


def test_the_queue_changes_the_copy_of_the_spec_alone(profile: Path) -> None:
    apply_plan(_plan())
    queue = {"ip": "*", "port": 50010, "directory": "/srv/queue", "lease": 5, "attempts": 1, "time_limit": 60}

    plan = _plan(queue=queue)

    assert plan.directories == ()
    assert [change.path for change in plan.changes] == [profile / "stoker.toml"]


def test_a_file_that_is_there_keeps_its_text_and_its_mode(profile: Path) -> None:
    profile.mkdir(parents=True)
    file = profile / "ipengine_config.py"
    text = "# -*- coding: latin-1 -*-\r\nc = get_config()\r\nc.IPEngine.log_level = 10  # für mich".encode("latin-1")
    file.write_bytes(text)
    file.chmod(0o664)

    apply_plan(_plan())

    assert file.read_bytes().startswith(text + b"\n# >>> stoker >>>")
    assert oct(_mode(file)) == "0o664"
    assert not _plan()


def test_a_link_to_a_config_file_stays_a_link(profile: Path, tmp_path: Path) -> None:
    profile.mkdir(parents=True)
    (tmp_path / "dotfiles.py").write_text("x = 1\n")
    (profile / "ipython_config.py").symlink_to(tmp_path / "dotfiles.py")

    apply_plan(_plan())

    assert (profile / "ipython_config.py").readlink() == tmp_path / "dotfiles.py"
    assert (tmp_path / "dotfiles.py").read_text().startswith("x = 1\n# >>> stoker >>>")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        pytest.param(b"c = get_config()\nc.IPController.ip = = 1\n", "line 2: invalid syntax", id="syntax"),
        pytest.param(b"c = (1,\n", "line 1: '(' was never closed", id="open parenthesis"),
        pytest.param(b"x = '''\n", "line 1: unterminated triple-quoted string literal", id="open string"),
        pytest.param(b"if x:\n", "line 3: expected an indented block after 'if' statement on line 1", id="open block"),
        pytest.param("x = 'Käse'\n".encode("latin-1"), "line 1: (unicode error) 'utf-8' codec", id="encoding"),
        pytest.param(b"# -*- coding: no-such -*-\n", "", id="unknown encoding"),
        pytest.param(b"x = 1\0\n", "", id="NUL"),
    ],
)
def test_a_file_that_ipython_would_drop_is_refused_with_the_line(profile: Path, text: bytes, where: str) -> None:
    profile.mkdir(parents=True)
    file = profile / "ipcontroller_config.py"
    file.write_bytes(text)

    with pytest.raises(ProfileError) as caught:
        _plan()

    assert str(caught.value).startswith(f"{file}: is no Python ({where}")
    assert str(caught.value).endswith("): IPython would drop the whole file and go on unencrypted")
    assert file.read_bytes() == text


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda file: file.write_text("x = 1\n"), id="made"),
        pytest.param(lambda file: file.mkdir(), id="made as a directory"),
    ],
)
def test_a_file_that_appears_between_plan_and_apply_is_left_alone(profile: Path, change: Any) -> None:
    plan = _plan()
    profile.mkdir(parents=True)
    file = profile / "ipcontroller_config.py"
    change(file)

    with pytest.raises(ProfileError) as caught:
        apply_plan(plan)

    assert caught.value.path == file
    assert _read_all(profile) == ({} if file.is_dir() else {"ipcontroller_config.py": b"x = 1\n"})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda file: file.write_text("x = 2\n"), id="written"),
        pytest.param(lambda file: file.unlink(), id="removed"),
    ],
)
def test_a_file_that_changes_between_plan_and_apply_is_left_alone(profile: Path, change: Any) -> None:
    profile.mkdir(parents=True)
    file = profile / "ipcontroller_config.py"
    file.write_text("x = 1\n")
    plan = _plan()
    change(file)
    changed = _read_all(profile)

    with pytest.raises(ProfileError) as caught:
        apply_plan(plan)

    assert str(caught.value) == f"{file}: was changed by someone else in this moment; apply again"
    assert _read_all(profile) == changed


def test_what_a_failed_apply_left_the_next_one_finishes(profile: Path) -> None:
    plan = _plan()
    profile.mkdir(parents=True)
    blocked = profile / CONFIG_FILES[2]
    blocked.mkdir()
    with pytest.raises(ProfileError):
        apply_plan(plan)
    blocked.rmdir()

    apply_plan(_plan())

    assert _read_all(profile) == {change.path.name: change.after for change in plan.changes}


@pytest.mark.parametrize(
    ("blocked", "problem"),
    [
        pytest.param("ipcluster_config.py", "cannot be read: Is a directory", id="config file"),
        pytest.param("stoker.toml", "cannot be read: Is a directory", id="copy of the spec"),
    ],
)
def test_a_directory_in_place_of_a_file_is_named(profile: Path, blocked: str, problem: str) -> None:
    (profile / blocked).mkdir(parents=True)

    with pytest.raises(ProfileError) as caught:
        _plan()

    assert str(caught.value) == f"{profile / blocked}: {problem}"


def test_a_file_in_place_of_a_directory_above_is_named(home: Path, profile: Path) -> None:
    (home / "ipython").write_text("")

    with pytest.raises(ProfileError) as caught:
        _plan()

    assert str(caught.value) == f"{profile / 'ipcontroller_config.py'}: cannot be read: Not a directory"


def test_a_file_in_place_of_a_directory_of_the_profile_is_named(profile: Path) -> None:
    profile.mkdir(parents=True)
    (profile / "security").write_text("")

    with pytest.raises(ProfileError) as caught:
        apply_plan(_plan())

    assert str(caught.value) == f"{profile / 'security'}: cannot be made: File exists"


@pytest.mark.skipif(os.getuid() == 0, reason="root may read and write everything")
def test_a_place_that_cannot_be_read_is_named(profile: Path) -> None:
    profile.mkdir(parents=True)
    profile.chmod(0)

    with pytest.raises(ProfileError) as caught:
        _plan()

    profile.chmod(0o700)
    assert str(caught.value) == f"{profile / 'ipcontroller_config.py'}: cannot be read: Permission denied"


def test_a_place_that_cannot_be_written_is_named(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = _plan()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(ProfileError) as caught:
        apply_plan(plan)

    assert str(caught.value) == f"{profile / 'ipcontroller_config.py'}: cannot be written: No space left on device"
    assert _read_all(profile) == {}


def test_a_change_is_shown_as_a_diff(profile: Path) -> None:
    profile.mkdir(parents=True)
    file = profile / "ipengine_config.py"
    file.write_text("c = get_config()\nc.IPEngine.log_level = 10\n")

    diffs = {change.path.name: change.diff for change in _plan().changes}

    assert diffs["ipengine_config.py"] == (
        f"""\
--- {file}
+++ {file}
@@ -1,2 +1,8 @@
 c = get_config()
 c.IPEngine.log_level = 10
+# >>> stoker >>> edit the spec, not these lines: `stoker apply` writes them anew
+c = get_config()  # noqa
+c.IPEngine.max_heartbeat_misses = 250
+c.IPEngine.timeout = 60.0
+c.IPEngine.wait_for_url_file = 60.0
+# <<< stoker <<<"""
    )
    assert diffs["stoker.toml"] == (
        f"""\
--- /dev/null
+++ {profile / "stoker.toml"}
@@ -0,0 +1,5 @@
+# The spec that this profile was made from, as stoker read it last.
+# Change the spec you wrote and apply it: this copy is there so that commands know the cluster by its name.
+
+[cluster]
+profile = "lab\""""
    )


def test_no_change_is_no_diff() -> None:
    change = FileChange(path=Path("/lab/x.py"), before=b"x = 1\n", after=b"x = 1\n")

    assert change.diff == ""
