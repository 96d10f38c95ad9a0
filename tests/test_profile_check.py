from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples import examples
from stoker.errors import ProfileError
from stoker.faces.command_line import run
from stoker.faces.screen import Collector
from stoker.profile import ProfileDirectory, apply_plan, read_plan, render_settings
from stoker.profile.catalogue import Catalogue, read_catalogue
from stoker.profile.check import check_profile, find_faults
from stoker.profile.finding import Finding
from stoker.spec import ClusterSpec, parse_spec, read_spec
from stoker.system.machine import Cores

CORES = Cores(logical=2, physical=2)
HERE = Path("/profile")
ROWS = json.loads((Path(__file__).parent / "data" / "old_settings.json").read_text())


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_catalogue()


@pytest.fixture
def lab(tmp_path: Path) -> tuple[ProfileDirectory, ClusterSpec]:
    """A profile that a spec was applied to."""
    spec = parse_spec(
        {
            "cluster": {"profile": "lab", "ipython_dir": str(tmp_path / "ipython")},
            "engines": [{"count": 2, "env": {"MODE": "test"}}],
            "ipython": {"exec_lines": ["x = 1"]},
        }
    )
    apply_plan(read_plan(spec, cores=CORES))
    return ProfileDirectory.of(spec), spec


def _find(catalogue: Catalogue, file: str, text: str | bytes, **more: str) -> list[str]:
    data = text if isinstance(text, bytes) else f"{text}\n".encode()
    files = {file: data} | {f"{name}.json": value.encode() for name, value in more.items()}
    return _show(find_faults(HERE, files, settings=None, catalogue=catalogue))


def _show(findings: tuple[Finding, ...]) -> list[str]:
    return [f"{finding.kind}: {finding}".replace(f"{HERE}/", "") for finding in findings]


def _check(lab: tuple[ProfileDirectory, ClusterSpec]) -> list[str]:
    directory, spec = lab
    found = check_profile(directory, spec, cores=CORES)
    return [f"{finding.kind}: {finding}".replace(f"{directory.path}/", "") for finding in found]


def _append(lab: tuple[ProfileDirectory, ClusterSpec], file: str, text: str) -> int:
    """Add a line at a file's end, and give its number."""
    path = lab[0].path / file
    with path.open("a") as stream:
        stream.write(f"{text}\n")
    return len(path.read_text().splitlines())


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [pytest.param(row["file"], row["text"], row["findings"], id=row["name"]) for row in ROWS],
)
def test_each_old_setting_is_named_with_its_effect_today_and_what_to_do(
    catalogue: Catalogue, file: str, text: str, expected: list[str]
) -> None:
    assert _find(catalogue, file, text) == expected


