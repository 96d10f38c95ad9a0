"""What plain ipyparallel makes of old settings today: the ground on which stoker's own words about them stand."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stoker.profile import ProfileDirectory
from stoker.profile.check import check_profile

pytestmark = pytest.mark.live

CONTROLLER = "ipcontroller_config.py"
ENGINE = "ipengine_config.py"
CLUSTER = "ipcluster_config.py"
PATIENCE = 40.0
"""Seconds for what takes one or two on a machine that has nothing else to do."""

FAST = {CONTROLLER: "c.HeartMonitor.period = 200", CLUSTER: "c.Cluster.delay = 0\nc.LocalEngineSetLauncher.delay = 0"}


@dataclass
class Process:
    """A program of plain ipyparallel on a profile."""

    popen: subprocess.Popen[bytes]
    log: Path
    profile: Path

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def ended(self) -> int:
        """Wait for it to end by itself, and give its status."""
        return self.popen.wait(PATIENCE)

    def says(self, pattern: str, *, timeout: float = PATIENCE) -> bool:
        """Wait until it has printed something; False if it ended or the time is over before."""
        deadline = time.monotonic() + timeout
        while not re.search(pattern, self.text):
            if self.popen.poll() is not None or time.monotonic() > deadline:
                return bool(re.search(pattern, self.text))
            time.sleep(0.02)
        return True

    def warnings(self) -> list[str]:
        """What it warned of, without time and name."""
        lines = [line.partition("WARNING | ")[2] for line in self.text.splitlines() if "WARNING | " in line]
        return [line for line in lines if "CurveZMQ" not in line]

    @property
    def connection(self) -> dict[str, Any]:
        """The connection file for clients, which it waits for."""
        path = self.profile / "security" / "ipcontroller-client.json"
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self.popen.poll() is None, self.text
            with contextlib.suppress(OSError, ValueError):
                data: dict[str, Any] = json.loads(path.read_text())
                return data
            time.sleep(0.02)
        raise AssertionError(self.text)

    def stop(self) -> None:
        """End it, and whatever it started."""
        if self.popen.poll() is None:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(5)


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A profile that nobody touched."""
    directory = tmp_path / "ipython" / "profile_old"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def plain(profile: Path, tmp_path: Path, programs: Callable[[str], str], processes: Callable[[], list[str]]) -> Any:
    """Starts programs of plain ipyparallel on the profile with these files; all of them are ended afterwards."""
    started: list[Process] = []

    def start(name: str, *words: str, **files: str) -> Process:
        for stem, text in files.items():
            (profile / f"{stem}_config.py").write_text(f"{text}\n")
        log = tmp_path / f"{name}-{len(started)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [programs(name), *words, "--profile-dir", str(profile)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
                start_new_session=True,
            )
        process = Process(popen, log, profile)
        started.append(process)
        return process

    def run() -> Iterator[Any]:
        yield start
        for process in reversed(started):
            process.stop()
        _end_others()
        for path in (profile / "security").glob("*.json"):
            path.unlink()

    yield from run()


def _end_others() -> None:
    # ipcluster gives controller and engines sessions of their own.
    from stoker.system.processes import find_marked

    for process in find_marked("STOKER_TEST", os.environ["STOKER_TEST"]):
        if process.pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def controller(plain: Any) -> Process:
    """A controller without any old setting."""
    process: Process = plain("ipcontroller", ipcontroller=FAST[CONTROLLER])
    assert process.connection
    return process


def _says(profile: Path) -> list[str]:
    return [finding.today for finding in check_profile(ProfileDirectory(profile))]


CRASH = (
    'ipcontroller binds its registration port twice and dies ("Address already in use"): a wildcard for only one of '
    "clients and engines"
)


