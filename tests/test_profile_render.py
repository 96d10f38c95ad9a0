from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from traitlets.config import Config, PyFileConfigLoader

from examples import examples
from stoker.profile.block import render_block
from stoker.profile.catalogue import Catalogue, read_catalogue
from stoker.profile.engines import pick_limit
from stoker.profile.layers import APPLICATIONS
from stoker.profile.render import (
    ProfileSettings,
    count_engines,
    render_engine_config,
    render_engine_environment,
    render_settings,
    render_startup,
)
from stoker.spec import ClusterSpec, EngineGroup, parse_spec
from stoker.system.machine import Cores

CORES = Cores(logical=4, physical=2)
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}


def _render(data: dict[str, Any]) -> ProfileSettings:
    return render_settings(parse_spec(data, base=Path("/lab")), cores=CORES)


def test_the_empty_spec_becomes_these_settings() -> None:
    rendered = _render({})

    assert rendered == ProfileSettings(
        files={
            "ipcontroller_config.py": {
                "IPController.client_ip": "127.0.0.1",
                "IPController.engine_ip": "127.0.0.1",
                "IPController.monitor_ip": "127.0.0.1",
                "IPController.enable_curve": True,
                "IPController.db_class": "NoDB",
                "IPController.registration_timeout": 60,
                "IPController.log_level": 20,
                "TaskScheduler.scheme_name": "leastload",
                "TaskScheduler.hwm": 1,
                "HeartMonitor.period": 100,
                "HeartMonitor.max_heartmonitor_misses": 1500,
            },
            "ipengine_config.py": {
                "IPEngine.max_heartbeat_misses": 250,
                "IPEngine.timeout": 60.0,
                "IPEngine.wait_for_url_file": 60.0,
            },
            "ipcluster_config.py": {
                "Cluster.engine_launcher_class": "local",
                "Cluster.n": 4,
                "Cluster.engine_timeout": 60,
                "Cluster.send_engines_connection_env": False,
                "LocalEngineSetLauncher.delay": 0.0,
                "EngineLauncher.environment": ONE_THREAD,
            },
            "ipython_config.py": {},
            "ipython_kernel_config.py": {},
        }
    )


def test_a_spec_that_says_everything_becomes_these_settings() -> None:
    rendered = _render(
        {
            "cluster": {"start_timeout": 10.5},
            "controller": {
                "ip": "10.0.0.1",
                "client_ip": "10.0.0.2",
                "location": "head",
                "scheduler": "lru",
                "hwm": 3,
                "ports": "10101-10140",
                "encryption": False,
                "database": "SQLiteDB",
                "heartbeat": {"period": 1, "limit": 10},
                "log_level": "debug",
            },
            "engines": [{"count": 1, "work_dir": "data", "env": {"A": "1"}, "startup": "x = 1"}],
            "ipython": {"extensions": ["line_profiler"], "exec_lines": ["import os", "x = 1"]},
            "kernel": {"ip": "*", "shell_port": 5001, "hb_port": 5005},
        }
    )

    assert rendered == ProfileSettings(
        files={
            "ipcontroller_config.py": {
                "IPController.client_ip": "10.0.0.2",
                "IPController.engine_ip": "10.0.0.1",
                "IPController.monitor_ip": "127.0.0.1",
                "IPController.enable_curve": False,
                "IPController.db_class": "SQLiteDB",
                "IPController.registration_timeout": 11,
                "IPController.log_level": 10,
                "IPController.location": "head",
                "IPController.engine_ports": [10101, 10102, 10103, 10104, 10105, 10106, 10107, 10108, 10109],
                "IPController.client_ports": [10110, 10111, 10112, 10113, 10114, 10115],
                "IPController.ports": [10116, 10117, 10118],
                "TaskScheduler.scheme_name": "lru",
                "TaskScheduler.hwm": 3,
                "HeartMonitor.period": 1000,
                "HeartMonitor.max_heartmonitor_misses": 10,
            },
            "ipengine_config.py": {
                "IPEngine.max_heartbeat_misses": 7,
                "IPEngine.timeout": 10.5,
                "IPEngine.wait_for_url_file": 10.5,
                "IPEngine.work_dir": "/lab/data",
                "IPEngine.startup_command": render_startup(EngineGroup(startup="x = 1")),
            },
            "ipcluster_config.py": {
                "Cluster.engine_launcher_class": "local",
                "Cluster.n": 1,
                "Cluster.engine_timeout": 11,
                "Cluster.send_engines_connection_env": False,
                "LocalEngineSetLauncher.delay": 0.0,
                "EngineLauncher.environment": {"A": "1"},
            },
            "ipython_config.py": {
                "InteractiveShellApp.extensions": ["line_profiler"],
                "InteractiveShellApp.exec_lines": ["import os", "x = 1"],
            },
            "ipython_kernel_config.py": {
                "IPKernelApp.ip": "*",
                "IPKernelApp.shell_port": 5001,
                "IPKernelApp.hb_port": 5005,
            },
        }
    )


