from __future__ import annotations

import tomllib
from pathlib import Path

import pydantic
import pytest

from stoker.errors import Fault, SpecError
from stoker.spec import (
    ClusterSection,
    ClusterSpec,
    ControllerSection,
    EngineGroup,
    Heartbeat,
    IPythonSection,
    KernelSection,
    QueueSection,
    parse_spec,
    read_spec,
)

FAULTY = tomllib.loads((Path(__file__).parent / "data" / "spec_faults.toml").read_text())["spec"]


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in FAULTY])
def test_a_faulty_spec_is_refused_with_all_its_faults(case: dict) -> None:
    path = Path(case.get("file", "lab.toml"))
    path.write_text(case["text"])

    with pytest.raises(SpecError) as caught:
        read_spec(path)

    assert str(caught.value).splitlines() == [f"{path}: {fault}" for fault in case["faults"]]


def test_a_spec_error_carries_its_faults_as_values() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec({"controller": {"hwm": -1}, "engines": [{"threads": 0}]}, source="a script")

    assert caught.value.faults == (
        Fault(source="a script", key="controller.hwm", problem="must be at least 0, got -1"),
        Fault(source="a script", key="engines[0].threads", problem="must be at least 1, got 0"),
    )


def test_a_missing_file_is_named() -> None:
    with pytest.raises(SpecError) as caught:
        read_spec("lab.toml")

    assert str(caught.value) == "lab.toml: cannot be read: No such file or directory"


def test_a_directory_is_no_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        read_spec(tmp_path)

    assert str(caught.value) == f"{tmp_path}: cannot be read: Is a directory"


def test_a_file_that_is_not_utf_8_is_refused_with_the_byte() -> None:
    Path("lab.toml").write_bytes("# Käse\n".encode("latin-1"))

    with pytest.raises(SpecError) as caught:
        read_spec("lab.toml")

    assert str(caught.value) == "lab.toml: is not UTF-8 text (byte 3)"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"[controller]\r\nhwm = 3\r\n", id="CRLF"),
        pytest.param(b"\xef\xbb\xbf[controller]\nhwm = 3\n", id="byte order mark"),
        pytest.param(b"[controller]\nhwm = 3", id="no final newline"),
    ],
)
def test_what_editors_do_to_a_text_does_no_harm(text: bytes) -> None:
    Path("lab.toml").write_bytes(text)

    spec = read_spec("lab.toml")

    assert spec == ClusterSpec(cluster=ClusterSection(profile="lab"), controller=ControllerSection(hwm=3))


def test_the_empty_spec_is_one_engine_per_core_on_this_machine() -> None:
    spec = parse_spec({})

    assert spec == ClusterSpec(
        cluster=ClusterSection(
            profile="stoker",
            cluster_id="",
            ipython_dir=None,
            start_timeout=60.0,
            lease=120.0,
            frozen_after=5.0,
            log_limit=10.0,
        ),
        controller=ControllerSection(
            ip="127.0.0.1",
            client_ip=None,
            engine_ip=None,
            location=None,
            scheduler="leastload",
            hwm=1,
            ports=None,
            encryption=True,
            database="NoDB",
            heartbeat=Heartbeat(period=None, limit=None),
            log_level="info",
        ),
        engines=(
            EngineGroup(
                count="cores",
                launcher="local",
                python=None,
                work_dir=None,
                env={},
                startup=None,
                threads=None,
                fork=True,
            ),
        ),
        ipython=IPythonSection(extensions=(), exec_lines=()),
        kernel=KernelSection(
            ip="127.0.0.1", shell_port=None, iopub_port=None, stdin_port=None, control_port=None, hb_port=None
        ),
        queue=QueueSection(ip="127.0.0.1", port=None, directory=None, lease=30.0, attempts=3, time_limit=None),
        settings={},
    )


@pytest.mark.parametrize(
    ("name", "text", "profile"),
    [
        pytest.param("lab.toml", "", "lab", id="no section"),
        pytest.param("lab.v2.toml", "[cluster]\nstart_timeout = 5\n", "lab.v2", id="section without profile"),
        pytest.param("my lab.toml", '[cluster]\nprofile = "night"\n', "night", id="given"),
    ],
)
def test_the_profile_is_named_after_the_file_unless_the_spec_names_it(name: str, text: str, profile: str) -> None:
    Path(name).write_text(text)

    spec = read_spec(name)

    assert spec.cluster.profile == profile