def test_plain_ipcontroller_dies_of_the_profile_of_the_tutorial(plain: Any, profile: Path) -> None:
    process = plain(
        "ipcontroller",
        ipcontroller="c.HubFactory.client_ip = '*'\n"
        "c.RegistrationFactory.ip = '*'\n"
        "c.TaskScheduler.scheme_name = 'leastload'",
        ipcluster="c.IPClusterEngines.engine_launcher_class = 'ipyparallel.apps.launcher.LocalEngineSetLauncher'",
    )

    status = process.ended()

    assert (status, "zmq.error.ZMQError: Address already in use" in process.text) == (1, True)
    assert process.warnings() == [
        "c.HubFactory.client_ip is deprecated in ipyparallel 7, use c.IPController.client_ip = *"
    ]
    assert [(finding.path.name, finding.line) for finding in check_profile(ProfileDirectory(profile))] == [
        (CONTROLLER, 1),
        (CONTROLLER, 2),
        (CLUSTER, 1),
    ]


@pytest.mark.parametrize(
    ("text", "today"),
    [
        pytest.param("c.HubFactory.client_ip = '*'", CRASH, id="HubFactory.client_ip"),
        pytest.param("c.HubFactory.engine_ip = '*'", CRASH, id="HubFactory.engine_ip"),
        pytest.param("c.IPController.client_ip = '0.0.0.0'", CRASH, id="IPController.client_ip"),
        pytest.param(
            "c.IPController.ports = '10101-10140'",
            'ipcontroller refuses it and ends ("Bad config encountered during initialization")',
            id="ports as text",
        ),
        pytest.param(
            "c.IPController.engine_ports = '10101-10140'",
            'ipcontroller refuses it and ends ("Bad config encountered during initialization")',
            id="a pool as text",
        ),
        pytest.param(
            "c.HubFactory.db_class = 'IPython.parallel.controller.dictdb.NoDB'",
            "ipcontroller refuses it and ends: there is no module IPython.parallel any more",
            id="an old database",
        ),
        pytest.param("c.IPController.enable_curve = 'yes'", "ipcontroller refuses it and ends", id="a refused value"),
        pytest.param("c.HeartMonitor.period = 'two'", "ipcontroller refuses it and ends", id="of a part of the hub"),
    ],
)
def test_plain_ipcontroller_ends(plain: Any, profile: Path, text: str, today: str) -> None:
    process = plain("ipcontroller", ipcontroller=text)

    assert process.ended() == 1
    assert [today in found for found in _says(profile)] == [True]