@pytest.mark.parametrize(
    "controller",
    [
        pytest.param({}, id="loopback"),
        pytest.param({"ip": "*"}, id="all interfaces"),
        pytest.param({"ip": "10.0.0.1"}, id="one interface"),
        pytest.param({"client_ip": "10.0.0.1", "engine_ip": "10.0.0.2"}, id="two interfaces"),
        pytest.param({"ip": "*", "ports": "10101-10140"}, id="fixed ports"),
    ],
)
def test_the_address_that_beats_the_other_two_is_never_rendered(controller: dict[str, str]) -> None:
    rendered = _render({"controller": controller})

    assert not [name for traits in rendered.files.values() for name in traits if name == "IPController.ip"]


@settings(max_examples=examples(50), deadline=None)
@given(first=st.integers(1, 65000), count=st.integers(18, 60))
def test_fixed_ports_become_three_pools_without_a_common_port(first: int, count: int) -> None:
    traits = _render({"controller": {"ports": f"{first}-{first + count - 1}"}}).files["ipcontroller_config.py"]

    pools = [traits[f"IPController.{name}"] for name in ("engine_ports", "client_ports", "ports")]

    assert [len(pool) for pool in pools] == [9, 6, 3]
    assert [port for pool in pools for port in pool] == list(range(first, first + 18))


@pytest.mark.parametrize(
    ("period", "limit", "expected"),
    [
        pytest.param(0.2, 60, (200, 300, 86), id="a minute"),
        pytest.param(0.05, 0.15, (50, 3, 1), id="quickest"),
        pytest.param(3, 30, (3000, 10, 9), id="ipyparallel's own period"),
        pytest.param(60, 180, (60000, 3, 3), id="slowest"),
        pytest.param(0.06, 0.54, (60, 9, 1), id="no miss too many by rounding"),
        pytest.param(0.4, 1.3, (400, 4, 2), id="never before the limit"),
    ],
)
def test_the_heartbeat_is_counted_in_milliseconds_and_misses(
    period: float, limit: float, expected: tuple[int, int, int]
) -> None:
    assert _beat({"controller": {"heartbeat": {"period": period, "limit": limit}}}) == expected


