from __future__ import annotations

from pathlib import Path

import pytest

from stoker.errors import ProfileError, UnknownTargetError
from stoker.profile import ProfileDirectory, apply_plan, read_plan
from stoker.profile.explain import Explanation, KeyInfo, Origin, TraitUse, read_explanation
from stoker.spec import parse_spec

HWM = KeyInfo(
    key="controller.hwm",
    default="1",
    help="Tasks that wait at an engine at the most, the running one included; 0: no limit.",
    choices=(),
    traits=("TaskScheduler.hwm",),
)


@pytest.fixture
def lab() -> ProfileDirectory:
    spec = parse_spec({"cluster": {"profile": "lab"}, "controller": {"hwm": 3}, "engines": [{"count": 2}]})
    apply_plan(read_plan(spec))
    return ProfileDirectory.of(spec)


def _put_above(path: Path, *lines: str) -> None:
    path.write_text("\n".join([*lines, path.read_text()]))


def _origins(name: str, directory: ProfileDirectory) -> list[tuple[str, str, str, int | None, str]]:
    (use,) = read_explanation(name, directory).traits
    return [
        (origin.application, origin.value, "" if origin.path is None else origin.path.name, origin.line, origin.by)
        for origin in use.origins
    ]


@pytest.mark.parametrize("name", ["hwm", "controller.hwm", "TaskScheduler.hwm", "c.TaskScheduler.hwm"])
def test_a_setting_is_found_by_its_name_its_class_and_its_key(name: str) -> None:
    found = read_explanation(name)

    assert found.keys == (() if "Task" in name else (HWM,))
    assert [(use.trait.setting, use.key, use.origins) for use in found.traits] == [
        ("TaskScheduler.hwm", "controller.hwm", ())
    ]


def test_a_trait_is_told_with_all_that_is_known_of_it(lab: ProfileDirectory) -> None:
    found = read_explanation("TaskScheduler.scheme_name", lab)

    (use,) = found.traits
    assert found == Explanation(name="TaskScheduler.scheme_name", profile=lab.path, keys=(), traits=(use,))
    assert (use.trait.type, use.trait.default, use.trait.files) == ("Enum", "'leastload'", ("ipcontroller_config.py",))
    assert set(use.trait.choices) == {"leastload", "pure", "lru", "plainrandom", "weighted", "twobin"}
    assert use.trait.help.startswith("select the task scheduler scheme")
    path = lab.path / "ipcontroller_config.py"
    line = path.read_text().splitlines().index("c.TaskScheduler.scheme_name = 'leastload'") + 1
    origin = Origin(
        application="ipcontroller",
        setting="TaskScheduler.scheme_name",
        value="'leastload'",
        path=path,
        line=line,
        by="block",
    )
    assert use == TraitUse(trait=use.trait, key="controller.scheduler", origins=(origin,))


def test_a_name_that_many_classes_have_lists_them_all() -> None:
    found = read_explanation("ssh_args")

    stock = {f"SSH{kind}Launcher.ssh_args" for kind in ("", "Controller", "EngineSet", "ProxyEngineSet")}
    assert {use.trait.setting for use in found.traits} == stock | {"StokerSSHEngineSetLauncher.ssh_args"}


def test_a_key_with_brackets_is_found_and_lists_what_it_sets() -> None:
    found = read_explanation("engines[0].hosts")

    assert [key.key for key in found.keys] == ["engines[].hosts"]
    assert [use.trait.setting for use in found.traits] == ["SSHEngineSetLauncher.engines"]


def test_a_key_with_no_trait_behind_it_explains_itself(lab: ProfileDirectory) -> None:
    lease = KeyInfo(
        key="queue.lease",
        default="30.0",
        help="Seconds of silence after which a worker's jobs are given to others.",
        choices=(),
        traits=(),
    )

    found = read_explanation("queue.lease", lab)

    assert found == Explanation(name="queue.lease", profile=lab.path, keys=(lease,), traits=())