def test_the_profile_of_the_tutorial_is_explained_line_by_line(tmp_path: Path) -> None:
    profile = tmp_path / "ipython" / "profile_old"
    profile.mkdir(parents=True)
    (profile / "ipcontroller_config.py").write_text(
        "c.HubFactory.client_ip = '*'\nc.RegistrationFactory.ip = '*'\nc.TaskScheduler.scheme_name = 'leastload'\n"
    )
    (profile / "ipcluster_config.py").write_text(
        "c.IPClusterEngines.engine_launcher_class = 'ipyparallel.apps.launcher.LocalEngineSetLauncher'\n"
    )

    found = check_profile(ProfileDirectory(profile))

    crash = (
        'ipcontroller binds its registration port twice and dies ("Address already in use"): a wildcard for only one '
        "of clients and engines"
    )
    assert [(finding.path.name, finding.line, finding.setting, finding.today) for finding in found] == [
        (
            "ipcontroller_config.py",
            1,
            "c.HubFactory.client_ip",
            f"translated to c.IPController.client_ip, with a warning; there {crash}",
        ),
        (
            "ipcontroller_config.py",
            2,
            "c.RegistrationFactory.ip",
            "ignored in silence: there is no such class any more, and the controller listens where it would without "
            "this line (127.0.0.1 by default)",
        ),
        (
            "ipcluster_config.py",
            1,
            "c.IPClusterEngines.engine_launcher_class",
            "translated to c.Cluster.engine_launcher_class by the command ipcluster, with a misleading warning (not "
            "recognized) and a true one (deprecated); ignored where Python code makes an ipyparallel.Cluster; there "
            "works, with a DeprecationWarning that nobody sees: ipyparallel.apps.launcher is only there for old files",
        ),
    ]
    assert sorted(path.name for path in profile.iterdir()) == ["ipcluster_config.py", "ipcontroller_config.py"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        pytest.param("ipcontroller_config.py", "c.IPController.ports = list(range(10101, 10141))", id="computed"),
        pytest.param("ipcontroller_config.py", "c.Session.key = b'abc'", id="bytes"),
        pytest.param("ipcontroller_config.py", "c.Application.log_level = 10", id="a base of every application"),
        pytest.param("ipcontroller_config.py", "c.ProfileDir.location = '/p'", id="the profile's directory"),
        pytest.param("ipengine_config.py", "c.IPKernelApp.exec_lines = ['import numpy']", id="the engine's kernel"),
        pytest.param("ipengine_config.py", "c.InteractiveShellApp.exec_lines = 'x = 1'", id="one text for a list"),
        pytest.param("ipcluster_config.py", "c.BaseLauncher.environment = {'A': '1'}", id="a base of launchers"),
        pytest.param("ipcluster_config.py", "c.Cluster.engine_launcher_class = 'Slurm'", id="a launcher's short name"),
        pytest.param("ipython_config.py", "c.AliasManager.user_aliases = []", id="a class beside the applications"),
        pytest.param("ipython_config.py", "c.InlineBackend.figure_format = 'svg'", id="a class of a companion"),
        pytest.param("ipython_config.py", "c.IPController.enable_curve = True", id="where every application looks"),
        pytest.param(
            "ipython_config.py",
            "c.InteractiveShellApp.extensions = ['mine']\nc.MyMagics.colour = 'red'",
            id="a class that an extension may bring",
        ),
    ],
)
def test_nothing_is_said_of_what_works(catalogue: Catalogue, file: str, text: str) -> None:
    assert _find(catalogue, file, text) == []


def test_nothing_is_said_of_an_applied_profile(lab: tuple[ProfileDirectory, ClusterSpec]) -> None:
    assert _check(lab) == []


