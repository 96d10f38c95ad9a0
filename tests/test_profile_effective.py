from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from stoker.errors import ProfileError
from stoker.profile import ProfileDirectory, ProfileSettings, apply_plan, read_plan, render_settings
from stoker.profile.catalogue import read_catalogue
from stoker.profile.effective import compare_effective, read_effective, verify_profile
from stoker.spec import ClusterSpec, parse_spec
from stoker.system.machine import Cores

CORES = Cores(logical=2, physical=2)
ELSEWHERE = "look for what else sets it: a file that is loaded from here, or the configuration of the whole machine"


@pytest.fixture
def spec(tmp_path: Path) -> ClusterSpec:
    return parse_spec(
        {
            "cluster": {"profile": "lab", "ipython_dir": str(tmp_path / "ipython")},
            "controller": {"ip": "*", "ports": "10101-10140"},
            "engines": [{"count": 2, "env": {"MODE": "test"}, "startup": "x = 1"}],
            "ipython": {"extensions": ["autoreload"], "exec_lines": ["x = 1"]},
            "kernel": {"shell_port": 5001},
            "settings": {
                "SSHEngineSetLauncher.delay": 0.5,
                "Session.packer": "json",
                "IPEngine.enable_nanny": False,
                "InteractiveShell.autocall": 1,
            },
        }
    )


@pytest.fixture
def settings(spec: ClusterSpec) -> ProfileSettings:
    return render_settings(spec, cores=CORES, catalogue=read_catalogue())


@pytest.fixture
def profile(spec: ClusterSpec) -> ProfileDirectory:
    """A profile that the spec was applied to."""
    apply_plan(read_plan(spec, cores=CORES))
    return ProfileDirectory.of(spec)


def _verify(profile: ProfileDirectory, settings: ProfileSettings) -> list[str]:
    return [str(finding).replace(f"{profile.path}/", "") for finding in verify_profile(profile, settings)]


def _append(profile: ProfileDirectory, file: str, text: str) -> int:
    path = profile.path / file
    path.write_text(f"{path.read_text()}{text}\n")
    return len(path.read_text().splitlines())


def test_all_that_a_spec_says_holds_once_it_is_applied(profile: ProfileDirectory, settings: ProfileSettings) -> None:
    before = sorted(profile.path.rglob("*"))

    found = read_effective(profile, settings)

    looked_at = {(value.file, value.name) for value in found.values}
    assert compare_effective(settings, found) == ()
    assert looked_at == {(file, name) for file, traits in settings.files.items() for name in traits}
    assert sorted(profile.path.rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        pytest.param(
            "ipcontroller_config.py",
            "c.merge(type(c)({'TaskScheduler': {'hwm': 7}}))",
            "ipcontroller_config.py: c.TaskScheduler.hwm: ipcontroller goes by 7, not 1",
            id="a merge",
        ),
        pytest.param(
            "ipcontroller_config.py",
            "load_subconfig('more.py')",
            "ipcontroller_config.py: c.IPController.enable_curve: ipcontroller goes by False, not True",
            id="a file that is loaded from here",
        ),
        pytest.param(
            "ipcontroller_config.py",
            "setattr(c.IPController.HeartMonitor, 'period', 3000)",
            "ipcontroller_config.py: c.HeartMonitor.period: ipcontroller goes by 3000, not 100",
            id="a nested section",
        ),
        pytest.param(
            "ipcluster_config.py",
            "c.merge(type(c)({'LocalEngineSetLauncher': {'environment': {}}}))",
            "ipcluster_config.py: c.EngineLauncher.environment: ipcluster goes by {}, not {'OMP_NUM_THREADS': '1', "
            "'OPENBLAS_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1', 'BLIS_NUM_THREADS': '1', 'VECLIB_MAXIMUM_THREADS': "
            "'1', 'NUMEXPR_NUM_THREADS': '1', 'MODE': 'test'}",
            id="a class below",
        ),
        pytest.param(
            "ipython_config.py",
            "globals()['c'].InteractiveShellApp.extensions.append('x')",
            "ipython_config.py: c.InteractiveShellApp.extensions: ipengine goes by ['autoreload', 'x'], not "
            "['autoreload']",
            id="what every shell reads",
        ),
    ],
)
def test_what_no_text_shows_is_found_by_loading(
    profile: ProfileDirectory, settings: ProfileSettings, file: str, text: str, expected: str
) -> None:
    (profile.path / "more.py").write_text("c.IPController.enable_curve = False\n")
    _append(profile, file, text)

    assert _verify(profile, settings)[:1] == [f"{expected}; {ELSEWHERE}"]


