"""One host of a network for tests: see ``host_network``."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namespaces import MARK, PATH, WAIT, hold, list_pids, make_key, poll, read_namespace, read_process, run_ip

if TYPE_CHECKING:
    from host_network import HostNetwork

__all__ = ["HOME", "Host", "Socket"]

HOME = "/home/root"
"""Of who logs in, root: not /root, where this machine may have the Python that hosts use."""

_OWN = ("tmp", "root", "home", "run", "var/tmp", "dev/shm")
_STATES = {"01": "established", "0A": "listening"}
_SSHD_FILES = ("/run/sshd.pid", "/var/log/sshd.log", "/var/log/lastlog", "/var/log/wtmp", "/var/log/btmp", "/run/utmp")

_BOOT = """
set -e
mount -t tmpfs -o mode=755 none "$1"
exec 7<"$3"
cd "$1"; name=$2 shared=$3; shift 3
mkdir upper work new own
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work new
exec 8<own 9<upper
mount -t proc proc new/proc
mount -t sysfs -o ro sysfs new/sys
mount --rbind /dev new/dev
for path in tmp root home run var/tmp dev/shm; do
    mkdir -p "own/$path" "new/$path"; mount --bind "own/$path" "new/$path"
done
chmod 1777 own/tmp own/var/tmp own/dev/shm; chmod 700 own/root
for path in "$@"; do  # what lies below one of these, or on a file system of its own
    layer=layers/$#; shift
    mkdir -p "new$path" "$layer/upper" "$layer/work"
    mount -t overlay overlay -o "lowerdir=$path,upperdir=$layer/upper,workdir=$layer/work" "new$path"
done
mkdir -p "new$shared"; mount --bind /proc/self/fd/7 "new$shared"; exec 7<&-
mkdir -p new/run/sshd new/run/old
mkdir -m 700 new/home/root; sed -i 's|:/root:|:/home/root:|' new/etc/passwd
cd new; pivot_root . run/old; cd /; umount -l /run/old; rmdir /run/old
hostname "$name"; ip link set lo up
echo ready
sleep infinity & wait
"""

_NEVER_SPEAKS = """
import socket
server = socket.create_server(("", 22))
peers = []
while True:
    peers.append(server.accept())