REMEDY = "remove the line; say it in the spec"


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        pytest.param(
            "ipcontroller_config.py",
            "c.TaskScheduler.hwm = 7",
            f"c.TaskScheduler.hwm: stands below stoker's block and beats its c.TaskScheduler.hwm: 7, not 1; {REMEDY}",
            id="a line below",
        ),
        pytest.param(
            "ipcontroller_config.py",
            "c.IPController.HeartMonitor.period = 3000",
            "c.IPController.HeartMonitor.period: beats c.HeartMonitor.period of stoker's block in the hub, but not in "
            f"the heart monitor's own process: 3000, not 100; {REMEDY}",
            id="a nested section",
        ),
        pytest.param(
            "ipcontroller_config.py",
            "c.HubFactory.ip = '*'",
            "c.HubFactory.ip: is translated to c.IPController.ip, which beats client_ip, engine_ip and monitor_ip of "
            "stoker's block: the controller listens at *, its monitor port too; remove the line; say controller.ip in "
            "the spec",
            id="an old name that is translated",
        ),
        pytest.param(
            "ipython_config.py",
            "c.IPController.ip = '10.0.0.1'",
            "c.IPController.ip: wherever it stands, it beats client_ip, engine_ip and monitor_ip of stoker's block: "
            "the controller listens at 10.0.0.1, its monitor port too; remove the line; say controller.ip in the spec",
            id="ip anywhere",
        ),
        pytest.param(
            "ipcluster_config.py",
            "c.Cluster.controller_args = ['--nodb', '--IPController.enable_curve=False']",
            "c.Cluster.controller_args: ipcluster starts the controller with --IPController.enable_curve=False, and a "
            "command line beats every file: c.IPController.enable_curve = True of stoker's block does not count; "
            f"{REMEDY}",
            id="ipcluster's arguments for the controller",
        ),
        pytest.param(
            "ipcluster_config.py",
            "c.EngineLauncher.engine_args = ['--timeout', '3']",
            "c.EngineLauncher.engine_args: ipcluster starts the engines with --timeout 3, and a command line beats "
            f"every file: c.IPEngine.timeout = 60.0 of stoker's block does not count; {REMEDY}",
            id="ipcluster's arguments for engines",
        ),
        pytest.param(
            "ipcluster_config.py",
            "c.Cluster.controller_ip = '*'",
            "c.Cluster.controller_ip: ipcluster starts the controller with --ip=*, and a command line beats every "
            f"file: c.IPController.client_ip = '127.0.0.1' of stoker's block does not count; {REMEDY}",
            id="ipcluster's own address",
        ),
        pytest.param(
            "ipengine_config.py",
            "c.InteractiveShellApp.exec_lines = []",
            "c.InteractiveShellApp.exec_lines: ipengine_config.py is read after ipython_config.py and beats "
            f"c.InteractiveShellApp.exec_lines of stoker's block: [], not ['x = 1']; {REMEDY}",
            id="a file that is read later",
        ),
        pytest.param(
            "ipython_config.py",
            "c.InteractiveShellApp.exec_lines.append('y = 2')",
            "c.InteractiveShellApp.exec_lines: stands below stoker's block and beats its "
            "c.InteractiveShellApp.exec_lines: computed when the file is loaded, not surely ['x = 1']; " + REMEDY,
            id="a change in place",
        ),
        pytest.param(
            "ipcontroller_config.py",
            "c.TaskScheduler.hwm = 'two'",
            "c.TaskScheduler.hwm: the scheduler's process dies at the start, the controller stays up without it: The "
            "'hwm' trait of a TaskScheduler instance expected an int, not the str 'two'; correct the value",
            id="a value that is refused",
        ),
        pytest.param(
            "ipcluster_config.py",
            "c.Cluster.engine_launcher_class = 'winhpc'",
            "c.Cluster.engine_launcher_class: away from Windows ipcluster hangs: the start fails in a callback, "
            "nothing ends it but SIGKILL; stands below stoker's block and beats its c.Cluster.engine_launcher_class: "
            f"'winhpc', not 'local'; {REMEDY}",
            id="an old value",
        ),
    ],
)
def test_what_beats_the_block_is_named(
    lab: tuple[ProfileDirectory, ClusterSpec], file: str, text: str, expected: str
) -> None:
    line = _append(lab, file, text)

    found = _check(lab)

    assert [each.partition(": ")[2] for each in found] == [f"{file}:{line}: {expected}"]


def test_a_json_file_beside_a_config_file_beats_the_block(lab: tuple[ProfileDirectory, ClusterSpec]) -> None:
    data = {"IPEngine": {"max_heartbeat_misses": 3}, "IPController": {"ip": "127.0.0.1"}}
    (lab[0].path / "ipengine_config.json").write_text(json.dumps(data, indent=2))

    assert _check(lab) == [
        "overridden: ipengine_config.json:3: IPEngine.max_heartbeat_misses: the .json file beats "
        f"c.IPEngine.max_heartbeat_misses of stoker's block: 3, not 250; {REMEDY}",
        "wrong: ipengine_config.json:6: IPController.ip: ignored in silence: ipengine does not know IPController; move "
        "the line to ipcontroller_config.py",
    ]