@pytest.mark.parametrize(
    ("text", "interface", "warnings", "today"),
    [
        pytest.param(
            "c.HubFactory.ip = '*'",
            "tcp://*",
            ["c.HubFactory.ip is deprecated in ipyparallel 7, use c.IPController.ip = *"],
            ["translated to c.IPController.ip, with a warning"],
            id="HubFactory.ip",
        ),
        pytest.param(
            "c.IPControllerApp.ip = '*'",
            "tcp://*",
            ["c.IPControllerApp.ip is deprecated in ipyparallel 7, use c.IPController.ip = *"],
            ["translated to c.IPController.ip, with a warning"],
            id="IPControllerApp.ip",
        ),
        pytest.param(
            "c.HubFactory.ip = '*'\nc.IPController.ip = '127.0.0.1'",
            "tcp://127.0.0.1",
            ["Ignoring c.HubFactory.ip = *, overridden by c.IPController.ip = 127.0.0.1"],
            ["ignored, with a warning: c.IPController.ip is set too and wins"],
            id="the old name beside the new one",
        ),
        pytest.param(
            "c.HubFactory.client_ip = '*'\nc.HubFactory.engine_ip = '*'",
            "tcp://*",
            [
                "c.HubFactory.client_ip is deprecated in ipyparallel 7, use c.IPController.client_ip = *",
                "c.HubFactory.engine_ip is deprecated in ipyparallel 7, use c.IPController.engine_ip = *",
            ],
            [
                "translated to c.IPController.client_ip, with a warning",
                "translated to c.IPController.engine_ip, with a warning",
            ],
            id="both wildcards",
        ),
        pytest.param(
            "c.RegistrationFactory.ip = '*'\nc.SchedulerFactory.ip = '*'\nc.IPControler.ip = '*'",
            "tcp://127.0.0.1",
            [],
            [
                "ignored in silence: there is no such class any more, and the controller listens where it would "
                "without this line (127.0.0.1 by default)",
                "ignored in silence: there is no such class any more, and the controller listens where it would "
                "without this line (127.0.0.1 by default)",
                "ignored in silence: ipyparallel, IPython and ipykernel have no class of this name",
            ],
            id="classes that are not there",
        ),
        pytest.param(
            "c.IPController.ipp = '*'",
            "tcp://127.0.0.1",
            ["Config option `ipp` not recognized by `IPController`.  Did you mean `ip`?"],
            ["ignored, with a warning: IPController has no such trait"],
            id="a trait that is not there",
        ),
        pytest.param(
            "c.HubFactory.secure = True",
            "tcp://127.0.0.1",
            [
                "c.HubFactory.secure is deprecated in ipyparallel 7, use c.IPController.secure = True",
                "Config option `secure` not recognized by `IPController`.",
            ],
            [
                "translated to c.IPController.secure, with a warning; there ignored, with a warning: IPController has "
                "no such trait"
            ],
            id="an old name whose trait is gone",
        ),
        pytest.param(
            "c.IPController.log_url = 'tcp://127.0.0.1:20202'",
            "tcp://127.0.0.1",
            [],
            ["its log is sent to nobody: ipyparallel's log collector (iplogger) is dead"],
            id="log_url",
        ),
        pytest.param(
            "c.TaskScheduler.scheme_name = 'lru'\nc.TaskScheduler.hwm = 0",
            "tcp://127.0.0.1",
            [],
            [],
            id="still current",
        ),
    ],
)
def test_plain_ipcontroller_comes_up(
    plain: Any, profile: Path, text: str, interface: str, warnings: list[str], today: list[str]
) -> None:
    process = plain("ipcontroller", ipcontroller=text)

    assert process.connection["interface"] == interface
    assert process.warnings() == warnings
    assert _says(profile) == today


@pytest.mark.parametrize(
    ("text", "today"),
    [
        pytest.param(
            "c.IPController.enable_curve = True\n1 / 0", "raises ZeroDivisionError: division by zero", id="raises"
        ),
        pytest.param(
            "c.IPController.enable_curve = True\nx =", "is no Python (line 2: invalid syntax)", id="no Python"
        ),
        pytest.param(
            "from IPython.parallel import Client\nc.IPController.enable_curve = True",
            "there is no such module any more: the file raises here and is dropped whole",
            id="IPython.parallel",
        ),
    ],
)
def test_plain_ipcontroller_comes_up_unencrypted_where_its_file_raises(
    plain: Any, profile: Path, text: str, today: str
) -> None:
    process = plain("ipcontroller", ipcontroller=text)

    assert process.connection["curve_serverkey"] is None or process.connection["curve_serverkey"] == ""
    assert "Exception while loading config file" in process.text
    assert today in _says(profile)[0]
    assert "unencrypted" in _says(profile)[0]


@pytest.mark.parametrize(
    ("text", "error", "today"),
    [
        pytest.param(
            "c.TaskScheduler.scheme_name = 'leastlaod'",
            "traitlets.traitlets.TraitError: The 'scheme_name' trait",
            "the scheduler's process dies at the start, the controller stays up without it: load-balanced views wait "
            "for ever",
            id="a misspelt scheduler",
        ),
        pytest.param(
            "c.TaskScheduler.hwm = 'two'",
            "traitlets.traitlets.TraitError: The 'hwm' trait",
            "the scheduler's process dies at the start, the controller stays up without it: The 'hwm' trait of a "
            "TaskScheduler instance expected an int, not the str 'two'",
            id="a refused value",
        ),
        pytest.param(
            "c.IPController.mux = (PORT, PORT + 1)",
            "zmq.error.ZMQError: Address already in use",
            "its first port is put into both pools, its second one is lost: two sockets get the same port, and a "
            'scheduler may die at the start ("Address already in use") while the controller stays up',
            id="mux",
        ),
    ],
)
def test_plain_ipcontroller_stays_up_without_one_of_its_schedulers(
    plain: Any, profile: Path, free_ports: Callable[[int], tuple[int, ...]], text: str, error: str, today: str
) -> None:
    port = free_ports(2)[0]
    process = plain("ipcontroller", ipcontroller=text.replace("PORT + 1", str(port + 1)).replace("PORT", str(port)))

    assert process.connection
    assert process.says(re.escape(error))
    time.sleep(0.5)
    assert process.popen.poll() is None
    assert _says(profile) == [today]