def test_relative_paths_are_meant_from_the_directory_of_the_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "lab.toml").write_text(
        """
        [cluster]
        ipython_dir = "ipython"
        [[engines]]
        python = "../venv/bin/python"
        work_dir = "data/./in"
        startup = "start.py"
        [[engines]]
        python = "python3"
        work_dir = "~/data"
        startup = "~/start.py"
        [[engines]]
        python = "/usr/bin/python3"
        work_dir = "/data"
        startup = "x = 'start.py'"
        [queue]
        directory = "../queue"
        """
    )
    monkeypatch.chdir(home)

    spec = read_spec("../specs/lab.toml")

    assert spec == ClusterSpec(
        cluster=ClusterSection(profile="lab", ipython_dir=tmp_path / "specs" / "ipython"),
        engines=(
            EngineGroup(
                python=str(tmp_path / "venv" / "bin" / "python"),
                work_dir=tmp_path / "specs" / "data" / "in",
                startup=str(tmp_path / "specs" / "start.py"),
            ),
            EngineGroup(python="python3", work_dir=home / "data", startup=str(home / "start.py")),
            EngineGroup(python="/usr/bin/python3", work_dir=Path("/data"), startup="x = 'start.py'"),
        ),
        queue=QueueSection(directory=tmp_path / "queue"),
    )


def test_plain_data_is_meant_from_the_current_directory(tmp_path: Path) -> None:
    spec = parse_spec({"engines": [{"work_dir": "data"}], "queue": {"directory": "queue"}})

    assert spec.engines == (EngineGroup(work_dir=tmp_path / "data"),)
    assert spec.queue == QueueSection(directory=tmp_path / "queue")


def test_the_directory_of_the_queue_may_begin_at_home_or_at_the_root(home: Path) -> None:
    specs = [parse_spec({"queue": {"directory": directory}}) for directory in ("~/queue", "/srv/./queue")]

    assert [spec.queue.directory for spec in specs] == [home / "queue", Path("/srv/queue")]


def test_reading_twice_gives_equal_specs() -> None:
    Path("lab.toml").write_text('[[engines]]\ncount = 2\nenv = { A = "1" }\n[settings]\n"A.b" = [1, [2, 3]]\n')

    first, second = read_spec("lab.toml"), read_spec("lab.toml")

    assert first == second


@pytest.mark.parametrize("address", ["*", "0.0.0.0"])
def test_both_ways_to_write_all_interfaces_mean_the_same(address: str) -> None:
    spec = parse_spec({"controller": {"client_ip": address, "engine_ip": "*"}})

    assert (spec.controller.client_address, spec.controller.engine_address) == ("*", "*")


@pytest.mark.parametrize("address", ["*", "0.0.0.0"])
def test_the_queue_is_served_at_all_interfaces_in_both_ways_to_write_them(address: str) -> None:
    spec = parse_spec({"queue": {"ip": address}})

    assert spec.queue == QueueSection(ip="*")


@pytest.mark.parametrize(
    ("section", "client", "engine"),
    [
        pytest.param({}, "127.0.0.1", "127.0.0.1", id="loopback"),
        pytest.param({"ip": "10.0.0.1"}, "10.0.0.1", "10.0.0.1", id="one for both"),
        pytest.param({"ip": "10.0.0.1", "client_ip": "127.0.0.1"}, "127.0.0.1", "10.0.0.1", id="another for clients"),
        pytest.param({"ip": "*", "client_ip": "10.0.0.1", "engine_ip": "10.0.0.2"}, "10.0.0.1", "10.0.0.2", id="two"),
    ],
)
def test_clients_and_engines_are_listened_for_where_the_spec_says(
    section: dict[str, str], client: str, engine: str
) -> None:
    controller = parse_spec({"controller": section}).controller

    assert (controller.client_address, controller.engine_address) == (client, engine)


@pytest.mark.parametrize(
    "startup",
    [
        pytest.param("import os\nos.nice(1)\n", id="Python"),
        pytest.param("", id="nothing"),
        pytest.param("await connect()", id="await"),
        pytest.param("x = 1\n%load_ext line_profiler", id="magic"),
        pytest.param("!hostname", id="shell"),
    ],
)
def test_what_ipython_can_run_is_code_for_the_start(startup: str) -> None:
    group = parse_spec({"engines": [{"startup": startup}]}).engines[0]

    assert (group.startup, group.startup_file) == (startup, None)


def test_a_limit_of_exactly_three_periods_is_enough() -> None:
    heartbeat = parse_spec({"controller": {"heartbeat": {"period": 0.2, "limit": 0.6}}}).controller.heartbeat

    assert heartbeat == Heartbeat(period=0.2, limit=0.6)


