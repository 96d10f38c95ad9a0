from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stoker.profile.catalogue import Catalogue, check_settings, read_catalogue
from stoker.profile.legacy import find_old_import, find_old_setting, modern
from stoker.profile.modern import LAUNCHERS, SCHEMES, modern_path, translate_trait
from stoker.profile.source import Assignment, Import, parse_source
from stoker.spec import parse_spec

ROWS = [
    (row["name"], row["text"], row["modern"])
    for row in json.loads((Path(__file__).parent / "data" / "old_settings.json").read_text())
    if row["modern"]
]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_catalogue()


def _parse(line: str) -> Assignment:
    return parse_source(Path("x"), line.encode()).assignments[0]


@pytest.mark.parametrize(("text", "expected"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_an_old_setting_has_keys_that_say_the_same(text: str, expected: list[dict[str, object]]) -> None:
    assert [dict(modern(each)) for each in parse_source(Path("x"), text.encode()).assignments] == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("IPController.ip", "0.0.0.0", {"controller.ip": "*"}),
        ("IPController.client_ip", "10.0.0.1", {"controller.client_ip": "10.0.0.1"}),
        ("IPController.engine_ip", "localhost", {"controller.engine_ip": "127.0.0.1"}),
        ("IPController.enable_curve", False, {"controller.encryption": False}),
        ("IPController.db_class", "ipyparallel.controller.dictdb.NoDB", {"controller.database": "NoDB"}),
        ("IPController.ports", [10101, 10102], {"controller.ports": "10101,10102"}),
        ("IPController.log_level", 10, {"controller.log_level": "debug"}),
        ("HeartMonitor.period", 3000, {"controller.heartbeat.period": 3.0}),
        ("TaskScheduler.hwm", 0, {"controller.hwm": 0}),
        ("Cluster.n", True, {}),
        ("Cluster.delay", 2.0, {'settings."Cluster.delay"': 2.0}),
        ("Cluster.controller_launcher_class", "ssh", {}),
        ("Session.key", b"abc", {}),
        ("IPKernelApp.hb_port", 5001, {"kernel.hb_port": 5001}),
    ],
)
def test_a_trait_of_today_has_keys_too(name: str, value: object, expected: dict[str, object]) -> None:
    assert dict(translate_trait(*name.split("."), value)) == expected


def test_what_is_computed_or_nested_says_nothing() -> None:
    assert [modern(_parse(line)) for line in ("c.HubFactory.ip = f()", "c.A.HubFactory.ip = '*'")] == [{}, {}]


@pytest.mark.parametrize(
    "line",
    [
        "c.HubFactory.ip = '*'",
        "c.HubFactory.client_ip = '*'",
        "c.RegistrationFactory.ip = '*'",
        "c.IPControllerApp.reuse_files = True",
        "c.EngineFactory.timeout = 33.0",
        "c.IPEngineApp.startup_command = 'x = 1'",
        "c.IPClusterEngines.n = 4",
        "c.IPClusterEngines.engine_launcher_class = 'ipyparallel.apps.launcher.LocalEngineSetLauncher'",
        "c.HubFactory.db_class = 'IPython.parallel.controller.sqlitedb.SQLiteDB'",
        "c.IPController.ports = '10101-10140'",
        "c.MPIExecLauncher.mpi_args = ['-x']",
        "c.TaskScheduler.scheme_name = 'lru'",
    ],
)
def test_what_an_old_setting_becomes_makes_a_spec(line: str, catalogue: Catalogue) -> None:
    data: dict[str, Any] = {}
    for key, value in modern(_parse(line)).items():
        section, _, name = key.partition(".")
        if section == "engines[0]":
            data["engines"] = [{name: value}]
        else:
            data.setdefault(section, {})[name.strip('"')] = value

    spec = parse_spec(data)

    check_settings(spec, catalogue, source="x")


@pytest.mark.parametrize(
    ("file", "path", "expected"),
    [
        ("ipcontroller_config.py", ("HubFactory", "ip"), ("IPController", "ip")),
        ("ipython_config.py", ("HubFactory", "ip"), ("IPController", "ip")),
        ("ipengine_config.py", ("HubFactory", "ip"), None),
        ("ipcluster_config.py", ("IPClusterStart", "n"), ("Cluster", "n")),
        ("ipcluster_config.py", ("IPClusterStart", "daemonize"), None),
        ("ipcontroller_config.py", ("A", "HubFactory", "ip"), None),
    ],
)
def test_only_what_ipyparallel_translates_counts_as_translated(
    file: str, path: tuple[str, ...], expected: tuple[str, ...] | None
) -> None:
    assert modern_path(file, path) == expected


def test_the_names_of_schemes_and_launchers_are_those_of_ipyparallel(catalogue: Catalogue) -> None:
    scheme = catalogue.classes["TaskScheduler"].class_traits()["scheme_name"]
    launcher = catalogue.classes["Cluster"].class_traits()["engine_launcher_class"]

    assert set(scheme.values) == set(SCHEMES)
    assert set(LAUNCHERS) <= set(launcher.load_entry_points())


@pytest.mark.parametrize(
    ("module", "known"),
    [("IPython.parallel", True), ("IPython.parallel.apps", True), ("IPython.parallelism", False), ("os", False)],
)
def test_an_old_module_is_recognized(module: str, known: bool) -> None:
    statement = Import(module=module, line=1, last_line=1, whole_lines=True)

    assert (find_old_import(statement) is not None) == known


def test_a_setting_of_today_is_not_old() -> None:
    assert find_old_setting("ipcontroller_config.py", _parse("c.IPController.ip = '*'")) is None