def test_the_block_need_not_be_at_the_end_for_lines_above_it_to_be_beaten(
    lab: tuple[ProfileDirectory, ClusterSpec],
) -> None:
    path = lab[0].path / "ipcontroller_config.py"
    path.write_text("c.TaskScheduler.hwm = 7\nc.HubFactory.location = 'head'\n" + path.read_text())

    assert _check(lab) == [
        "old: ipcontroller_config.py:2: c.HubFactory.location: translated to c.IPController.location, with a warning; "
        "write c.IPController.location instead of c.HubFactory.location"
    ]


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        pytest.param(
            "ipython_config.py",
            b"x = (\n",
            "wrong: ipython_config.py:1: is no Python (line 1: '(' was never closed): dropped whole, with a message in "
            "the log; every application goes on with defaults, the controller unencrypted; correct it",
            id="no Python",
        ),
        pytest.param(
            "ipengine_config.py",
            b"c.A.b = '\xe9'\n",
            "wrong: ipengine_config.py:1: is no Python (line 1: (unicode error) 'utf-8' codec can't decode byte 0xe9 "
            "in position 0: unexpected end of data): dropped whole, with a message in the log; ipengine goes on with "
            "defaults; correct it",
            id="another encoding",
        ),
        pytest.param(
            "ipengine_config.json",
            b'{\n"IPEngine": }',
            "wrong: ipengine_config.json:2: is no JSON (line 2: Expecting value): dropped whole, with a message in the "
            "log; ipengine goes on with defaults; correct it",
            id="no JSON",
        ),
        pytest.param(
            "ipcontroller_config.py",
            b"# >>> stoker >>>\n",
            "wrong: ipcontroller_config.py:1: half of stoker's block, of which the other half is gone: stoker apply "
            "refuses such a file; remove what is left of the block, then apply again",
            id="half a block",
        ),
    ],
)
def test_a_file_that_is_not_loaded_is_named_with_what_that_means(
    catalogue: Catalogue, file: str, text: bytes, expected: str
) -> None:
    assert _find(catalogue, file, text) == [expected]


def test_a_profile_that_the_spec_was_not_applied_to_has_drifted(lab: tuple[ProfileDirectory, ClusterSpec]) -> None:
    directory, spec = lab
    controller = directory.path / "ipcontroller_config.py"
    controller.write_text(controller.read_text().replace("'leastload'", "'lru'"))
    (directory.path / "ipengine_config.py").write_text("x = 1\n")

    assert _check((directory, spec)) == [
        "drifted: ipcontroller_config.py:2: stoker's block is not what the spec says; apply the spec: stoker apply",
        "drifted: ipengine_config.py: has no block of stoker's: what the spec says does not hold; apply the spec: "
        "stoker apply",
    ]


def test_keys_that_others_can_read_are_named(lab: tuple[ProfileDirectory, ClusterSpec]) -> None:
    directory, spec = lab
    line = _append(lab, "ipcontroller_config.py", "c.Session.key = b'abc'")
    (directory.path / "ipcontroller_config.py").chmod(0o644)
    connection = directory.security / "ipcontroller-client.json"
    connection.write_text("{}")
    connection.chmod(0o644)
    (directory.security / "cluster-.json").write_text("{}")
    directory.security.chmod(0o755)
    directory.spec.chmod(0o640)

    found = _check((directory, spec))

    assert [each.partition("; ")[0] for each in found] == [
        f"exposed: ipcontroller_config.py:{line}: c.Session.key: the key stands in a file of mode 0644, which others "
        "can read",
        "exposed: security: its mode is 0755: others can enter, and connection files are readable for a moment when "
        "made",
        "exposed: security/ipcontroller-client.json: its mode is 0644: whoever reads the key in it can run code on "
        "controller and engines",
        "exposed: stoker.toml: its mode is 0640: others can read the spec, with all that env and startup say",
    ]
    assert [each.partition("; ")[2] for each in found] == [
        "chmod 600 ipcontroller_config.py",
        "chmod 700 security",
        "chmod 600 security/ipcontroller-client.json, and start the cluster anew for a new key",
        "chmod 600 stoker.toml",
    ]


def test_a_key_behind_a_closed_directory_is_not_exposed(lab: tuple[ProfileDirectory, ClusterSpec]) -> None:
    connection = lab[0].security / "ipcontroller-client.json"
    connection.write_text("{}")
    connection.chmod(0o644)

    assert _check(lab) == []


def test_two_specs_for_one_cluster_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "lab.toml").write_text("")
    (tmp_path / "other.toml").write_text('[cluster]\nprofile = "lab"\n')
    (tmp_path / "third.toml").write_text('[cluster]\nprofile = "lab"\ncluster_id = "third"\n')
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    spec = read_spec(tmp_path / "lab.toml")
    apply_plan(read_plan(spec, cores=CORES))

    found = check_profile(ProfileDirectory.of(spec), spec, source=tmp_path / "lab.toml", cores=CORES)

    assert [str(finding) for finding in found] == [
        f"{tmp_path}/other.toml: cluster.profile: is a spec for the same profile and cluster id as lab.toml: the one "
        "applied last holds; give one of them another cluster.profile, or remove it"
    ]


