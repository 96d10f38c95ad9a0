from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ipykernel.kernelapp import IPKernelApp
from ipyparallel.cluster.app import IPClusterEngines, IPClusterStart
from ipyparallel.controller.app import IPController
from ipyparallel.engine.app import IPEngine
from IPython.terminal.ipapp import TerminalIPythonApp

from stoker.errors import SpecError
from stoker.profile import apply_plan, read_plan, render_settings
from stoker.profile.catalogue import (
    Catalogue,
    TraitInfo,
    check_rendered,
    check_settings,
    find_traits,
    read_catalogue,
)
from stoker.spec import parse_spec
from stoker.spec.keys import list_keys
from stoker.spec.settings import list_traits
from stoker.system.machine import Cores

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
APPLICATIONS = [IPController, IPEngine, IPClusterStart, IPClusterEngines, TerminalIPythonApp, IPKernelApp]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_catalogue()


def _check(catalogue: Catalogue, settings: dict[str, Any]) -> list[str]:
    try:
        check_settings(parse_spec({"settings": settings}), catalogue, source="lab.toml")
    except SpecError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize("application", APPLICATIONS, ids=lambda application: application.__name__)
def test_every_class_of_an_application_is_written_to_a_file_that_the_application_loads(
    application: type[Any], catalogue: Catalogue
) -> None:
    app = application()
    loaded = {"ipython_config.py", app.config_file_name}

    lost = {cls.__name__ for cls in (application, *app.classes) if not loaded & set(catalogue.files_of(cls.__name__))}

    assert lost == set()


@pytest.mark.parametrize(
    ("name", "files"),
    [
        pytest.param("TaskScheduler", {"ipcontroller_config.py"}, id="of the controller"),
        pytest.param("SSHEngineSetLauncher", {"ipcluster_config.py"}, id="of ipcluster"),
        pytest.param("HistoryManager", {"ipython_config.py"}, id="of every shell: once, where all look"),
        pytest.param("BaseIPythonApplication", {"ipython_config.py"}, id="of every application"),
        pytest.param("IPythonKernel", {"ipengine_config.py", "ipython_kernel_config.py"}, id="of every kernel"),
        pytest.param(
            "Session",
            {"ipcontroller_config.py", "ipengine_config.py", "ipython_kernel_config.py"},
            id="of whatever speaks over ZeroMQ",
        ),
    ],
)
def test_a_class_is_written_to_the_files_of_those_who_know_it(name: str, files: set[str], catalogue: Catalogue) -> None:
    found = catalogue.files_of(name)

    assert set(found) == files
    assert len(found) == len(files)


def test_every_trait_that_a_spec_becomes_exists_and_is_in_a_file_where_it_is_read(catalogue: Catalogue) -> None:
    spec = parse_spec(
        {
            "controller": {"location": "head", "ports": "10101-10140"},
            "engines": [{"work_dir": "/", "startup": "x = 1"}],
            "ipython": {"extensions": ["a"], "exec_lines": ["x = 1"]},
            "kernel": {"ip": "*", **{f"{name}_port": 5000 + i for i, name in enumerate(CHANNELS)}},
        }
    )

    rendered = render_settings(spec, cores=Cores(logical=2, physical=2))

    lost = [
        (file, name)
        for file, traits in rendered.files.items()
        for name in traits
        if file not in catalogue.files_of(name.partition(".")[0])
        or name.partition(".")[2] not in catalogue.classes[name.partition(".")[0]].class_traits(config=True)
    ]
    assert lost == []