def test_without_a_scheme_there_is_no_task_scheduler(plain: Any, profile: Path) -> None:
    process = plain("ipcontroller", ipcontroller="c.TaskScheduler.scheme_name = 'none'")

    assert process.connection["task_scheme"] == "none"
    assert process.says("task::using no Task scheduler")
    assert _says(profile) == ["the controller starts no task scheduler: load-balanced views wait for ever"]


@pytest.mark.parametrize(
    ("text", "pool", "today"),
    [
        pytest.param("c.IPController.regport = PORT", "engine", "engine_ports", id="regport"),
        pytest.param("c.HubFactory.hb = (PORT, PORT + 1)", "engine", "engine_ports", id="hb"),
        pytest.param("c.IPController.notifier_port = PORT", "client", "client_ports", id="notifier_port"),
        pytest.param("c.IPController.mon_port = PORT", "common", "ports", id="mon_port"),
    ],
)
def test_a_single_port_goes_to_a_pool(
    plain: Any, profile: Path, free_ports: Callable[[int], tuple[int, ...]], text: str, pool: str, today: str
) -> None:
    port = free_ports(2)[0]
    process = plain("ipcontroller", ipcontroller=text.replace("PORT + 1", str(port + 1)).replace("PORT", str(port)))

    assert process.connection
    assert any("is deprecated in IPython Parallel 7" in warning for warning in process.warnings())
    assert any(f"{pool} ports" in warning for warning in process.warnings()) or pool == "common"
    assert f"put at the end of c.IPController.{today}, with a warning" in _says(profile)[0]


@pytest.mark.parametrize(
    ("text", "warning", "today"),
    [
        pytest.param(
            "c.EngineFactory.timeout = 33",
            "c.EngineFactory.timeout is deprecated in ipyparallel 7, use c.IPEngine.timeout = 33",
            "translated to c.IPEngine.timeout, with a warning",
            id="EngineFactory",
        ),
        pytest.param(
            "c.IPEngineApp.startup_command = 'x = 1'",
            "c.IPEngineApp.startup_command is deprecated in ipyparallel 7, use c.IPEngine.startup_command = x = 1",
            "translated to c.IPEngine.startup_command, with a warning",
            id="IPEngineApp",
        ),
    ],
)
def test_plain_ipengine_translates(
    plain: Any, profile: Path, controller: Process, text: str, warning: str, today: str
) -> None:
    process = plain("ipengine", ipengine=text)

    assert process.says("Completed registration")
    assert warning in process.warnings()
    assert _says(profile) == [today]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("c.IPEngine.log_url = 'tcp://127.0.0.1:20202'", id="IPEngine"),
        pytest.param("c.EngineFactory.log_url = 'tcp://127.0.0.1:20202'", id="EngineFactory"),
        pytest.param("c.BaseParallelApplication.log_url = 'tcp://127.0.0.1:20202'", id="the base class"),
    ],
)
def test_plain_ipengine_dies_of_a_log_url(plain: Any, profile: Path, controller: Process, text: str) -> None:
    process = plain("ipengine", ipengine=text)

    assert process.ended() == 1
    assert "AttributeError: 'IPEngine' object has no attribute 'engine'" in process.text
    assert "every engine dies at the start" in _says(profile)[0]