def test_a_profile_that_is_not_there_has_drifted_from_its_spec(tmp_path: Path) -> None:
    spec = parse_spec({"cluster": {"profile": "lab", "ipython_dir": str(tmp_path)}})

    found = check_profile(ProfileDirectory.of(spec), spec, cores=CORES)

    assert [str(finding) for finding in found] == [
        f"{tmp_path}/profile_lab: is not there yet: plain ipyparallel makes it with defaults, unencrypted; apply the "
        "spec: stoker apply"
    ]


def test_a_profile_without_spec_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="there is no such profile"):
        check_profile(ProfileDirectory(tmp_path / "profile_lab"))


class _Answer:
    def __init__(self, *words: str) -> None:
        self.lines: list[str] = []
        self.screen = Collector(self.lines.append)
        self.code = run(["check", *words], self.screen)


def test_the_command_ends_with_1_and_shows_what_it_found(lab: tuple[ProfileDirectory, ClusterSpec]) -> None:
    directory, _ = lab
    line = _append(lab, "ipcontroller_config.py", "c.RegistrationFactory.ip = '*'")

    answer = _Answer("lab", "--ipython-dir", str(directory.path.parent), "--json")

    found: list[dict[str, Any]] = json.loads(answer.lines[0])
    assert (answer.code, [(each["kind"], each["line"], each["setting"]) for each in found]) == (
        1,
        [("old", line, "c.RegistrationFactory.ip")],
    )


def test_the_command_has_nothing_to_say_of_a_sound_profile(tmp_path: Path) -> None:
    (tmp_path / "profile_plain").mkdir()

    answer = _Answer("plain", "--ipython-dir", str(tmp_path))

    assert (answer.code, answer.screen.values) == (0, [f"{tmp_path}/profile_plain: nothing to say"])


def test_the_command_knows_no_profile_that_is_not_there(tmp_path: Path) -> None:
    answer = _Answer("nobody", "--ipython-dir", str(tmp_path))

    assert (answer.code, answer.lines) == (
        1,
        [f"stoker: nobody: neither a spec (a path that ends in .toml) nor a profile below {tmp_path}"],
    )


WORDS = """
IPController HubFactory HeartMonitor Cluster IPEngine TaskScheduler Nobody ip client_ip period n mux append
engine_launcher_class ports controller_args scheme_name exec_lines
"""
NAMES = st.sampled_from(WORDS.split())
VALUES = st.one_of(
    st.sampled_from(["'*'", "0", "[1]", "None", "('a', 1)", "{'A': 1}", "f()", "-1.5", "'winhpc'", "b'x'", "..."]),
    st.text(max_size=5).map(repr),
)
LINES = st.builds("c.{} = {}".format, st.lists(NAMES, min_size=1, max_size=4).map(".".join), VALUES)
TEXTS = st.one_of(
    st.lists(st.one_of(LINES, st.text(max_size=20)), max_size=6).map(lambda lines: "\n".join(lines).encode()),
    st.lists(LINES, max_size=6).map(lambda lines: "\r\n".join(lines).encode()),
    st.binary(max_size=60),
)
OVERLAYS = st.one_of(
    st.binary(max_size=40),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
        lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    ).map(lambda data: json.dumps(data).encode()),
)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(controller=TEXTS, cluster=TEXTS, common=TEXTS, overlay=OVERLAYS, applied=st.booleans())
def test_any_config_text_gives_findings_that_name_file_and_line(
    catalogue: Catalogue, controller: bytes, cluster: bytes, common: bytes, overlay: bytes, applied: bool
) -> None:
    files = {
        "ipcontroller_config.py": controller,
        "ipcluster_config.py": cluster,
        "ipython_config.py": common,
        "ipcontroller_config.json": overlay,
    }
    rendered = render_settings(ClusterSpec(), cores=CORES) if applied else None

    found = find_faults(HERE, files, settings=rendered, catalogue=catalogue)

    for finding in found:
        length = len(files.get(finding.path.name, b"").splitlines()) + 1
        assert finding.path.parent == HERE
        assert finding.kind == "drifted" or (finding.line is not None and 1 <= finding.line <= length)