def test_one_ip_stands_for_three(profile: ProfileDirectory, settings: ProfileSettings) -> None:
    _append(profile, "ipcontroller_config.py", "c.HubFactory.ip = '10.0.0.1'")

    found = _verify(profile, settings)

    assert found == [
        f"ipcontroller_config.py: c.IPController.{name}: ipcontroller goes by '10.0.0.1', not {wanted!r}; {ELSEWHERE}"
        for name, wanted in (("client_ip", "*"), ("engine_ip", "*"), ("monitor_ip", "127.0.0.1"))
    ]


@pytest.mark.parametrize(
    ("text", "problem", "below"),
    [
        pytest.param("x = 1 / 0", "raises ZeroDivisionError: division by zero", 0, id="an error"),
        pytest.param("def f():\n    raise KeyError('x')\nf()", "raises KeyError: 'x'", 1, id="within a function"),
        pytest.param(
            "import nobody_has_this", "raises ModuleNotFoundError: No module named 'nobody_has_this'", 0, id="import"
        ),
        pytest.param("x =", "raises SyntaxError: invalid syntax (ipengine_config.py, line LINE)", 0, id="no Python"),
        pytest.param("raise SystemExit(3)", "raises SystemExit: 3", 0, id="an exit"),
        pytest.param("class E(Exception): pass\nraise E", "raises E", 0, id="an error without text"),
    ],
)
def test_a_file_that_raises_is_named_with_the_line_and_what_that_means(
    profile: ProfileDirectory, settings: ProfileSettings, text: str, problem: str, below: int
) -> None:
    line = _append(profile, "ipengine_config.py", text) - below

    found = verify_profile(profile, settings)

    assert str(found[0]).replace(f"{profile.path}/", "") == (
        f"ipengine_config.py:{line}: {problem.replace('LINE', str(line))}: dropped whole, with a message in the log; "
        "whoever reads it goes on with defaults; correct it"
    )


def test_a_file_that_raises_leaves_the_controller_unencrypted(
    profile: ProfileDirectory, settings: ProfileSettings
) -> None:
    line = _append(profile, "ipcontroller_config.py", "1 / 0")

    found = _verify(profile, settings)

    assert found[0] == (
        f"ipcontroller_config.py:{line}: raises ZeroDivisionError: division by zero: dropped whole, with a message in "
        "the log; whoever reads it goes on with defaults, a controller unencrypted; correct it"
    )
    assert (
        f"ipcontroller_config.py: c.IPController.enable_curve: ipcontroller goes by False, not True; {ELSEWHERE}"
        in found
    )


def test_a_value_that_ends_an_application_is_named(profile: ProfileDirectory, settings: ProfileSettings) -> None:
    _append(profile, "ipengine_config.py", "c.IPEngine.timeout = 'long'")

    assert _verify(profile, settings) == [
        "ipengine_config.py: ipengine refuses a value and ends: The 'timeout' trait of an IPEngine instance expected a "
        "float, not the str 'long'.; correct the value"
    ]


def test_each_file_runs_once_and_what_it_prints_is_kept_apart(
    profile: ProfileDirectory, settings: ProfileSettings, tmp_path: Path
) -> None:
    _append(
        profile,
        "ipython_config.py",
        f"import os, sys; open({str(tmp_path / 'ran')!r}, 'a').write('x'); print('noise', sys.stdin.read()); "
        "os.system('echo more noise')",
    )

    assert (_verify(profile, settings), (tmp_path / "ran").read_text()) == ([], "x")


@pytest.mark.long
def test_a_file_that_hangs_is_named_in_time(profile: ProfileDirectory, settings: ProfileSettings) -> None:
    _append(profile, "ipcontroller_config.py", "import time; time.sleep(600)")
    start = time.monotonic()

    with pytest.raises(ProfileError) as caught:
        read_effective(profile, settings, timeout=10)

    assert str(caught.value) == f"{profile.path}/ipcontroller_config.py: is not loaded after 10 s"
    assert time.monotonic() - start < 30


def test_a_file_that_ends_the_process_is_named(profile: ProfileDirectory, settings: ProfileSettings) -> None:
    _append(profile, "ipengine_config.py", "import os, sys; print('last words', flush=True); os._exit(7)")

    with pytest.raises(ProfileError) as caught:
        read_effective(profile, settings)

    assert str(caught.value) == (
        f"{profile.path}/ipengine_config.py: ends the process that loads it (status 7): last words"
    )


def test_a_json_file_counts_and_a_broken_one_is_named(profile: ProfileDirectory, settings: ProfileSettings) -> None:
    (profile.path / "ipengine_config.json").write_text(json.dumps({"IPEngine": {"timeout": 3.5}}))
    (profile.path / "ipcluster_config.json").write_text("{")

    found = _verify(profile, settings)

    assert [each.partition(": ")[0] for each in found] == ["ipcluster_config.json", "ipengine_config.py"]
    assert "goes by 3.5, not 60.0" in found[1]