@pytest.mark.parametrize(
    ("engines", "heartbeat", "expected"),
    [
        pytest.param([{"count": 2}], {}, (100, 1500, 250), id="2 engines"),
        pytest.param([{"count": 16}], {}, (200, 750, 215), id="16 engines"),
        pytest.param([{"count": 100}], {}, (1000, 150, 100), id="100 engines"),
        pytest.param([{"count": 1000}], {}, (3000, 50, 43), id="1000 engines"),
        pytest.param([{}], {}, (100, 1500, 250), id="one for each of 4 cores"),
        pytest.param([{}, {"count": "physical"}], {}, (200, 750, 215), id="two groups"),
        pytest.param(
            [{"launcher": "ssh", "count": 10, "hosts": ["n[1-4]", {"name": "gpu", "count": 60}]}],
            {},
            (1000, 150, 100),
            id="100 engines on five hosts",
        ),
        pytest.param([{"count": 100}], {"period": 0.1}, (100, 1500, 250), id="a period that is given"),
        pytest.param([{"count": 100}], {"limit": 60}, (1000, 60, 40), id="a limit that is given"),
        pytest.param([{"count": 100}], {"limit": 1}, (333, 4, 2), id="a limit too short for the period"),
    ],
)
def test_the_heartbeat_is_slower_the_more_engines_there_are(
    engines: list[dict[str, Any]], heartbeat: dict[str, float], expected: tuple[int, int, int]
) -> None:
    assert _beat({"controller": {"heartbeat": heartbeat}, "engines": engines}) == expected


@pytest.mark.parametrize(
    ("lease", "expected"),
    [
        pytest.param(120, (200, 750, 215), id="default"),
        pytest.param(3, (200, 165, 48), id="of a test"),
        pytest.param(3600, (200, 18150, 5186), id="an hour"),
    ],
)
def test_the_patience_of_hub_and_engines_comes_from_the_lease(lease: float, expected: tuple[int, int, int]) -> None:
    data = {"cluster": {"lease": lease}, "engines": [{"count": 16}]}

    found = _beat(data)

    period, hub, engine = found
    assert found == expected
    assert pick_limit(parse_spec(data)) == lease + 30
    assert 0 <= hub * period / 1000 - (lease + 30) < period / 1000
    assert 0 <= engine * (period / 1000 + 0.5) - (lease + 30) < period / 1000 + 0.5


def _beat(data: dict[str, Any]) -> tuple[object, object, object]:
    """The period in milliseconds, and how many beats the hub and an engine may miss."""
    files = _render(data).files
    controller, engine = files["ipcontroller_config.py"], files["ipengine_config.py"]
    return (
        controller["HeartMonitor.period"],
        controller["HeartMonitor.max_heartmonitor_misses"],
        engine["IPEngine.max_heartbeat_misses"],
    )


def test_what_differs_between_groups_is_not_in_the_files_that_all_share() -> None:
    files = _render(
        {
            "engines": [
                {"count": 1, "work_dir": "a", "startup": "x = 1", "threads": 2},
                {"count": "physical", "work_dir": "b"},
                {"count": 100, "launcher": "ssh", "hosts": ["a"]},
            ]
        }
    ).files

    assert files["ipengine_config.py"] == {
        "IPEngine.max_heartbeat_misses": 99,
        "IPEngine.timeout": 60.0,
        "IPEngine.wait_for_url_file": 60.0,
    }
    assert files["ipcluster_config.py"] == {
        "Cluster.engine_launcher_class": "local",
        "Cluster.n": 3,
        "Cluster.engine_timeout": 60,
        "Cluster.send_engines_connection_env": False,
        "LocalEngineSetLauncher.delay": 0.0,
    }


def test_settings_go_to_every_file_in_which_their_class_is_read() -> None:
    spec = parse_spec({"settings": {"A.list": [1, [2]], "A.table": {"b": [3]}, "TaskScheduler.hwm": 5}})
    files = {"A": ("ipengine_config.py", "ipcluster_config.py"), "TaskScheduler": ("ipcontroller_config.py",)}

    rendered = render_settings(spec, cores=CORES, catalogue=Catalogue(classes={}, files=files)).files

    plain = render_settings(ClusterSpec(), cores=CORES).files
    added = {"A.list": [1, [2]], "A.table": {"b": [3]}}
    assert rendered == {
        **plain,
        "ipcontroller_config.py": {**plain["ipcontroller_config.py"], "TaskScheduler.hwm": 5},
        "ipengine_config.py": {**plain["ipengine_config.py"], **added},
        "ipcluster_config.py": {**plain["ipcluster_config.py"], **added},
    }


PATIENCE = {"max_heartbeat_misses": 250, "timeout": 60.0, "wait_for_url_file": 60.0}