@pytest.mark.parametrize(
    ("lease", "heartbeat"),
    [
        pytest.param(120, {"period": 50}, id="the longest period with the lease that is not given"),
        pytest.param(150, {"period": 60}, id="the longest period of all with the shortest lease for it"),
        pytest.param(0.1, {"period": 10}, id="a lease for tests"),
        pytest.param(0.1, {"period": 60, "limit": 180}, id="a limit that does not come from the lease"),
        pytest.param(120, {"limit": 0.15}, id="the shortest limit"),
        pytest.param(1e6, {}, id="a long lease"),
    ],
)
def test_a_heartbeat_that_fits_three_times_into_its_limit_is_taken(lease: float, heartbeat: dict[str, float]) -> None:
    spec = parse_spec({"cluster": {"lease": lease}, "controller": {"heartbeat": heartbeat}})

    assert (spec.cluster.lease, spec.controller.heartbeat) == (lease, Heartbeat(**heartbeat))


def test_a_heartbeat_that_cannot_be_with_the_lease_is_refused_at_birth() -> None:
    with pytest.raises(pydantic.ValidationError, match="at most a third of the limit"):
        ClusterSpec(cluster=ClusterSection(lease=1), controller=ControllerSection(heartbeat=Heartbeat(period=11)))


@pytest.mark.parametrize(
    ("engines", "heartbeat", "period"),
    [
        pytest.param(1, {}, 0.1, id="1"),
        pytest.param(4, {}, 0.1, id="4"),
        pytest.param(5, {}, 0.2, id="5"),
        pytest.param(20, {}, 0.2, id="20"),
        pytest.param(21, {}, 0.21, id="21"),
        pytest.param(29, {}, 0.29, id="29"),
        pytest.param(100, {}, 1.0, id="100"),
        pytest.param(300, {}, 3.0, id="300"),
        pytest.param(10000, {}, 3.0, id="10000"),
        pytest.param(10000, {"period": 0.05}, 0.05, id="given"),
        pytest.param(100, {"limit": 3}, 1.0, id="as long as three of them fit"),
        pytest.param(100, {"limit": 1}, 0.333, id="a third of a short limit"),
        pytest.param(100, {"limit": 0.15}, 0.05, id="a third of the shortest limit"),
    ],
)
def test_the_period_of_the_heartbeat_grows_with_the_engines(
    engines: int, heartbeat: dict[str, float], period: float
) -> None:
    assert Heartbeat(**heartbeat).pick_period(engines) == period


@pytest.mark.parametrize(
    ("heartbeat", "limit"), [pytest.param({}, 120.5, id="lease"), pytest.param({"limit": 7}, 7.0, id="given")]
)
def test_the_limit_of_the_heartbeat_comes_from_the_lease(heartbeat: dict[str, float], limit: float) -> None:
    assert Heartbeat(**heartbeat).pick_limit(90.5) == limit


def test_arrays_are_frozen_to_their_depth() -> None:
    spec = parse_spec({"settings": {"A.b": [1, [2, {"c": [3]}]]}, "ipython": {"exec_lines": ["x"]}})

    assert spec.settings == {"A.b": (1, (2, {"c": (3,)}))}
    assert spec.ipython.exec_lines == ("x",)


def test_a_spec_cannot_be_changed() -> None:
    spec = parse_spec({})

    with pytest.raises(pydantic.ValidationError, match="frozen"):
        spec.controller.hwm = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("controller", "notices"),
    [
        pytest.param({}, (), id="nothing"),
        pytest.param(
            {"encryption": False},
            (
                "encryption = false: whoever can read the traffic reads your code and data, and the key that lets "
                "anyone run code here travels with no protection of its own",
            ),
            id="no encryption",
        ),
        pytest.param(
            {"encryption": False, "ip": "0.0.0.0"},
            (
                "encryption = false: whoever can read the traffic reads your code and data, and the key that lets "
                "anyone run code here travels with no protection of its own on all interfaces",
            ),
            id="no encryption on all interfaces",
        ),
        pytest.param(
            {"scheduler": "pure"},
            (
                'scheduler = "pure": ZeroMQ hands tasks out blindly, so such a cluster cannot be healed: the tasks '
                "of an engine that dies are lost, and load balancing ends there",
            ),
            id="pure",
        ),
    ],
)
def test_what_is_no_fault_but_should_be_known_is_a_notice(controller: dict, notices: tuple[str, ...]) -> None:
    spec = parse_spec({"controller": controller})

    assert spec.notices == notices


def test_the_queue_adds_no_notice() -> None:
    spec = parse_spec({"queue": {"ip": "*", "port": 50010, "lease": 1, "attempts": 1, "time_limit": 1}})

    assert spec.notices == ()