@pytest.mark.parametrize(
    ("text", "today"),
    [
        pytest.param("c.IPClusterEngines.n = 1", "translated to c.Cluster.n by the command ipcluster", id="n"),
        pytest.param(
            "c.Cluster.n = 1\n"
            "c.IPClusterStart.engine_launcher_class = 'ipyparallel.apps.launcher.LocalEngineSetLauncher'",
            "translated to c.Cluster.engine_launcher_class by the command ipcluster",
            id="a launcher",
        ),
    ],
)
def test_plain_ipcluster_translates_with_two_warnings(plain: Any, profile: Path, text: str, today: str) -> None:
    process = plain("ipcluster", "start", ipcontroller=FAST[CONTROLLER], ipcluster=f"{FAST[CLUSTER]}\n{text}")

    assert process.says("Starting 1 engines with")
    warnings = process.warnings()
    assert [
        ("not recognized by `IPClusterStart`" in warnings[0]),
        ("is deprecated in ipyparallel 7" in warnings[1]),
    ] == [
        True,
        True,
    ]
    assert [today in found for found in _says(profile)] == [True]


def test_python_code_that_makes_a_cluster_translates_nothing(profile: Path, run: Callable[..., Any]) -> None:
    (profile / CLUSTER).write_text("c.IPClusterEngines.n = 7\nc.Cluster.delay = 3\n")

    ran = run(
        sys.executable,
        "-c",
        f"import ipyparallel; c = ipyparallel.Cluster(profile_dir={str(profile)!r}); print(c.n, c.delay)",
    )

    assert ran.check().out.splitlines()[-1] == "None 3.0"
    assert "ignored where Python code makes an ipyparallel.Cluster" in _says(profile)[0]


@pytest.mark.parametrize(
    ("text", "today"),
    [
        pytest.param(
            "c.Cluster.engine_launcher_class = 'SSHEngineSetLauncher'",
            "a bare class name must be a type, but could not be imported",
            id="bare",
        ),
        pytest.param(
            "c.Cluster.controller_launcher_class = 'LocalControllerLauncher'",
            "a bare class name must be a type, but could not be imported",
            id="bare, controller",
        ),
        pytest.param(
            "c.IPClusterEngines.engine_launcher_class = 'WindowsHPCEngineSetLauncher'",
            "a bare class name must be a type, but could not be imported",
            id="bare, winhpc, translated",
        ),
        pytest.param(
            "c.Cluster.engine_launcher_class = 'IPython.parallel.apps.launcher.LocalEngineSetLauncher'",
            "it could not be imported, IPython.parallel is gone",
            id="IPython.parallel",
        ),
        pytest.param("c.Cluster.engine_launcher_class = 'slrum'", "'slrum' could not be imported", id="misspelt"),
        pytest.param("c.Cluster.n = 'four'", "The 'n' trait of a Cluster instance expected an int", id="refused"),
    ],
)
def test_plain_ipcluster_refuses_and_ends(plain: Any, profile: Path, text: str, today: str) -> None:
    process = plain("ipcluster", "start", ipcluster=text)

    assert process.ended() == 1
    assert "Bad config encountered during initialization" in process.text
    assert [("ipcluster refuses it and ends" in found, today in found) for found in _says(profile)] == [(True, True)]


@pytest.mark.long
def test_plain_ipcluster_hangs_with_windows_hpc_engines(plain: Any, profile: Path) -> None:
    process = plain(
        "ipcluster",
        "start",
        ipcontroller=FAST[CONTROLLER],
        ipcluster=f"{FAST[CLUSTER]}\nc.Cluster.engine_launcher_class = 'winhpc'",
    )
    assert process.says("No such file or directory: 'job'")
    time.sleep(1)
    assert process.popen.poll() is None

    process.popen.terminate()

    assert process.says("object has no attribute 'job_id'")
    with pytest.raises(subprocess.TimeoutExpired):
        process.popen.wait(5)
    process.popen.kill()
    assert _says(profile) == [
        "away from Windows ipcluster hangs: the start fails in a callback, nothing ends it but SIGKILL"
    ]