def test_an_engine_of_the_empty_spec_is_told_how_long_to_wait() -> None:
    spec = parse_spec({"engines": [{"count": 2}]})

    assert render_engine_config(spec, spec.engines[0], cores=CORES) == {"IPEngine": PATIENCE}


def test_an_engine_is_told_what_its_group_says_and_what_the_files_say_to_an_engine() -> None:
    spec = parse_spec(
        {
            "cluster": {"lease": 270},
            "engines": [{"count": 2, "work_dir": "data", "startup": "x = 1", "env": {"A": "1"}}, {"count": 98}],
            "ipython": {"extensions": ["line_profiler"], "exec_lines": ["import os", "x = 1"]},
            "kernel": {"hb_port": 5005},
            "settings": {
                "IPEngine.timeout": 5,
                "Shell.lines": [1, [2, {"a": [3]}]],
                "Session.packer": "pickle",
                "IPKernelApp.quiet": True,
                "TaskScheduler.hwm": 2,
            },
        },
        base=Path("/lab"),
    )
    files = {
        "IPEngine": ("ipengine_config.py",),
        "Shell": ("ipython_config.py",),
        "Session": ("ipython_kernel_config.py", "ipcontroller_config.py", "ipengine_config.py"),
        "IPKernelApp": ("ipython_kernel_config.py",),
        "TaskScheduler": ("ipcontroller_config.py",),
    }

    first, second = (
        render_engine_config(spec, group, cores=CORES, catalogue=Catalogue(classes={}, files=files))
        for group in spec.engines
    )

    shell = {"extensions": ["line_profiler"], "exec_lines": ["import os", "x = 1"]}
    waits = {"max_heartbeat_misses": 200, "timeout": 5, "wait_for_url_file": 60.0}
    assert first == {
        "InteractiveShellApp": shell,
        "IPEngine": {
            **waits,
            "work_dir": "/lab/data",
            "startup_command": render_startup(EngineGroup(startup="x = 1")),
        },
        "Shell": {"lines": [1, [2, {"a": [3]}]]},
        "Session": {"packer": "pickle"},
    }
    assert second == {**first, "IPEngine": waits}
    assert json.loads(json.dumps(first)) == first


@pytest.mark.parametrize(
    "engines", [pytest.param([{}], id="one group"), pytest.param([{"count": 30}] * 2, id="two groups that are alike")]
)
def test_what_an_engine_is_told_is_what_it_would_read_in_the_files(engines: list[dict[str, Any]]) -> None:
    spec = parse_spec(
        {
            "engines": [{**group, "work_dir": "/data", "startup": "start.py"} for group in engines],
            "ipython": {"exec_lines": ["x = 1"]},
            "settings": {"Session.packer": "pickle", "InteractiveShell.colors": "nocolor", "DictDB.size_limit": 5},
        },
        base=Path("/lab"),
    )
    catalogue = read_catalogue()

    config = render_engine_config(spec, spec.engines[0], cores=CORES, catalogue=catalogue)

    files = render_settings(spec, cores=CORES, catalogue=catalogue).files
    read = {name: value for file in APPLICATIONS["ipengine"] for name, value in files[file].items()}
    assert {f"{name}.{trait}": value for name, traits in config.items() for trait, value in traits.items()} == read


@pytest.mark.parametrize(
    ("count", "expected"), [pytest.param("cores", 4), pytest.param("physical", 2), pytest.param(3, 3)]
)
def test_engines_are_counted(count: int | str, expected: int) -> None:
    assert count_engines(EngineGroup(count=count), CORES) == expected


