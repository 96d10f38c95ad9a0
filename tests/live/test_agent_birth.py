"""An engine fresh from fork is as fresh as one with an interpreter of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ipyparallel
import pytest
from agent_hosts import WAIT, Host, Hub, poll

from stoker.compute import portable

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

ROUNDS = 25


def draw() -> dict[str, Any]:
    """Draw from everything that is to differ between two processes."""
    import multiprocessing
    import os
    import random
    import secrets
    import tempfile
    import uuid

    import numpy
    from ipyparallel.engine.app import IPEngine

    engine = IPEngine.instance()
    return {
        "pid": os.getpid(),
        "identity": engine.ident,
        "public key": engine.curve_publickey,
        "secret key": engine.curve_secretkey,
        "session": engine.session.session,
        "random": random.random(),
        "numpy": numpy.random.random(),
        "numpy's state": hash(numpy.random.get_state()[1].tobytes()),
        "secrets": secrets.token_hex(),
        "uuid1": uuid.uuid1().hex,
        "uuid4": uuid.uuid4().hex,
        "temporary name": tempfile.mktemp(),
        "authentication of multiprocessing": multiprocessing.current_process().authkey.hex(),
    }


def describe_process() -> dict[str, Any]:
    """Describe what a program can see of how it was started."""
    import os
    import resource
    import signal
    import subprocess
    import sys
    import time
    from pathlib import Path

    status = Path("/proc/self/status").read_text()
    child = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    handles = subprocess.run(["ls", "/proc/self/fd"], capture_output=True, text=True, check=True).stdout
    masks = ("SigBlk", "SigIgn", "ShdPnd")
    return {
        "input": str(Path("/proc/self/fd/0").readlink()),
        "output": Path("/proc/self/fd/1").samefile("/proc/self/fd/2"),
        "leads": os.getsid(0) == os.getpgid(0) == os.getpid(),
        "masks": [line for line in status.splitlines() if line.startswith(masks)],
        "masks of a child": [line for line in child.splitlines() if line.startswith((*masks, "SigCgt"))],
        # 0-2, and the directory that ls reads.
        "files of a child": handles.split(),
        "handlers": {
            each: str(signal.getsignal(each))
            for each in (signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1)
        },
        "wakeup": signal.set_wakeup_fd(-1) >= -1,
        "directory": str(Path.cwd()),
        "path": "" in sys.path,
        "environment": {name: os.environ.get(name) for name in ("COLOUR", "TZ")},
        "zone": time.strftime("%Z", time.localtime(0)),
        "names of the zone": time.tzname,
        "arguments": sys.argv[0],
        "umask": oct((mask := os.umask(0), os.umask(mask))[0]),
        "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
        "nice": os.nice(0),
        "flags": str(sys.flags),
        "main": type(sys.modules["__main__"]).__name__,
        "traced": sys.gettrace() is None and sys.getprofile() is None,
        "thread": __import__("threading").main_thread() is __import__("threading").current_thread(),
        "collects": __import__("gc").isenabled(),
        "recursion": sys.getrecursionlimit(),
        "switch": sys.getswitchinterval(),
        "encoding": (sys.getfilesystemencoding(), __import__("locale").getlocale()),
    }


def square(item: int) -> int:
    return item * item


def use_pools(rounds: int, method: str) -> list[list[int]]:
    """Start and end a pool again and again."""
    import multiprocessing
    import operator

    context = multiprocessing.get_context(method)
    found = []
    for _ in range(rounds):
        with context.Pool(2) as pool:
            found.append(pool.map(operator.neg, range(5)))
        # Leaving the block has ended its processes; this waits for them.
        pool.join()
    return found


def test_engines_have_nothing_in_common(both: Host, hub: Hub) -> None:
    both.open()
    numbers = both.start(3)

    drawn = hub.client[numbers].apply_async(portable(draw)).get(WAIT)

    same = [name for name in drawn[0] if len({str(each[name]) for each in drawn}) != 3]
    assert same == []
    assert hub.connection["curve_serverkey"] not in {each["public key"] for each in drawn}


def test_numpys_random_state_differs_also_where_the_agent_had_imported_it(host: Host, hub: Hub) -> None:
    # Without threads of its own it is no hindrance.
    env = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    program = "import numpy, numpy.random; numpy.random.seed(7); import stoker.agent.__main__ as main; main.main()"
    assert host.open(program=("-c", program), env=env)["hindrance"] == ""
    numbers = host.start(3)
    assert {Path(f"/proc/{host.pid_of(number)}/cmdline").read_bytes() for number in numbers} == {
        Path(f"/proc/{host.pid}/cmdline").read_bytes()
    }

    drawn = hub.client[numbers].apply_async(portable(draw)).get(WAIT)

    assert len({each["numpy's state"] for each in drawn}) == 3


def has_numpy() -> bool:
    import sys

    return "numpy" in sys.modules


def make_array() -> Any:
    import numpy

    return numpy.arange(6.0).reshape(2, 3)


def test_numpy_is_imported_by_the_first_who_needs_it_and_arrays_travel_as_ever(host: Host, hub: Hub) -> None:
    host.open()
    (number,) = host.start()
    view = hub.client[number]

    before = [view.apply_async(portable(has_numpy)).get(WAIT) for _ in range(2)]
    array = view.apply_async(portable(make_array)).get(WAIT)
    back = view.apply_async(portable(repr), array).get(WAIT)

    assert before == [False, False]
    assert array.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert back == repr(array)
    assert view.apply_async(portable(has_numpy)).get(WAIT)


def name_imported(*modules: str) -> list[str]:
    import sys

    return [each for each in modules if each in sys.modules]


def use_client_packages() -> dict[str, Any]:
    """Use what only the packages themselves give, as a task does."""
    import jupyter_client

    manager = jupyter_client.KernelManager(kernel_name="none")
    import ipyparallel as ipp
    from ipyparallel import util

    namespace: dict[str, Any] = {}
    exec("from ipyparallel import *", namespace)
    return {
        "manager": type(manager.client_factory).__name__,
        "specs": type(jupyter_client.kernelspec.KernelSpecManager()).__name__,
        "client": ipp.Client.__module__,
        "star": namespace.keys() ^ {name for name in dir(ipp) if not name.startswith("_")},
        "same": namespace["Client"] is ipp.Client and ipp.util is util,
        "version": ipp.__version__,
        "required": type(ipp.require("os")(len)).__name__,
        "error": ipp.error.EngineError is ipp.EngineError,
        "types": [type(ipp).__name__, type(jupyter_client).__name__],
    }


def read_a() -> Any:
    return a  # type: ignore[name-defined]  # noqa: F821


def test_tasks_of_every_kind_do_without_what_clients_import_and_whoever_wants_it_gets_it(host: Host, hub: Hub) -> None:
    host.open()
    (number,) = host.start()
    view, balanced = hub.client[number], hub.client.load_balanced_view([number])
    left_out = portable(name_imported), "ipyparallel.client.client", "ipyparallel.cluster", "jupyter_client.manager"

    view.push({"a": [1, 2]}).get(WAIT)
    assert view.pull("a").get(WAIT) == [1, 2]
    assert view.scatter("b", range(3)).get(WAIT) is not None
    assert view.map_async(portable(square), [2, 3]).get(WAIT) == [4, 9]
    assert balanced.map_async(portable(square), [2, 3]).get(WAIT) == [4, 9]
    assert view.apply_async(portable(repr), ipyparallel.Reference("a")).get(WAIT) == "[1, 2]"
    assert balanced.apply_async(ipyparallel.require("json")(portable(square)), 3).get(WAIT) == 9
    assert balanced.apply_async(ipyparallel.depend(bool, 1)(portable(square)), 3).get(WAIT) == 9
    assert view.apply_async(ipyparallel.interactive(read_a)).get(WAIT) == [1, 2]
    for failing in (view.execute("1 / 0", silent=False), view.apply_async(divmod, 1, 0)):
        with pytest.raises(ipyparallel.RemoteError, match="ZeroDivisionError"):
            failing.get(WAIT)
    assert view.apply_async(*left_out).get(WAIT) == []

    used = view.apply_async(portable(use_client_packages)).get(WAIT)

    assert used == {
        "manager": "MetaHasTraits",
        "specs": "KernelSpecManager",
        "client": "ipyparallel.client.client",
        "star": {"__builtins__"},
        "same": True,
        "version": ipyparallel.__version__,
        "required": "dependent",
        "error": True,
        "types": ["module", "module"],
    }
    assert view.apply_async(*left_out).get(WAIT) == list(left_out[1:])


def test_arguments_that_are_wrong_are_told_in_the_engines_log(host: Host) -> None:
    host.open()
    host.wire.say("start", order=host.order(7, arguments=["--log-level=nonsense", "--no-such-flag"]))

    death = host.wire.hear("died")

    assert death["number"] == 7
    assert any("log_level" in line or "no-such-flag" in line for line in death["last_lines"]), death


def test_a_forked_engine_looks_to_its_tasks_like_one_with_its_own_interpreter(host: Host, hub: Hub) -> None:
    place = host.directory / "work"
    place.mkdir()
    (place / "beside.py").write_text("found = 'beside'\n")
    host.open(env={"COLOUR": "red", "TZ": "UTC"})
    order = {"work_dir": str(place), "env": {"COLOUR": "blue", "TZ": "Asia/Tokyo"}}
    forked, fresh = host.start(**order)[0], host.start(fork=False, **order)[0]

    first, second = (hub.client[number].apply_async(portable(describe_process)).get(WAIT) for number in (forked, fresh))

    assert first == second
    expected = {
        "input": "/dev/null",
        "output": True,
        "leads": True,
        "files of a child": ["0", "1", "2", "3"],
        "directory": str(place),
        "path": True,
        "environment": {"COLOUR": "blue", "TZ": "Asia/Tokyo"},
        "zone": "JST",
        "thread": True,
        "collects": True,
    }
    assert {name: first[name] for name in expected} == expected
    for number in (forked, fresh):
        assert hub.client[number].execute("import beside; found = beside.found").get(WAIT) is not None
        assert hub.client[number].pull("found").get(WAIT) == "beside"


BIRTH = """
import json, os, signal, sys
from pathlib import Path
from stoker.agent.birth import become_engine
from stoker.agent.order import EngineOrder