def test_plain_ipcluster_hangs_without_a_controller_with_a_windows_hpc_one(plain: Any, profile: Path) -> None:
    process = plain("ipcluster", "start", ipcluster="c.Cluster.controller_launcher_class = 'winhpc'")

    assert process.says("TypeError: WindowsHPCLauncher.start")
    time.sleep(1)
    assert process.popen.poll() is None
    assert _says(profile) == ["away from Windows ipcluster hangs at the start without a controller"]


MPI = f"{FAST[CLUSTER]}\nc.Cluster.n = 1\nc.MPILauncher.mpi_cmd = ['echo']"


def test_sections_of_mpiexec_launchers_are_ignored_in_silence(plain: Any, profile: Path) -> None:
    text = "c.MPIExecEngineSetLauncher.mpi_args = ['--old']\nc.Cluster.engine_launcher_class = 'mpi'"
    process = plain("ipcluster", "start", "--debug", ipcontroller=FAST[CONTROLLER], ipcluster=f"{MPI}\n{text}")

    assert process.says("Starting MPIEngineSetLauncher")
    assert "--old" not in process.text
    assert "MPIExec" not in process.text
    assert _says(profile) == [
        "ignored in silence, unless c.Cluster.engine_launcher_class names MPIExecEngineSetLauncher itself"
    ]


def test_an_mpiexec_launcher_works_with_a_warning_and_its_own_section(plain: Any, profile: Path) -> None:
    name = "ipyparallel.cluster.launcher.MPIExecEngineSetLauncher"
    text = f"c.MPIExecEngineSetLauncher.mpi_args = ['--old']\nc.Cluster.engine_launcher_class = '{name}'"
    process = plain("ipcluster", "start", "--debug", ipcontroller=FAST[CONTROLLER], ipcluster=f"{MPI}\n{text}")

    assert process.says("Starting MPIExecEngineSetLauncher.*--old")
    assert "MPIExecEngineSetLauncher name is deprecated, use MPIEngineSetLauncher" in process.text
    assert _says(profile)[1] == "works, with a warning: the class is deprecated"


def test_the_old_module_of_launchers_works_with_a_warning_that_nobody_sees(plain: Any, profile: Path) -> None:
    text = "c.Cluster.n = 1\nc.Cluster.engine_launcher_class = 'ipyparallel.apps.launcher.LocalEngineSetLauncher'"
    process = plain("ipcluster", "start", ipcontroller=FAST[CONTROLLER], ipcluster=f"{FAST[CLUSTER]}\n{text}")

    assert process.says("Starting 1 engines with .*LocalEngineSetLauncher")
    assert "deprecated" not in process.text
    assert "works, with a DeprecationWarning that nobody sees" in _says(profile)[0]


def test_options_of_slurm_reach_no_job(profile: Path, run: Callable[..., Any]) -> None:
    (profile / CLUSTER).write_text("c.SlurmEngineSetLauncher.options = '--mem=4G'\nc.SlurmLauncher.account = 'lab'\n")
    code = (
        "import ipyparallel as ipp\n"
        f"c = ipp.Cluster(profile_dir={str(profile)!r}, engines='slurm')\n"
        "e = c.engine_launcher_class(parent=c, profile_dir=c.profile_dir, work_dir='.')\n"
        "e.write_batch_script(2)\n"
        "print(e.options, '--account=lab' in open(e.batch_file).read(), '--mem' in open(e.batch_file).read())\n"
    )

    ran = run(sys.executable, "-c", code, cwd=profile)

    assert ran.check().out.splitlines()[-1] == "--mem=4G True False"
    assert _says(profile) == ["accepted and ignored: no option reaches sbatch"]


def test_what_is_no_setting_is_as_the_facts_say(
    tmp_path: Path, programs: Callable[[str], str], run: Callable[..., Any]
) -> None:
    extension = run(programs("ipcluster"), "nbextension", "enable")
    created = run(programs("ipython"), "profile", "create", "new", "--parallel")

    assert (extension.code, "requires `notebook<7`" in extension.err + extension.out) == (1, True)
    assert (created.code, created.err.count("UserWarning: ipyparallel.apps.")) == (0, 3)
