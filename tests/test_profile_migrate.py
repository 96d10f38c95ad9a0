"""Migrating: old settings out of the files, and what they mean into the spec."""

from __future__ import annotations

from pathlib import Path

import pytest

from stoker.errors import ProfileError, SpecError
from stoker.profile import ProfileDirectory, apply_plan, read_plan
from stoker.profile.migrate import read_migration
from stoker.profile.revert import read_reversion
from stoker.spec import parse_spec, read_spec

CONTROLLER = """\
c = get_config()
c.HubFactory.client_ip = '*'
c.RegistrationFactory.ip = '*'
c.TaskScheduler.scheme_name = 'lru'
"""
CLUSTER = """\
c = get_config()
c.IPClusterEngines.engine_launcher_class = 'ipyparallel.apps.launcher.LocalEngineSetLauncher'
c.IPClusterEngines.n = 3
"""


@pytest.fixture
def directory(home: Path) -> ProfileDirectory:
    directory = ProfileDirectory.named("lab")
    directory.path.mkdir(parents=True)
    return directory


def _write(directory: ProfileDirectory, **texts: str) -> dict[str, bytes]:
    for name, text in texts.items():
        (directory.path / f"{name}_config.py").write_bytes(text.encode())
    return _read(directory)


def _read(directory: ProfileDirectory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.path.glob("*") if path.is_file()}


def test_the_tutorials_lines_become_keys_of_a_spec(directory: ProfileDirectory) -> None:
    _write(directory, ipcontroller=CONTROLLER, ipcluster=CLUSTER)

    migration = read_migration(directory, None)

    assert migration.spec.model_dump(mode="json", exclude_unset=True) == {
        "cluster": {"profile": "lab"},
        "controller": {"ip": "*", "scheduler": "lru"},
        "engines": [{"count": 3, "launcher": "local"}],
    }
    assert [(step.path.name, step.line, step.setting) for step in migration.retired] == [
        ("ipcontroller_config.py", 2, "c.HubFactory.client_ip"),
        ("ipcontroller_config.py", 3, "c.RegistrationFactory.ip"),
        ("ipcluster_config.py", 2, "c.IPClusterEngines.engine_launcher_class"),
        ("ipcluster_config.py", 3, "c.IPClusterEngines.n"),
    ]
    assert [(step.setting, dict(step.becomes)) for step in migration.carried] == [
        ("c.TaskScheduler.scheme_name", {"controller.scheduler": "lru"})
    ]
    assert migration.left == ()


def test_old_lines_are_commented_out_with_the_reason_and_nothing_else_moves(directory: ProfileDirectory) -> None:
    _write(directory, ipcontroller=CONTROLLER)

    apply_plan(read_migration(directory, None).plan)

    lines = (directory.path / "ipcontroller_config.py").read_text().splitlines()
    assert lines[0] == "c = get_config()"
    assert lines[1].startswith("#stoker: c.HubFactory.client_ip: translated")
    assert lines[1].endswith("; now in the spec: controller.ip = '*'")
    assert lines[2] == "#stoker# c.HubFactory.client_ip = '*'"
    assert lines[4] == "#stoker# c.RegistrationFactory.ip = '*'"
    assert lines[5] == "c.TaskScheduler.scheme_name = 'lru'"


def test_migrating_twice_changes_nothing(directory: ProfileDirectory) -> None:
    _write(directory, ipcontroller=CONTROLLER, ipcluster=CLUSTER)
    apply_plan(read_migration(directory, None).plan)

    again = read_migration(directory, read_spec(directory.spec))

    assert not again.plan
    assert again.retired == ()


def test_applying_after_a_migration_changes_nothing(directory: ProfileDirectory) -> None:
    _write(directory, ipcontroller=CONTROLLER, ipcluster=CLUSTER)
    apply_plan(read_migration(directory, None).plan)

    plan = read_plan(read_spec(directory.spec))

    assert not plan


def test_reverting_a_migration_gives_back_every_byte(directory: ProfileDirectory) -> None:
    before = _write(directory, ipcontroller=CONTROLLER.replace("\n", "\r\n"), ipcluster=CLUSTER.rstrip())
    apply_plan(read_migration(directory, None).plan)

    reversion = read_reversion(directory)
    apply_plan(reversion.plan)

    assert reversion.conflicts == ()
    assert _read(directory) == before


def test_what_the_spec_says_itself_beats_old_settings(directory: ProfileDirectory) -> None:
    _write(directory, ipcontroller=CONTROLLER)
    spec = parse_spec({"cluster": {"profile": "lab"}, "controller": {"scheduler": "twobin"}})

    migration = read_migration(directory, spec)

    assert migration.spec.controller.scheduler == "twobin"
    assert migration.spec.controller.ip == "*"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        pytest.param("if True:\n    c.IPClusterEngines.n = 3\n", "not alone on its line", id="in a block"),
        pytest.param("x = 1; c.IPClusterEngines.n = 3\n", "not alone on its line", id="beside another"),
        pytest.param("c.IPClusterEngines.n = int('3')\n", "its value is computed", id="computed"),
    ],
)
def test_what_a_program_cannot_change_is_left_and_named(directory: ProfileDirectory, line: str, why: str) -> None:
    _write(directory, ipcluster=f"c = get_config()\n{line}")

    migration = read_migration(directory, None)

    assert migration.retired == ()
    assert [(step.setting, step.note.startswith(why)) for step in migration.left] == [("c.IPClusterEngines.n", True)]


def test_an_ip_that_would_beat_the_block_is_carried_into_the_spec(directory: ProfileDirectory) -> None:
    _write(directory, ipcontroller="c = get_config()\nc.IPController.ip = '0.0.0.0'\n")

    migration = read_migration(directory, None)

    assert migration.spec.controller.ip == "*"
    assert [step.setting for step in migration.retired] == ["c.IPController.ip"]


def test_a_file_that_is_no_python_is_refused(directory: ProfileDirectory) -> None:
    _write(directory, ipcontroller="c = = 1\n")

    with pytest.raises(ProfileError) as caught:
        read_migration(directory, None)

    file = directory.path / "ipcontroller_config.py"
    assert str(caught.value) == f"{file}: is no Python (line 1: invalid syntax)"


def test_old_settings_that_make_no_spec_are_named(directory: ProfileDirectory) -> None:
    _write(directory, ipcontroller="c = get_config()\nc.HubFactory.ip = 'head.lab'\n")

    with pytest.raises(SpecError) as caught:
        read_migration(directory, None)

    assert [fault.key for fault in caught.value.faults] == ["controller.ip"]