@pytest.mark.parametrize(
    ("application", "setting", "value"),
    [
        pytest.param(IPController, "TaskScheduler.hwm", 7, id="scheduler"),
        pytest.param(IPController, "IPController.restore_engines", True, id="controller"),
        pytest.param(IPController, "DictDB.record_limit", 99, id="database"),
        pytest.param(IPEngine, "IPEngine.log_level", 10, id="engine"),
        pytest.param(IPEngine, "IPythonKernel.use_experimental_completions", False, id="kernel of an engine"),
        pytest.param(IPClusterStart, "Cluster.delay", 0.5, id="cluster"),
        pytest.param(IPClusterEngines, "SSHLauncher.ssh_args", ["-v"], id="launcher"),
        pytest.param(TerminalIPythonApp, "TerminalInteractiveShell.confirm_exit", False, id="terminal"),
        pytest.param(IPKernelApp, "IPKernelApp.quiet", False, id="kernel"),
        pytest.param(IPEngine, "InteractiveShellApp.code_to_run", "x = 1", id="inherited"),
        pytest.param(IPController, "Session.buffer_threshold", 2048, id="session of the controller"),
        pytest.param(IPKernelApp, "Session.buffer_threshold", 2048, id="session of a kernel"),
    ],
)
def test_a_setting_is_found_by_the_application_that_loads_its_files(
    application: type[Any], setting: str, value: object
) -> None:
    name, _, trait = setting.partition(".")
    apply_plan(read_plan(parse_spec({"cluster": {"profile": "lab"}, "settings": {setting: value}})))
    app = application(profile="lab")

    app.init_profile_dir()
    app.init_config_files()
    app.load_config_file()

    assert app.config[name][trait] == value


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        pytest.param(
            {"TaskSheduler.hwm": 2},
            "no class of ipyparallel, IPython or ipykernel; did you mean 'TaskScheduler'?",
            id="misspelt class",
        ),
        pytest.param({"Quux.hwm": 2}, "no class of ipyparallel, IPython or ipykernel", id="unknown class"),
        pytest.param(
            {"TaskScheduler.hmw": 2}, "TaskScheduler has no such trait; did you mean 'hwm'?", id="misspelt trait"
        ),
        pytest.param({"TaskScheduler.quux": 2}, "TaskScheduler has no such trait", id="unknown trait"),
        pytest.param(
            {"TaskScheduler.hwm": "two"},
            "The 'hwm' trait of a TaskScheduler instance expected an int, not the str 'two'",
            id="wrong type",
        ),
        pytest.param(
            {"IPEngine.log_level": "LOUD"},
            "The 'log_level' trait of an IPEngine instance expected any of [0, 10, 20, 30, 40, 50, 'DEBUG', 'INFO', "
            "'WARN', 'ERROR', 'CRITICAL'], not the str 'LOUD'",
            id="wrong choice",
        ),
        pytest.param(
            {"EngineLauncher.environment": ["A=1"]},
            "The 'environment' trait of an EngineLauncher instance expected a dict, not the list ['A=1']",
            id="wrong container",
        ),
    ],
)
def test_a_setting_that_traitlets_would_refuse_is_a_fault(
    settings: dict[str, Any], problem: str, catalogue: Catalogue
) -> None:
    (name,) = settings

    assert _check(catalogue, settings) == [f'lab.toml: settings."{name}": {problem}']


def test_all_faults_of_settings_are_reported_at_once(catalogue: Catalogue) -> None:
    found = _check(catalogue, {"Quux.hwm": 2, "TaskScheduler.hwm": 2, "TaskScheduler.quux": 2, "IPEngine.timeout": "x"})

    assert found == [
        'lab.toml: settings."Quux.hwm": no class of ipyparallel, IPython or ipykernel',
        'lab.toml: settings."TaskScheduler.quux": TaskScheduler has no such trait',
        "lab.toml: settings.\"IPEngine.timeout\": The 'timeout' trait of an IPEngine instance expected a float, "
        "not the str 'x'",
    ]


def test_a_plan_refuses_a_faulty_setting_before_it_reads_the_profile(home: Path) -> None:
    (home / "ipython").write_text("no directory")

    with pytest.raises(SpecError) as caught:
        read_plan(parse_spec({"settings": {"Quux.hwm": 2}}), source="lab.toml")

    assert str(caught.value) == 'lab.toml: settings."Quux.hwm": no class of ipyparallel, IPython or ipykernel'


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"TaskScheduler.hwm": 2}, id="number"),
        pytest.param({"IPEngine.timeout": 5}, id="whole number for a float"),
        pytest.param({"InteractiveShellApp.exec_files": ["a.py"]}, id="array"),
        pytest.param({"IPKernelApp.connection_file": "x.json"}, id="text"),
        pytest.param({"EngineLauncher.environment": {"A": "1"}}, id="table"),
        pytest.param({"BatchSystemLauncher.namespace": {"a": {"n": 2, "b": ["-x"]}}}, id="nested"),
        pytest.param({"Application.log_level": 10}, id="base class"),
    ],
)
def test_a_setting_that_traitlets_takes_is_no_fault(settings: dict[str, Any], catalogue: Catalogue) -> None:
    assert _check(catalogue, settings) == []


