"""The start of a cluster: what comes up, what is refused, and that a start which fails leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import stoker
from stoker.cluster.record import Record, read_record, record_file, remove_traces
from stoker.cluster.start import start_cluster
from stoker.compute import portable
from stoker.errors import BusyError, NotRunningError, SpecError, StartError
from stoker.launch import ConnectionFiles
from stoker.launch.cluster_file import cluster_file
from stoker.profile import ProfileDirectory, apply_plan, find_ipython_dir, read_plan
from stoker.spec import ClusterSpec, parse_spec, read_spec
from stoker.system.locks import hold_lock
from stoker.system.machine import read_cores

pytestmark = pytest.mark.live

SCHEDULERS = ("leastload", "lru", "plainrandom", "twobin", "weighted", "pure")
READY_MADE = [read_spec(path) for path in sorted((Path(__file__).parents[2] / "cluster_profiles").glob("*.toml"))]
LOCAL = [spec for spec in READY_MADE if {group.launcher for group in spec.engines} == {"local"}]
ELSEWHERE = [spec for spec in READY_MADE if spec not in LOCAL and spec.engines[0].launcher != "ssh"]
SOON = 60.0
"""Seconds that an answer may take on a busy machine."""
GONE = 10.0
"""Seconds within which what was begun ends by itself, on a busy machine, when whoever began it is killed."""
PROCESSES = 12
"""Of a cluster of one engine: supervisor, agent, engine; hub, heart monitor, seven relays and schedulers."""


def make_spec(**sections: Any) -> ClusterSpec:
    """A spec of the profile ``lab`` with one engine, but for what is given."""
    cluster = {"profile": "lab", **sections.pop("cluster", {})}
    return parse_spec({"engines": [{"count": 1}], **sections, "cluster": cluster})


def lab() -> ProfileDirectory:
    return ProfileDirectory.named("lab")


def read(directory: ProfileDirectory, cluster_id: str = "") -> Record:
    record = read_record(record_file(directory, cluster_id))
    assert record is not None
    return record


def leaders(directory: ProfileDirectory, cluster_id: str = "") -> list[int]:
    """The process numbers of a cluster's controller, supervisor, agents and engines."""
    record = read(directory, cluster_id)
    assert record.controller is not None
    assert record.supervisor is not None
    agents, engines = record.agents.values(), (engine.process for engine in record.engines)
    return [process.pid for process in (record.controller, record.supervisor, *agents, *engines)]


def listening(pids: list[int]) -> set[tuple[str, int]]:
    """The addresses and ports where these processes and their children listen."""
    family = [psutil.Process(pid) for pid in pids]
    family += [child for process in family for child in process.children(recursive=True)]
    sockets = []
    for process in family:
        # What has forked the engines ends when they are ready.
        with contextlib.suppress(psutil.NoSuchProcess):
            sockets += process.net_connections("tcp")
    return {(entry.laddr.ip, entry.laddr.port) for entry in sockets if entry.status == psutil.CONN_LISTEN}