@pytest.mark.parametrize(
    ("group", "shared", "expected"),
    [
        pytest.param({}, False, {}, id="alone on its host"),
        pytest.param({}, True, ONE_THREAD, id="sharing its host"),
        pytest.param({"threads": 2}, False, dict.fromkeys(ONE_THREAD, "2"), id="threads"),
        pytest.param({"env": {"A": "1"}}, False, {"A": "1"}, id="env"),
        pytest.param({"env": {"OMP_NUM_THREADS": "8"}}, True, {**ONE_THREAD, "OMP_NUM_THREADS": "8"}, id="env wins"),
    ],
)
def test_the_threads_of_engines_are_limited_where_they_share_a_host(
    group: dict[str, Any], shared: bool, expected: dict[str, str]
) -> None:
    assert render_engine_environment(EngineGroup(**group), shared=shared) == expected


def test_startup_code_becomes_one_line_that_ends_the_engine_where_it_raises() -> None:
    line = render_startup(EngineGroup(startup="s = 'Käse'\n%load_ext x\n"))

    assert line == (
        "_startup = get_ipython().run_cell(\"s = 'K\\xe4se'\\n%load_ext x\\n\", store_history=False); "
        "_startup.success or (__import__('traceback').print_exception("
        "_startup.error_before_exec or _startup.error_in_exec), __import__('os')._exit(1)); del _startup"
    )


def test_a_startup_file_is_run_as_a_whole() -> None:
    line = render_startup(EngineGroup(startup="/lab/it's.py"))

    assert line == (
        "_startup = get_ipython().run_cell("
        "'exec(compile(open(\"/lab/it\\'s.py\", \\'rb\\').read(), \"/lab/it\\'s.py\", \\'exec\\'))', "
        "store_history=False); "
        "_startup.success or (__import__('traceback').print_exception("
        "_startup.error_before_exec or _startup.error_in_exec), __import__('os')._exit(1)); del _startup"
    )


def test_no_startup_is_no_line() -> None:
    assert render_startup(EngineGroup()) is None


@pytest.mark.live
@pytest.mark.parametrize(
    ("startup", "status", "last"),
    [
        pytest.param("%cd -q /\nimport os\nhere = f'{os.getcwd()} Käse 🧀'", 0, "went on: / Käse 🧀", id="runs"),
        pytest.param("here = 1 / 0", 1, "ZeroDivisionError: division by zero", id="raises"),
        pytest.param("%no_such_magic\nhere = 1 +", 1, "SyntaxError", id="is no code"),
        pytest.param("raise SystemExit(0)", 1, "SystemExit: 0", id="leaves"),
        pytest.param("start.py", 0, "went on: from the file", id="file runs"),
        pytest.param("missing.py", 1, "FileNotFoundError", id="file is missing"),
    ],
)
def test_an_engine_whose_startup_raises_ends_with_the_reason(
    startup: str, status: int, last: str, tmp_path: Path
) -> None:
    (tmp_path / "start.py").write_text("here = 'from the file'\n")
    line = render_startup(parse_spec({"engines": [{"startup": startup}]}, base=tmp_path).engines[0])
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        f"InteractiveShell.instance().run_cell({line!a})\n"
        "print('went on:', get_ipython().user_ns['here'])\n"
    ).replace("get_ipython().user_ns", "InteractiveShell.instance().user_ns")

    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == status, done.stderr
    assert (done.stderr if status else done.stdout).splitlines()[-1].startswith(last)


LITERALS = st.recursive(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(["Käse", "🧀", "'\"\\", "\ud800", "\0\r\n", "c.A.b = 1"]),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.booleans(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
NAMES = ["TaskScheduler.hwm", "IPEngine.startup_command", "EngineLauncher.environment", "IPEngine.work_dir"]
TRAITS = st.dictionaries(st.sampled_from(NAMES), LITERALS, max_size=4)


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(traits=TRAITS)
def test_every_value_that_is_rendered_is_the_value_that_traitlets_loads(
    traits: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "ipython_config.py").write_bytes(render_block(traits))

    loaded = PyFileConfigLoader("ipython_config.py", path=str(tmp_path)).load_config()

    assert _flatten(loaded) == traits


def _flatten(config: Config) -> dict[str, object]:
    return {f"{name}.{trait}": value for name, section in config.items() for trait, value in section.items()}