@pytest.mark.parametrize(
    "groups",
    [
        pytest.param([{"python": "p", "env": {"A": "1"}}], id="local"),
        pytest.param(
            [{"launcher": "ssh", "hosts": ["a", "me@b:22"], "count": 2, "ssh_options": {"ProxyJump": "c"}}], id="ssh"
        ),
        pytest.param(
            [
                {
                    "launcher": "slurm",
                    "count": 2,
                    **dict.fromkeys(("partition", "account", "qos"), "x"),
                    "time_limit": "30",
                    "directives": ["--mem=4G"],
                    "work_dir": "/",
                }
            ],
            id="slurm",
        ),
        *(pytest.param([{"launcher": name, "count": 2, "queue": "x"}], id=name) for name in ("pbs", "lsf", "sge")),
        pytest.param([{"launcher": "mpi", "mpi_args": ["-v"], "startup": "x = 1"}], id="mpi"),
    ],
)
def test_what_any_launcher_becomes_is_taken_by_traitlets(groups: list[dict[str, Any]], catalogue: Catalogue) -> None:
    spec = parse_spec({"engines": groups, "controller": {"ports": "10101-10140", "location": "head"}})

    check_rendered(render_settings(spec, cores=Cores(logical=2, physical=2)).files, catalogue, source="lab.toml")


def test_a_rendered_value_that_traitlets_would_refuse_is_a_fault(catalogue: Catalogue) -> None:
    files = {
        "ipcontroller_config.py": {"IPController.ports": "1-2", "TaskScheduler.hwm": 3, "IPEngine.timeout": 3.0},
        "ipcluster_config.py": {"Cluster.engine_launcher_class": "slrum", "Clutser.n": 3},
    }

    with pytest.raises(SpecError) as caught:
        check_rendered(files, catalogue, source="lab.toml")

    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == [
        "c.IPController.ports in ipcontroller_config.py",
        "c.IPEngine.timeout in ipcontroller_config.py",
        "c.Cluster.engine_launcher_class in ipcluster_config.py",
        "c.Clutser.n in ipcluster_config.py",
    ]
    assert lines[1].endswith(": is read from ipengine_config.py only")
    assert lines[3].endswith(": no class of ipyparallel, IPython or ipykernel; did you mean 'Cluster'?")


def test_a_trait_is_described(catalogue: Catalogue) -> None:
    assert catalogue.info("DictDB", "record_limit") == TraitInfo(
        class_name="DictDB",
        name="record_limit",
        type="Int",
        default="1024",
        help="The maximum number of records in the db When the history exceeds this size, the first "
        "record_limit * cull_fraction records will be culled.",
        choices=(),
        files=("ipcontroller_config.py",),
    )


@pytest.mark.parametrize(
    ("name", "default"),
    [
        pytest.param("TaskScheduler.scheme_name", "'leastload'", id="choice"),
        pytest.param("Session.key", None, id="made at run time, never shown"),
        pytest.param("IPController.ports", "[]", id="list"),
        pytest.param("EngineLauncher.environment", "{}", id="table"),
    ],
)
def test_the_default_of_a_trait_is_told_where_there_is_one(
    name: str, default: str | None, catalogue: Catalogue
) -> None:
    (info,) = find_traits(name, catalogue)

    assert (info.setting, info.default) == (name, default)


def test_a_trait_is_found_in_every_class_that_has_it(catalogue: Catalogue) -> None:
    assert {info.setting for info in find_traits("mpi_cmd", catalogue)} == {
        "MPILauncher.mpi_cmd",
        "MPIControllerLauncher.mpi_cmd",
        "MPIEngineSetLauncher.mpi_cmd",
    }
    assert find_traits("no_such_trait", catalogue) == ()
    assert find_traits("TaskScheduler.no_such_trait", catalogue) == ()


def test_every_trait_that_a_key_speaks_for_exists(catalogue: Catalogue) -> None:
    settings = {setting for key in list_keys() for setting in list_traits(key.place)}

    # Set on the command line alone; the spec's key is there so that nobody looks for it in vain.
    assert [setting for setting in sorted(settings) if not find_traits(setting, catalogue)] == ["Cluster.cluster_id"]