@pytest.mark.parametrize(
    "expected",
    [
        KeyInfo(
            key="cluster.lease",
            default="120.0",
            help="Seconds of their own running time for which agents and the controller go on without their "
            "supervisor. Then they stop what they own and leave.",
            choices=(),
            traits=(),
        ),
        KeyInfo(
            key="cluster.frozen_after",
            default="5.0",
            help="Seconds for which an engine, or a process of the controller, may be stopped (state T) before it is "
            "killed and replaced.",
            choices=(),
            traits=(),
        ),
        KeyInfo(
            key="cluster.log_limit",
            default="10.0",
            help="Megabytes that a log file may hold. Of a longer one the older half goes.",
            choices=(),
            traits=(),
        ),
        KeyInfo(
            key="controller.heartbeat.period",
            default=None,
            help="Seconds between two beats. ipyparallel's own controller takes an engine after up to two of them, "
            "which is most of its start-up time; stoker's takes it at once, and lets up to 0.5 s pass between beats. "
            "Default: 0.1 up to 4 engines, 0.2 up to 20, beyond that 0.01 for each, at most 3; never more than a third "
            "of `limit`.",
            choices=(),
            traits=("HeartMonitor.period",),
        ),
        KeyInfo(
            key="controller.heartbeat.limit",
            default=None,
            help="Seconds without an answer after which an engine is given up, and after which an engine that hears "
            "nothing from its controller leaves. Default: 30 more than `cluster.lease`.",
            choices=(),
            traits=("HeartMonitor.max_heartmonitor_misses", "IPEngine.max_heartbeat_misses"),
        ),
        KeyInfo(
            key="engines[].fork",
            default="true",
            help="Whether those of a host are forked from one interpreter. `false`: each is an interpreter of its "
            "own, slower and with more memory, for code that does not stand forking.",
            choices=(),
            traits=(),
        ),
    ],
    ids=lambda expected: expected.key,
)
def test_the_keys_of_healing_and_heartbeat_are_explained(expected: KeyInfo) -> None:
    found = read_explanation(expected.key)

    assert found.keys == (expected,)
    assert [use.trait.setting for use in found.traits] == list(expected.traits)
    assert {use.key for use in found.traits} <= {expected.key}


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        pytest.param("time_limit", ["engines[].time_limit", "queue.time_limit"], id="of two sections"),
        pytest.param("queue.time_limit", ["queue.time_limit"], id="of one"),
        pytest.param("lease", ["cluster.lease", "queue.lease"], id="of a cluster and a queue"),
        pytest.param("queue", ["engines[].queue"], id="like a section"),
    ],
)
def test_a_name_that_several_sections_have_is_each_of_their_keys(name: str, keys: list[str]) -> None:
    found = read_explanation(name)

    assert [key.key for key in found.keys] == keys


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param("TaskScheduler.hmw", "; did you mean 'TaskScheduler.hwm'?", id="trait"),
        pytest.param("TaskSheduler.hwm", "; did you mean 'TaskScheduler.hwm'?", id="class"),
        pytest.param("shceduler", "; did you mean 'scheduler'?", id="key alone"),
        pytest.param("controller.shceduler", "; did you mean 'controller.scheduler'?", id="key"),
        pytest.param("queue.leese", "; did you mean 'queue.lease'?", id="key without a trait"),
        pytest.param("HubFactory.ip", "; HubFactory is an old name: did you mean 'IPController.ip'?", id="old name"),
        pytest.param("qqqqqq", "", id="nothing like it"),
    ],
)
def test_a_misspelt_name_says_what_may_be_meant(name: str, problem: str) -> None:
    with pytest.raises(UnknownTargetError) as caught:
        read_explanation(name)

    assert str(caught.value) == f"{name}: no setting of ipyparallel, IPython, ipykernel or a spec{problem}"


def test_the_value_of_the_block_beats_a_line_above_it(lab: ProfileDirectory) -> None:
    path = lab.path / "ipcontroller_config.py"
    _put_above(path, "c = get_config()", "c.TaskScheduler.hwm = 7")

    ((application, value, file, line, by),) = _origins("TaskScheduler.hwm", lab)

    assert (application, value, file, by) == ("ipcontroller", "3", "ipcontroller_config.py", "block")
    assert path.read_text().splitlines()[line - 1] == "c.TaskScheduler.hwm = 3"


def test_a_line_of_the_users_and_an_overlay_are_named(lab: ProfileDirectory) -> None:
    _put_above(lab.path / "ipengine_config.py", "c = get_config()", "c.IPEngine.log_level = compute()")
    (lab.path / "ipcontroller_config.json").write_text('{\n "TaskScheduler": {\n  "hwm": 9\n }\n}\n')

    assert _origins("IPEngine.log_level", lab) == [
        ("ipengine", "computed in the file", "ipengine_config.py", 2, "user")
    ]
    assert _origins("TaskScheduler.hwm", lab) == [("ipcontroller", "9", "ipcontroller_config.json", 3, "user")]


def test_a_class_above_is_looked_at_but_the_own_one_wins(lab: ProfileDirectory) -> None:
    _put_above(
        lab.path / "ipcluster_config.py",
        "c = get_config()",
        "c.SSHLauncher.ssh_args = ['-a']",
        "c.SSHEngineSetLauncher.ssh_args = ['-b']",
        "c.SSHLauncher.ssh_args = ['-c']",
    )

    assert _origins("SSHEngineSetLauncher.ssh_args", lab) == [("ipcluster", "['-b']", "ipcluster_config.py", 3, "user")]
    assert _origins("SSHControllerLauncher.ssh_args", lab) == [
        ("ipcluster", "['-c']", "ipcluster_config.py", 4, "user")
    ]


def test_a_nested_section_is_named_beside_the_value_that_holds_elsewhere(lab: ProfileDirectory) -> None:
    _put_above(lab.path / "ipcontroller_config.py", "c = get_config()", "c.IPController.HeartMonitor.period = 5")

    origins = _origins("HeartMonitor.period", lab)

    assert [(value, by) for _, value, _, _, by in origins] == [("100", "block"), ("5", "user")]


def test_what_nothing_sets_is_the_default(lab: ProfileDirectory) -> None:
    assert _origins("DictDB.record_limit", lab) == [("ipcontroller", "1024", "", None, "default")]
    assert _origins("Session.key", lab) == [
        (application, "made at run time", "", None, "default")
        for application in ("ipcontroller", "ipengine", "ipython kernel")
    ]


def test_a_key_is_never_shown(lab: ProfileDirectory) -> None:
    _put_above(lab.path / "ipcontroller_config.py", "c = get_config()", "c.Session.key = b'0123456789'")

    assert _origins("Session.key", lab)[0] == (
        "ipcontroller",
        "(a secret, not shown)",
        "ipcontroller_config.py",
        2,
        "user",
    )


def test_a_profile_that_is_not_there_is_named(home: Path) -> None:
    with pytest.raises(UnknownTargetError) as caught:
        read_explanation("hwm", ProfileDirectory.named("lab"))

    assert str(caught.value) == f"lab: no such profile: there is no directory {home}/ipython/profile_lab"


def test_a_file_that_is_no_python_is_named(lab: ProfileDirectory) -> None:
    path = lab.path / "ipengine_config.py"
    _put_above(path, "c = = 1")

    with pytest.raises(ProfileError) as caught:
        read_explanation("hwm", lab)

    assert str(caught.value) == f"{path}: is no Python (line 1: invalid syntax)"