# What an agent may have at that moment.
files = [open(os.devnull) for _ in range(20)]
os.dup2(files[0].fileno(), 200)
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.set_wakeup_fd(writer)
for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGINT):
    signal.signal(signum, lambda *_: None)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
agent = os.getpid()
if os.fork() == 0:
    # Before it is an engine: what it finds open is what it will keep.
    become_engine(EngineOrder(number=4, connection={}, log="4.log", work_dir=None, env={"A": "1"}), agent=agent)
    handles = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            handles[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)
    Path("seen.json").write_text(json.dumps({
        "handles": handles,
        "ignored": int(status["SigIgn"], 16),
        "caught": int(status["SigCgt"], 16),
        "blocked": int(status["SigBlk"], 16),
        "threads": status["Threads"],
        "name": status["Name"],
        "session": os.getsid(0) == os.getpid() != agent,
        "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "wakeup": signal.set_wakeup_fd(-1),
        "env": [os.environ["A"], os.environ["STOKER_ENGINE"] == str(os.getpid())],
    }))
    sys.exit(0)
os.wait()
"""


def test_a_child_is_clean_before_it_becomes_anything(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", BIRTH], cwd=tmp_path, check=True, timeout=WAIT, stdin=subprocess.PIPE)

    seen = json.loads((tmp_path / "seen.json").read_text())
    log = str(tmp_path / "4.log")
    expected = {
        "handles": {"0": "/dev/null", "1": log, "2": log},
        # SIGPIPE and SIGXFSZ, as in every interpreter.
        "ignored": 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1,
        "caught": 1 << signal.SIGINT - 1,
        "blocked": 0,
        "threads": "1",
        "name": "engine 4",
        "session": True,
        "interrupt": True,
        "wakeup": -1,
        "env": ["1", True],
    }
    # The C library keeps the first two real-time signals for itself.
    seen["caught"] &= (1 << 31) - 1
    assert seen == expected
    assert oct((tmp_path / "4.log").stat().st_mode & 0o777) == "0o600"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_inside_an_engine_ends(both: Host, hub: Hub, method: str) -> None:
    both.open()
    (number,) = both.start()
    rounds = ROUNDS if method == "fork" else 2

    found = hub.client[number].apply_async(portable(use_pools), rounds, method).get(120)

    assert found == [[0, -1, -2, -3, -4]] * rounds


@pytest.mark.parametrize(
    ("how", "ran"),
    [
        pytest.param("stop", True, id="told to end"),
        pytest.param("shutdown", True, id="a client's shutdown"),
        pytest.param("leave", True, id="the agent leaves"),
        pytest.param("SIGTERM", True, id="SIGTERM"),
        pytest.param("SIGKILL", False, id="SIGKILL"),
        pytest.param("os._exit", False, id="os._exit"),
    ],
)
def test_what_a_user_registered_for_the_end_runs(both: Host, hub: Hub, how: str, ran: bool) -> None:
    both.open()
    (number,) = both.start()
    file = both.directory / "end"
    view = hub.client[number]
    view.execute(f"import atexit; atexit.register(lambda: open({str(file)!r}, 'w').close())").get(WAIT)

    match how:
        case "stop":
            both.wire.say("stop", numbers=[number], grace=10.0)
        case "shutdown":
            hub.client.shutdown(targets=[number], block=False)
        case "leave":
            both.wire.say("leave", grace=10.0)
        case "os._exit":
            view.execute("import os; os._exit(0)")
        case _:
            hub.client.send_signal(how, targets=[number], block=True)
    both.hear_death(number)

    assert file.exists() == ran


def test_a_replacement_is_there_at_once_under_its_predecessors_number(host: Host, hub: Hub) -> None:
    host.open()
    (number,) = host.start()
    view = hub.client[number]
    times = []

    for _ in range(8):
        pid, uuid = host.pid_of(number), hub.client._engines[number]
        begin = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        host.hear_death(number)
        # At once, and yet after the hub was told that the number is free.
        host.wire.say("start", order=host.order(number))
        poll(lambda earlier=uuid: hub.client._engines.get(number) not in (None, earlier))
        assert view.apply_async(os.getpid).get(WAIT) == host.pid_of(number) != pid
        times.append(time.monotonic() - begin)

    # 0.3-0.5 s on a machine of its own.
    assert min(times) < 2.0


def read_history() -> tuple[bool, list[str]]:
    """Whether the engine keeps a database of cells, and what ``%history`` shows."""
    from IPython import get_ipython

    history = get_ipython().history_manager
    return history.enabled, [cell for _, _, cell in history.get_range()]


def test_cells_are_remembered_but_in_no_database_unless_that_is_wanted(host: Host, hub: Hub) -> None:
    host.open()
    (plain,) = host.start()
    # As of an ipengine_config.py.
    (wanted,) = host.start(config={"IPEngine": {"max_heartbeat_misses": 600}, "HistoryManager": {"enabled": True}})

    found = {}
    for number in (plain, wanted):
        hub.client[number].execute("x = 1", silent=False).get(WAIT)
        found[number] = hub.client[number].apply_async(portable(read_history)).get(WAIT)

    assert [found[number][0] for number in (plain, wanted)] == [False, True]
    assert all("x = 1" in found[number][1] for number in found)