"""


@dataclass(frozen=True)
class Socket:
    """A TCP socket of a host."""

    state: str
    local: tuple[str, int]
    remote: tuple[str, int]


class Host:
    """A machine at the switch. Paths are as it sees them."""

    def __init__(self, network: HostNetwork, name: str, address: str) -> None:
        self.network, self.name, self.address = network, name, address
        directory = network.directory / name
        directory.mkdir()
        make_key(directory.with_suffix(".key"))
        self.public_key = directory.with_suffix(".key.pub").read_text().strip()
        self.holder = hold(
            [
                *("unshare", "--mount", "--uts", "--ipc", "--pid", "--net", "--fork", "--kill-child"),
                *("sh", "-c", _BOOT, "boot", str(directory), name, str(network.shared), *_list_needed()),
            ],
            log=directory.with_suffix(".log"),
        )
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == b"ready\n", directory.with_suffix(".log").read_text()
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text().split()
        self.pid = int(children[0])
        """Of its first process, as this machine counts."""
        network.plug(name, self.pid, address)
        network.hosts[name] = self
        network.write_ssh_config()
        self.write("/etc/ssh/fixture_key", directory.with_suffix(".key").read_text(), mode=0o600)
        self.allow_logins()
        self._at_start: set[str] = set()

    # What it is asked to do.

    def run(self, *argv: object, timeout: float = WAIT, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program there to its end; options as ``subprocess.run`` has them, and ``user``."""
        options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "check": False, **options}
        if "input" in options:
            del options["stdin"]
        user, env = options.pop("user", None), options.pop("env", {})
        return subprocess.run(self._enter(argv, user), env=self._env(env), timeout=timeout, **options)

    def start(self, *argv: object, user: str | None = None, **options: Any) -> subprocess.Popen[Any]:
        """Start a program there; what is signalled must be found with ``list_processes``."""
        env = options.pop("env", {})
        return subprocess.Popen(self._enter(argv, user), **{"stdin": subprocess.DEVNULL, **options}, env=self._env(env))

    def path(self, path: str) -> Path:
        """Give a way from this machine to a file there, as long as it runs."""
        return Path(f"/proc/{self.pid}/root{path}")

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file there."""
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)
        self.path(path).chmod(mode)

    # Its network.

    def cut(self) -> None:
        """Pull its network cable."""
        self.network.set_port(self.name, up=False)

    def reconnect(self) -> None:
        """Plug it in again."""
        self.network.set_port(self.name, up=True)

    def close_ports(self, *, silently: bool = False) -> None:
        """Let nothing through but connections to its own port 22.

        Args:
            silently: What is sent is lost; else whoever connects from there is told at once that there is no route.
        """
        # The table that knows its own addresses comes first, and would let everything in: only for itself, now.
        rules = [
            *("rule add pref 10 iif lo lookup local", "rule add pref 100 lookup local", "rule del pref 0"),
            "rule add pref 20 iif eth0 ipproto tcp dport 22 lookup local",
            *(f"rule add pref 21 iif eth0 ipproto {each} blackhole" for each in ("tcp", "udp")),
        ]
        if not silently:
            rules += [
                "rule add pref 30 iif lo ipproto tcp sport 22 lookup main",
                *(
                    f"rule add pref 31 iif lo to {self.address}/24 ipproto {each} unreachable"
                    for each in ("tcp", "udp")
                ),
            ]
        run_ip(self.pid, *rules)

    def open_ports(self) -> None:
        """Let everything through again."""
        run_ip(self.pid, "rule add pref 0 lookup local", *(f"rule del pref {n}" for n in (10, 100, 20, 21, 21)))
        for pref in (30, 31, 31):
            self.run("ip", "rule", "del", "pref", pref)

    def list_sockets(self) -> list[Socket]:
        """List its TCP sockets that are connected or listen."""
        found = []
        for name in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self.pid}/net/{name}").read_text().splitlines()[1:]:
                _, local, remote, state, *_ = line.split()
                if state in _STATES:
                    found.append(Socket(_STATES[state], _parse_address(local), _parse_address(remote)))
        return found

    def count_logins(self) -> int:
        """Count the connections to its sshd."""
        return sum(each.state == "established" and each.local[1] == 22 for each in self.list_sockets())

    # Its processes.

    def list_processes(self, *, all: bool = False) -> dict[int, str]:  # noqa: A002
        """List its processes: command lines by process number, as this machine counts.

        Args:
            all: Those that make it a host, too: its first and sshd's.
        """
        mine = [pid for pid in list_pids() if read_namespace(pid, "pid") == read_namespace(self.pid, "pid")]
        return {
            pid: read_process(pid, "cmdline").replace("\0", " ").strip() for pid in mine if all or not _is_fixture(pid)
        }

    def freeze(self) -> None:
        """Stop every process there but its first; its system still answers for them."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal_all(signal.SIGCONT)

    def end(self) -> None:
        """Switch it off: everything there is gone at once, and says nothing."""
        if self.holder.poll() is None:
            # What ends is not to say so.
            self.cut()
            # Not the holder, which reaps it: as an orphan it would be left to the reaper of this machine.
            os.kill(self.pid, signal.SIGKILL)
            self.holder.wait(WAIT)

    def limit_processes(self, count: int) -> None:
        """Let each user who logs in from now on have so many processes at the most; root has no such limit."""
        self.run("prlimit", f"--nproc={count}", f"--pid={self._sshd_pid}").check_returncode()

    # Its sshd.

    def start_sshd(self, *options: str) -> None:
        """Start it; options as sshd_config(5) has them, each ``Name=value``."""
        settings = {
            **{"HostKey": "/etc/ssh/fixture_key", "AuthorizedKeysFile": "/etc/ssh/fixture_authorized"},
            **{"StrictModes": "no", "UsePAM": "no", "PidFile": "/run/sshd.pid", "PasswordAuthentication": "no"},
            **{"KbdInteractiveAuthentication": "no", "Subsystem": "sftp internal-sftp"},
            **dict(each.split("=", 1) for each in options),
        }
        words = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        argv = ["/usr/sbin/sshd", "-f", "/dev/null", "-E", "/var/log/sshd.log", *words]
        self.run(*argv, env={MARK: "1"}).check_returncode()
        self._await_port(True)

    def stop_sshd(self) -> None:
        """Let it listen no more; connections that there are stay."""
        for pid in self._list_listeners():
            os.kill(pid, signal.SIGTERM)
        self._await_port(False)

    def restart_sshd(self, *options: str) -> None:
        """Start it with other options; connections that there are stay."""
        self.stop_sshd()
        self.start_sshd(*options)

    def stall_logins(self) -> None:
        """Have something in place of sshd that takes connections and never says a word."""
        self.stop_sshd()
        self.start("python3", "-c", _NEVER_SPEAKS, env={MARK: "1"})
        self._await_port(True)

    def end_logins(self) -> None:
        """Kill the sshd processes of connections that there are, and nothing else."""
        listeners = set(self._list_listeners())
        for pid in self.list_processes(all=True).keys() - listeners:
            if read_process(pid, "comm").startswith("sshd"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def allow_logins(self) -> None:
        """Let this machine's key in, as whatever user."""
        self.write("/etc/ssh/fixture_authorized", (self.network.directory / "id.pub").read_text())

    def refuse_logins(self) -> None:
        """Let no key in."""
        self.write("/etc/ssh/fixture_authorized", "")

    def change_key(self) -> None:
        """Have a host key that this machine does not know, as a host that was set up anew."""
        fresh = self.network.directory / f"{self.name}.fresh"
        make_key(fresh)
        self.write("/etc/ssh/fixture_key", fresh.read_text(), mode=0o600)
        self.public_key = fresh.with_suffix(".fresh.pub").read_text().strip()
        self.restart_sshd()

    # Its files.

    def note_files(self) -> None:
        """Take what is there now for how it was at its start."""
        self._at_start = set(self._list_files())

    def list_changes(self) -> list[str]:
        """List the files there that did not exist at its start, or were changed; without bytecode and sshd's own."""
        new = set(self._list_files()) - self._at_start
        return sorted(path for path in new if not path.endswith(".pyc") and path not in _SSHD_FILES)

    def hide(self, *paths: str) -> None:
        """Have no such file or directory there."""
        self.run("rm", "-rf", *paths).check_returncode()

    def fill_disk(self, path: str) -> None:
        """Put a file system on a directory there that has no room at all."""
        self._mount("-t", "tmpfs", "-o", "size=64k", "none", path)
        with contextlib.suppress(OSError):
            self.path(f"{path}/full").write_bytes(bytes(1 << 17))

    def forbid_writing(self, path: str) -> None:
        """Have a directory there that not even root can write in."""
        self._mount("--bind", path, path)
        self._mount("-o", "remount,ro,bind", path)

    def add_user(self, name: str, uid: int) -> None:
        """Have a user there, with a home."""
        self._append("/etc/passwd", f"{name}:x:{uid}:{uid}::/home/{name}:/bin/sh\n")
        self._append("/etc/shadow", f"{name}:*:19000:0:99999:7:::\n")
        self._append("/etc/group", f"{name}:x:{uid}:\n")
        self.run("install", "-d", "-m", "700", "-o", str(uid), "-g", str(uid), f"/home/{name}").check_returncode()

    def _append(self, path: str, text: str) -> None:
        self.path(path).write_text(self.path(path).read_text() + text)

    def _mount(self, *words: str) -> None:
        self.run("mount", *words).check_returncode()

    def _list_files(self) -> Iterator[str]:
        for handle in (8, 9):
            top = f"/proc/{self.pid}/fd/{handle}/"
            for directory, _, names in os.walk(top):
                for name in names:
                    path = Path(directory, name)
                    with contextlib.suppress(OSError):
                        # What is deleted is a character device there.
                        if not stat.S_ISCHR(path.lstat().st_mode):
                            yield "/" + str(path).removeprefix(top)

    def _enter(self, argv: tuple[object, ...] | list[str], user: str | None) -> list[str]:
        words = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "--"]
        if user is not None:
            words += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--"]
        return [*words, *(str(word) for word in argv)]

    def _env(self, more: Mapping[str, str]) -> dict[str, str]:
        return {"PATH": PATH, "HOME": HOME, "LANG": "C.UTF-8", **more}

    def _signal_all(self, signum: int) -> None:
        done: set[int] = set()
        # A process that is about to fork may do so in between.
        while fresh := self.list_processes(all=True).keys() - done - {self.pid}:
            for pid in fresh:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)
            done |= fresh

    @property
    def _sshd_pid(self) -> int:
        return int(self.path("/run/sshd.pid").read_text())

    def _list_listeners(self) -> list[int]:
        mine = self.list_processes(all=True)
        return [pid for pid, line in mine.items() if "[listener]" in line or _NEVER_SPEAKS.strip() in line]

    def _await_port(self, is_open: bool) -> None:
        def look() -> bool:
            return is_open == any(each.state == "listening" and each.local[1] == 22 for each in self.list_sockets())

        poll(look, message=f"{self.name}: port 22 does not {'open' if is_open else 'close'}")


def _list_needed() -> list[str]:
    """List the directories that a host would not see though it must: this project's, and its Python's."""
    root = Path("/").stat().st_dev
    wanted = dict.fromkeys([Path(__file__).parents[2], Path(sys.prefix), Path(sys.base_prefix)])
    return [
        str(path)
        for path in wanted
        if path.stat().st_dev != root or any(path.is_relative_to(f"/{own}") for own in _OWN)
    ]


def _is_fixture(pid: int) -> bool:
    # sshd writes over its environment.
    return read_process(pid, "comm").startswith("sshd") or f"{MARK}=" in read_process(pid, "environ")


def _parse_address(text: str) -> tuple[str, int]:
    address, port = text.split(":")
    # The last four bytes of an IPv6 address are an IPv4 address that is mapped, in the order of this machine.
    return socket.inet_ntoa(bytes.fromhex(address[-8:])[::-1]), int(port, 16)