def read_files(directory: Path) -> dict[Path, bytes]:
    """Every file below a directory but for logs and locks, with its content."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files if path.parent.name != "log" and path.suffix != ".lock"}


def write_script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


# What comes up.


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.filterwarnings('ignore:scheduler = "pure":UserWarning')
def test_every_scheduler_comes_up_and_gives_right_results(scheduler: str, start: Callable[..., Any]) -> None:
    spec = make_spec(controller={"scheduler": scheduler}, engines=[{"count": 2}])

    cluster = start(spec)
    squares = cluster.view.map(portable(lambda x: x * x), range(20), block=False).get(SOON)

    assert squares == [x * x for x in range(20)]
    assert cluster.status().scheduler == scheduler
    healing = [notice for notice in cluster.notices if "pure" in notice]
    assert len(healing) == (1 if scheduler == "pure" else 0)


def test_a_misspelt_scheduler_is_refused_with_a_suggestion_and_nothing_is_started_or_written(
    tmp_path: Path, home: Path, run_stoker: Callable[..., Any], processes: Callable[[], list[str]]
) -> None:
    spec = tmp_path / "lab.toml"
    spec.write_text('[controller]\nscheduler = "leastlaod"\n')

    ran = run_stoker("up", spec)

    problem = 'must be one of leastload, lru, plainrandom, twobin, weighted, pure, got "leastlaod"'
    hint = 'did you mean "leastload"?'
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"stoker: {spec}: controller.scheduler: {problem}; {hint}\n"
    assert list(home.iterdir()) == []
    assert processes() == []


def test_without_a_spec_there_is_one_engine_per_core_and_the_cluster_outlives_the_command(
    run_stoker: Callable[..., Any], start: Callable[..., Any]
) -> None:
    started = run_stoker("up", "--json").check().data

    cluster = start()
    answers = cluster.client[:].apply_async(portable(lambda: 42)).get(SOON)

    assert (started["name"], started["new"], started["encrypted"], started["notices"]) == ("stoker", True, True, [])
    assert len(started["engines"]) == read_cores().logical
    assert answers == [42] * read_cores().logical
    assert not cluster.started


def test_the_start_lists_the_ports_that_other_machines_can_reach(
    tmp_path: Path, start: Callable[..., Any], run_stoker: Callable[..., Any]
) -> None:
    spec = tmp_path / "reached.toml"
    spec.write_text('[controller]\nip = "*"\n[[engines]]\ncount = 1\n')

    started = run_stoker("up", spec, "--json").check().data
    start(spec)

    directory = ProfileDirectory.named("reached", ipython_dir=find_ipython_dir())
    reachable = {port for address, port in listening(leaders(directory)) if address == "0.0.0.0"}
    assert reachable != set()
    assert set(started["open_ports"]) == reachable


@pytest.mark.parametrize("spec", LOCAL, ids=lambda spec: spec.cluster.profile)
@pytest.mark.filterwarnings("ignore:encryption = false:UserWarning")
def test_every_ready_made_spec_starts_encrypted_unless_it_says_otherwise_and_listens_where_it_says(
    spec: ClusterSpec, tmp_path: Path, start: Callable[..., Any], free_ports: Callable[[int], tuple[int, ...]]
) -> None:
    if spec.controller.ports is not None:
        # Somebody may be using the ports of the file.
        ports = free_ports(20)
        changed = spec.controller.model_copy(update={"ports": f"{ports[0]}-{ports[-1]}"})
        spec = spec.model_copy(update={"controller": changed})

    cluster = start(spec, ipython_dir=tmp_path / "elsewhere")

    directory = ProfileDirectory.named(spec.cluster.profile, ipython_dir=tmp_path / "elsewhere")
    files = ConnectionFiles.of(directory, "")
    keys = [json.loads(file.read_text())["curve_serverkey"] for file in (files.client, files.engine)]
    encrypted = spec.cluster.profile != "open_lab"
    assert [bool(key) for key in keys] == [encrypted, encrypted]
    assert [notice.partition(":")[0] for notice in cluster.notices] == ([] if encrypted else ["encryption = false"])
    addresses = {address for address, _ in listening(leaders(directory))}
    assert addresses == ({"0.0.0.0", "127.0.0.1"} if spec.controller.ip == "*" else {"127.0.0.1"})
    per_group = {"cores": read_cores().logical, "physical": read_cores().physical}
    assert len(cluster.client.ids) == sum(per_group[group.count] for group in spec.engines)
    assert cluster.view.map(portable(lambda x: x + 1), range(10), block=False).get(SOON) == list(range(1, 11))
    loaded = cluster.client[0].apply_async(portable(_loaded_extensions)).get(SOON)
    assert set(spec.ipython.extensions) <= loaded


@pytest.mark.parametrize("spec", ELSEWHERE, ids=lambda spec: spec.cluster.profile)
def test_a_ready_made_spec_for_other_machines_is_refused_until_these_can_be_started(
    spec: ClusterSpec, home: Path
) -> None:
    with pytest.raises(SpecError) as caught:
        start_cluster(spec, source="it")

    assert {fault.key.partition(".")[2] for fault in caught.value.faults} == {"launcher"}
    assert list(home.iterdir()) == []


def _loaded_extensions() -> set[str]:
    from IPython import get_ipython

    return set(get_ipython().extension_manager.loaded)


def test_with_fixed_ports_the_controller_listens_on_exactly_these(
    start: Callable[..., Any], free_ports: Callable[[int], tuple[int, ...]]
) -> None:
    ports = free_ports(18)

    cluster = start(make_spec(controller={"ports": f"{ports[0]}-{ports[-1]}"}))

    controller, *_ = leaders(lab())
    assert listening([controller]) == {("127.0.0.1", port) for port in ports}
    assert cluster.view.map(abs, [-1, -2], block=False).get(SOON) == [1, 2]


def test_what_a_group_says_reaches_its_own_engines(tmp_path: Path, start: Callable[..., Any]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    file = tmp_path / "prepare.py"
    file.write_text("def tell():\n    return WORD * 2\n\nWORD = 'from a file '\n")
    groups = [
        {"count": 1, "env": {"COLOUR": "red"}, "threads": 3, "work_dir": str(first), "startup": "WORD = 'from code'"},
        {"count": 2, "env": {"OMP_NUM_THREADS": "5"}, "work_dir": str(second), "startup": str(file)},
    ]

    cluster = start(make_spec(engines=groups))
    told = cluster.client[:].apply_async(portable(_look_around)).get(SOON)

    others = (str(second), None, "5", "1", "from a file from a file ")
    assert told == [(str(first), "red", "3", "3", "from code"), others, others]
    assert [engine.group for engine in cluster.engines] == [0, 1, 1]


def _look_around() -> tuple[str, str | None, str | None, str | None, str]:
    import os

    from IPython import get_ipython

    names = get_ipython().user_ns
    word = names["tell"]() if "tell" in names else names["WORD"]
    variables = ("COLOUR", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return (os.getcwd(), *map(os.environ.get, variables), word)  # type: ignore[return-value]  # noqa: PTH109


# What changes nothing.


def test_up_on_a_running_cluster_changes_nothing_and_says_so(shared_dir: Path, run_stoker: Callable[..., Any]) -> None:
    directory = ProfileDirectory.named("shared")
    before = leaders(directory), read_files(directory.path)

    ran = run_stoker("up", "shared")

    assert (ran.code, ran.err) == (0, "profile ...\n")
    assert ran.out == "shared runs already, with 2 engines; nothing was changed\n"
    assert (leaders(directory), read_files(directory.path)) == before
    assert all(psutil.pid_exists(pid) for pid in before[0])


def up_changed(run_stoker: Callable[..., Any], controller: str, count: int) -> Any:
    """Start two engines, then say ``up`` with a changed spec."""
    spec = Path.home() / "lab.toml"
    spec.write_text("[[engines]]\ncount = 2\n")
    run_stoker("up", spec).check()
    spec.write_text(f"[controller]\n{controller}\n[[engines]]\ncount = {count}\n")
    return spec


def test_up_with_a_changed_count_starts_more_engines_while_the_cluster_runs(
    run_stoker: Callable[..., Any],
    start: Callable[..., Any],
    processes: Callable[[], list[str]],
    wait_until: Callable[..., Any],
) -> None:
    spec = up_changed(run_stoker, "", 3)
    before = leaders(lab())

    ran = run_stoker("up", spec)

    assert (ran.code, ran.out) == (0, "lab runs already, with 3 engines; started engine 2\n")
    assert ran.err == "profile ...\n"
    assert leaders(lab())[:-1] == before
    wait_until(lambda: len(processes()) == PROCESSES + 2)
    assert read_spec(lab().spec).engines[0].count == 3
    assert not read_plan(read_spec(spec))
    assert len(start("lab").client[:].apply_async(os.getpid).get(SOON)) == 3


def test_up_with_a_smaller_count_ends_engines_while_the_cluster_runs(
    run_stoker: Callable[..., Any], wait_until: Callable[..., Any], start: Callable[..., Any]
) -> None:
    spec = up_changed(run_stoker, "", 1)
    before = leaders(lab())

    ran = run_stoker("up", spec)
    cluster = start("lab")
    wait_until(lambda: len(cluster.engines) == 1)

    assert (ran.code, ran.err) == (0, "profile ...\n")
    assert ran.out.endswith("; ending engine 1\n")
    wait_until(lambda: leaders(lab()) == before[:-1])
    assert cluster.view.map(abs, [-1, -2], block=False).get(SOON) == [1, 2]
    assert not read_plan(read_spec(spec))


def test_up_with_a_changed_scheduler_names_it_and_changes_nothing(
    shared_dir: Path, tmp_path: Path, run_stoker: Callable[..., Any]
) -> None:
    directory = ProfileDirectory.named("shared")
    before = leaders(directory), read_files(directory.path)
    spec = tmp_path / "shared.toml"
    spec.write_text('[controller]\nscheduler = "lru"\n[[engines]]\ncount = 2\n')

    ran = run_stoker("up", spec)

    notice = "changed in the spec, and as before until stoker down, then stoker up: controller.scheduler"
    assert (ran.code, ran.out) == (0, "shared runs already, with 2 engines; nothing was changed\n")
    assert ran.err == f"profile ...\nwarning: {notice}\n"
    assert (leaders(directory), read_files(directory.path)) == before


def test_up_with_both_does_the_one_and_names_the_other_until_the_next_start(
    run_stoker: Callable[..., Any], start: Callable[..., Any]
) -> None:
    spec = up_changed(run_stoker, 'scheduler = "lru"', 3)
    before = leaders(lab())

    first = run_stoker("up", spec)
    again = run_stoker("up", spec)
    status = start("lab").status()
    applied = read_spec(lab().spec)
    kept = leaders(lab())
    run_stoker("down", "lab").check()
    anew = start(spec)

    notice = "changed in the spec, and as before until stoker down, then stoker up: controller.scheduler"
    assert (first.code, first.out) == (0, "lab runs already, with 3 engines; started engine 2\n")
    assert (again.code, again.out) == (0, "lab runs already, with 3 engines; nothing was changed\n")
    assert first.err == again.err == f"profile ...\nwarning: {notice}\n"
    assert kept[:-1] == before
    assert (status.scheduler, len(status.engines)) == ("leastload", 3)
    assert (applied.controller.scheduler, applied.engines[0].count) == ("leastload", 3)
    assert (anew.status().scheduler, len(anew.engines)) == ("lru", 3)


def test_a_changed_spec_reaches_a_cluster_of_somebody_with_another_environment(
    run_stoker: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = up_changed(run_stoker, "", 3)
    control_socket = read(lab()).plan.control_socket
    other = tmp_path / "run"
    other.mkdir()
    with monkeypatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(other))

        up = run_stoker("up", spec)
        status = run_stoker("status", "lab", "--json")
        kept = read(lab()).plan.control_socket
        down = run_stoker("down", "lab")

    assert (up.code, up.out) == (0, "lab runs already, with 3 engines; started engine 2\n")
    assert (status.data["state"], kept) == ("running", control_socket)
    assert (down.code, down.err) == (0, "")
    assert not control_socket.parent.exists()
    assert list(other.iterdir()) == []


def test_of_two_ups_at_once_one_starts_the_cluster_and_the_other_finds_it(
    tmp_path: Path, programs: Callable[[str], str], start: Callable[..., Any]
) -> None:
    spec = tmp_path / "lab.toml"
    spec.write_text("[[engines]]\ncount = 1\n")
    argv = [programs("stoker"), "up", str(spec), "--json"]

    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=SOON) for process in both]

    assert [process.returncode for process in both] == [0, 0], outputs
    told = [json.loads(output) for output, _ in outputs]
    assert sorted(answer["new"] for answer in told) == [False, True]
    assert told[0]["engines"] == told[1]["engines"]
    assert len(start("lab").client.ids) == 1


def test_an_up_that_does_not_want_to_wait_is_told_who_is_at_it(run_stoker: Callable[..., Any]) -> None:
    spec = make_spec()
    apply_plan(read_plan(spec))
    lock = record_file(lab(), "").with_suffix(".lock")

    with hold_lock(lock, wait=0, purpose="stoker up"):
        ran = run_stoker("up", "lab", "--wait", "0.2")
        with pytest.raises(BusyError) as caught:
            start_cluster(spec, wait=0)

    holder = f"stoker up (process {os.getpid()})"
    again = "try again when it has finished"
    assert caught.value.holder == holder
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines()[-1] == (
        f"stoker: profile_lab: {holder} is starting or stopping this cluster (waited 0 s); {again}"
    )


# What fails, and leaves nothing.


@pytest.fixture
def failure(processes: Callable[[], list[str]], traces: Callable[[Path], list[str]]) -> Callable[..., StartError]:
    """Starts a cluster that cannot start; gives the error after a look that nothing is left."""

    def fail(spec: ClusterSpec, *, mine: list[str] | None = None) -> StartError:
        with pytest.raises(StartError) as caught:
            start_cluster(spec)
        assert processes() == (mine or [])
        assert traces(find_ipython_dir()) == []
        return caught.value

    return fail


def test_a_startup_that_raises_is_named_with_its_traceback(failure: Callable[..., StartError]) -> None:
    spec = make_spec(engines=[{"count": 1}, {"count": 1, "startup": "import math\nimport no_such_module"}])

    error = failure(spec)

    assert error.stage == "registration"
    assert error.problem == "engine 1 (engines[1]) ended with status 1 before it was ready"
    assert error.log == lab().log / "ipengine-1.log"
    assert "Traceback (most recent call last):" in error.lines
    assert error.lines[-1] == "ModuleNotFoundError: No module named 'no_such_module'"


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(0, id="registration"),
        pytest.param(4, id="a relay"),
        pytest.param(8, id="the last one for engines"),
        pytest.param(9, id="the first one for clients"),
        pytest.param(14, id="the last one for clients"),
        pytest.param(15, id="internal"),
    ],
)
def test_a_port_that_is_taken_is_named(
    place: int, failure: Callable[..., StartError], free_ports: Callable[[int], tuple[int, ...]]
) -> None:
    ports = free_ports(18)
    spec = make_spec(controller={"ports": f"{ports[0]}-{ports[-1]}"})

    with socket.create_server(("127.0.0.1", ports[place])):
        error = failure(spec)

    # Whichever its end is seen in: the last ones bind while engines start.
    assert error.stage in ("controller start", "engine start", "registration")
    assert error.problem.endswith(f"; of its ports (controller.ports) another program uses: {ports[place]}")
    assert error.log == lab().log / "ipcontroller.log"
    assert error.lines[-1].startswith("zmq.error.ZMQError: Address already in use")


@pytest.mark.parametrize(
    ("script", "problem", "lines"),
    [
        pytest.param(["echo no library here >&2", "exit 3"], "ended with status 3", ["no library here"], id="it dies"),
        pytest.param(
            ["echo thinking >&2", "exec sleep 600"],
            "not there after 8 s (cluster.start_timeout)",
            ["thinking"],
            id="it hangs",
        ),
        pytest.param(
            ["echo my greeting", "exec sleep 600"],
            "ended (it said what is none of its messages: a line that is no JSON object)",
            [],
            id="it is none",
        ),
    ],
)
def test_engines_whose_python_fails_are_named_by_their_agent_with_what_it_said(
    script: list[str], problem: str, lines: list[str], tmp_path: Path, failure: Callable[..., StartError]
) -> None:
    python = write_script(tmp_path / "python", *script)
    spec = make_spec(cluster={"start_timeout": 8.0}, engines=[{"count": 1}, {"count": 1, "python": str(python)}])

    error = failure(spec)

    assert (error.stage, error.problem) == ("engine start", f"the agent local-1 {problem}")
    # Perhaps twice: before its end is the end of the start, it may have been started again.
    assert list(dict.fromkeys(error.lines)) == lines
    assert error.log == lab().log / "agent-local-1.log"


def test_an_engine_that_never_gets_ready_is_named_after_the_timeout(failure: Callable[..., StartError]) -> None:
    slow = "print('thinking', flush=True); import time; time.sleep(600)"
    spec = make_spec(cluster={"start_timeout": 8.0}, engines=[{"count": 1}, {"count": 1, "startup": slow}])

    error = failure(spec)

    problem = "engine 1 not there after 8 s (cluster.start_timeout)"
    assert (error.stage, error.problem) == ("registration", problem)
    assert error.log == lab().log / "ipengine-1.log"
    assert error.lines[-1] == "thinking"


def test_of_logs_of_an_earlier_run_nothing_is_told(tmp_path: Path, failure: Callable[..., StartError]) -> None:
    python = write_script(tmp_path / "python", "echo RuntimeError: old >&2", "exit 3")
    spec = make_spec(engines=[{"count": 1, "python": str(python)}])
    first = failure(spec)
    write_script(tmp_path / "python", "exit 4")

    second = failure(spec)

    assert (first.problem, set(first.lines)) == ("the agent local ended with status 3", {"RuntimeError: old"})
    assert (second.problem, second.lines) == ("the agent local ended with status 4", ())


@pytest.mark.parametrize(
    ("name", "stage"),
    [("ipcontroller_config.py", "controller start"), ("ipengine_config.py", "engine start: engine 0")],
)
def test_a_config_file_that_raises_is_named_because_ipython_would_drop_it(
    name: str, stage: str, failure: Callable[..., StartError]
) -> None:
    lab().path.mkdir(parents=True)
    file = lab().path / name
    file.write_text("raise RuntimeError('mine')\n")

    error = failure(make_spec())

    problem = f"{file} raises an exception and was dropped whole, so that the spec is not in force"
    assert (error.stage, error.problem) == (stage, problem)
    assert error.lines[-1] == "RuntimeError: mine"


def test_a_controller_that_is_not_encrypted_against_the_command_line_is_taken_down(
    failure: Callable[..., StartError],
) -> None:
    lab().path.mkdir(parents=True)
    (lab().path / "ipcontroller_config.py").write_text(
        "from ipyparallel.controller.app import IPController\n"
        "original = IPController.init_hub\n"
        "def init_hub(self):\n"
        "    self.enable_curve = False\n"
        "    original(self)\n"
        "IPController.init_hub = init_hub\n"
    )

    error = failure(make_spec())

    assert error.stage == "connection file"
    assert error.problem == (
        "the controller came up not encrypted, but the spec says encrypted; it was taken down. Something in "
        f"{lab().path} or in the environment overrides IPController.enable_curve"
    )


@pytest.mark.parametrize(
    "part", ["the directory of all profiles", "the profile", "its pid directory", "its log directory"]
)
def test_a_profile_that_cannot_be_written_is_named(
    part: str, run: Callable[..., Any], programs: Callable[[str], str], processes: Callable[[], list[str]]
) -> None:
    directory = lab()
    if part != "the directory of all profiles":
        apply_plan(read_plan(make_spec()))
        (directory.path / "ipengine_config.py").unlink()
    locked = {
        "the directory of all profiles": directory.path.parent,
        "the profile": directory.path,
        "its pid directory": directory.pid,
        "its log directory": directory.log,
    }[part]
    locked.mkdir(exist_ok=True)
    spec = directory.path.parent.parent / "lab.toml"
    spec.write_text("[[engines]]\ncount = 1\n")
    locked.chmod(0o500)

    ran = run(*_WITHOUT_OVERRIDE, programs("stoker"), "up", spec)

    locked.chmod(0o700)
    refused = {
        "the directory of all profiles": f"{directory.path}: Permission denied",
        "the profile": f"{directory.path / 'ipengine_config.py'}: cannot be written: Permission denied",
        "its pid directory": f"{directory.pid / 'stoker.lock'}: Permission denied",
        "its log directory": f"{directory.log / 'supervisor.log'}: Permission denied",
    }[part]
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == f"profile ...\nstoker: profile: {refused}\n"
    assert processes() == []


# Permissions do not bind root, unless it gives up this right for itself and its children.
_WITHOUT_OVERRIDE = (
    ()
    if os.getuid()
    else ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
)


# What is there already.


def test_connection_files_of_a_cluster_that_was_killed_are_not_taken_for_this_ones(
    start: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    spec = make_spec()
    start(spec)
    record = read_record(record_file(lab(), ""))
    assert record is not None
    for process in record.processes():
        os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not record.processes())
    files = ConnectionFiles.of(lab(), "")
    stale = files.client.read_text(), files.engine.read_text(), cluster_file(lab(), "").read_text()

    again = start(spec)
    answers = again.client[:].apply_async(abs, -1).get(SOON)

    fresh = files.client.read_text(), files.engine.read_text(), cluster_file(lab(), "").read_text()
    assert again.started
    assert answers == [1]
    assert all(new != old for new, old in zip(fresh, stale, strict=True))


@pytest.fixture
def foreign(programs: Callable[[str], str], wait_until: Callable[..., Any]) -> Iterator[subprocess.Popen[bytes]]:
    """A controller under the profile ``lab`` that stoker did not start."""
    apply_plan(read_plan(make_spec()))
    argv = [programs("ipcontroller"), "--profile=lab"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(ConnectionFiles.of(lab(), "").engine.exists)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(SOON)
        ConnectionFiles.of(lab(), "").remove()  # which it leaves behind


def test_a_controller_that_stoker_did_not_start_is_refused_and_left_alone(foreign: subprocess.Popen[bytes]) -> None:
    files = ConnectionFiles.of(lab(), "")
    before = files.client.read_bytes(), files.engine.read_bytes()

    with pytest.raises(StartError) as caught:
        start_cluster(make_spec())

    port = json.loads(files.client.read_text())["registration"]
    assert caught.value.stage == "profile"
    assert caught.value.problem == (
        f"a controller that stoker did not start runs under lab (it listens on port {port}); "
        "end it first, where it was started or with: ipcluster stop --profile=lab"
    )
    assert foreign.poll() is None
    assert (files.client.read_bytes(), files.engine.read_bytes()) == before


# What is interrupted.

STAGES = ("profile", "controller start", "connection file", "engine start", "registration")


def interrupt_up(
    program: str, signum: signal.Signals, *, stage: str, seed: int, again: bool = False
) -> tuple[int, str, str]:
    """Send a signal to a ``stoker up`` of one engine, at a random moment after a stage has begun; perhaps again."""
    spec, slow = Path.home() / "lab.toml", Path.home() / "slow"
    # The engine takes a while, so that the last stage is not over before the signal comes.
    slow.touch()
    startup = f"import os, time; time.sleep(3 if os.path.exists({str(slow)!r}) else 0)"
    spec.write_text(f'[[engines]]\ncount = 1\nstartup = "{startup}"\n')
    argv = [program, "up", str(spec)]
    up = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert up.stderr is not None
    while line := up.stderr.readline():
        if line.startswith(stage):
            break
    try:
        up.wait(random.Random(f"{stage} {seed}").uniform(0, 0.4))  # usually longer than the stage before it
    except subprocess.TimeoutExpired:
        # As a terminal does: to every process of the job.
        os.killpg(up.pid, signum)
    while again and up.poll() is None:
        try:
            up.wait(0.02)
        except subprocess.TimeoutExpired:
            os.killpg(up.pid, signum)
    out, err = up.communicate(timeout=SOON)
    slow.unlink()
    return up.returncode, out, err


SEEDS = [pytest.param(0, id="once"), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 6))]
SIGNALS = {
    signal.SIGINT: STAGES,
    signal.SIGTERM: ("registration",),
    signal.SIGHUP: ("controller start",),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("signum", "stage"),
    [pytest.param(signum, stage, id=f"{signum.name} {stage}") for signum, all_ in SIGNALS.items() for stage in all_],
)
def test_an_interrupted_up_leaves_nothing(
    signum: signal.Signals,
    stage: str,
    seed: int,
    programs: Callable[[str], str],
    processes: Callable[[], list[str]],
    traces: Callable[[Path], list[str]],
) -> None:
    code, out, err = interrupt_up(programs("stoker"), signum, stage=stage, seed=seed)

    assert (code, out, err.splitlines()[-1]) == (130, "", "stoker: interrupted")
    assert processes() == []
    assert traces(find_ipython_dir()) == []


def test_an_impatient_second_interrupt_does_not_cut_the_cleaning_short(
    programs: Callable[[str], str], processes: Callable[[], list[str]], traces: Callable[[Path], list[str]]
) -> None:
    code, out, err = interrupt_up(programs("stoker"), signal.SIGINT, stage="registration", seed=0, again=True)

    assert (code, out, err.splitlines()[-1]) == (130, "", "stoker: interrupted")
    assert processes() == []
    assert traces(find_ipython_dir()) == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("stage", "command"),
    [("profile", "down"), ("controller start", "up"), ("connection file", "down"), ("registration", "up")],
)
def test_after_an_up_that_was_killed_the_next_command_cleans_up(
    stage: str,
    command: str,
    seed: int,
    programs: Callable[[str], str],
    run_stoker: Callable[..., Any],
    wait_until: Callable[..., Any],
    processes: Callable[[], list[str]],
    traces: Callable[[Path], list[str]],
) -> None:
    code, _, err = interrupt_up(programs("stoker"), signal.SIGKILL, stage=stage, seed=seed)

    ran = run_stoker(command, "lab")
    if command == "up":
        assert ran.code == 0, ran.err
        # Controller, supervisor, agent and engine, and none of a run before.
        assert len(set(leaders(lab()))) == 4
        wait_until(lambda: len(processes()) == PROCESSES)
        ran = run_stoker("down", "lab")

    assert code == -signal.SIGKILL, err
    if ran.code == 0:
        assert processes() == []
        assert traces(find_ipython_dir()) == []
        return
    # There was nothing yet to be taken down, or not any more: what was begun ends by itself. Perhaps half-written files
    # are left, which the next `up` removes.
    assert (ran.code, ran.err) == (1, "stoker: lab: no cluster that stoker started runs under this profile\n")
    wait_until(lambda: not processes(), timeout=GONE)
    left = traces(find_ipython_dir())
    assert [path for path in left if ".stoker-" not in path] == []
    apply_plan(read_plan(read_spec(Path.home() / "lab.toml")))
    remove_traces(lab(), "")
    assert traces(find_ipython_dir()) == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stage", STAGES)
def test_of_an_up_that_was_killed_nothing_is_left_a_moment_later(
    stage: str,
    seed: int,
    programs: Callable[[str], str],
    wait_until: Callable[..., Any],
    processes: Callable[[], list[str]],
    traces: Callable[[Path], list[str]],
) -> None:
    code, _, err = interrupt_up(programs("stoker"), signal.SIGKILL, stage=stage, seed=seed)

    wait_until(lambda: not processes(), timeout=GONE)

    assert code == -signal.SIGKILL, err
    # Only what the killed process itself was writing.
    assert [path for path in traces(find_ipython_dir()) if ".stoker-" not in path] == []
    apply_plan(read_plan(read_spec(Path.home() / "lab.toml")))
    assert traces(find_ipython_dir()) == []


def test_an_up_from_python_that_is_interrupted_leaves_nothing(
    processes: Callable[[], list[str]], traces: Callable[[Path], list[str]]
) -> None:
    def interrupt(stage: str) -> None:
        if stage == "registration":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start_cluster(make_spec(), on_stage=interrupt)

    assert processes() == []
    assert traces(find_ipython_dir()) == []
    with pytest.raises(NotRunningError):
        stoker.connect("lab")
