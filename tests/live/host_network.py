"""Hosts for tests: machines of their own as far as processes, network and files go, each with a real sshd.

Each host is a set of Linux namespaces: its own process numbers, network, name, and a file view over this machine's
(what it writes is seen by nobody else, and /tmp, /root, /home and /run are empty at its start). A switch, in one more
network namespace, joins them; this machine has one end of a cable to it. All of it hangs on the process that made it:
when that one is gone, with whatever signal, so are the hosts. Needs root, iproute2, util-linux and OpenSSH.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from namespaces import PATH, WAIT, hold, list_pids, make_key, poll, read_namespace, run_ip
from network_host import HOME, Host
from wiretap import Capture, capture_traffic

__all__ = ["HOME", "Host", "HostNetwork", "find_hindrance"]

PROGRAMS = ("ip", "unshare", "nsenter", "setpriv", "prlimit", "pivot_root", "sshd", "ssh", "ssh-keygen")
"""What must be installed."""


def find_hindrance() -> str:
    """Say why there can be no hosts here; empty where there can."""
    if os.geteuid() != 0:
        return "hosts in network namespaces need root"
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, check=False)
    return tried.stderr.decode().strip() if tried.returncode else ""


class HostNetwork:
    """Hosts at a switch, and this machine's cable to it."""

    def __init__(self, directory: Path) -> None:
        """Make the switch; hosts are added to it.

        Args:
            directory: Empty, and the network's own: keys, configuration, logs.
        """
        self.directory = directory
        self.hosts: dict[str, Host] = {}
        self.ssh_config = directory / "ssh_config"
        self.shared = directory / "shared"
        """A directory that this machine and all hosts have, under the same path, as with NFS."""
        self.shared.mkdir()
        self.programs = directory / "bin"
        """Holds an ``ssh`` and an ``scp`` that read that configuration instead of the user's; for PATH."""
        self._known: dict[str, str] = {}
        self._switch = hold(["unshare", "--net", "sleep", "infinity"], log=directory / "switch.log")
        poll(lambda: read_namespace(self._switch.pid, "net") not in ("", read_namespace(os.getpid(), "net")))
        self.link, self._subnet = self._plug_in()
        self._link_index = socket.if_nametoindex(self.link)
        self.address = f"{self._subnet}.1"
        """This machine's."""
        self._write_ssh_files()

    @classmethod
    @contextlib.contextmanager
    def build(cls, directory: Path, *names: str) -> Iterator[HostNetwork]:
        """Make a network with these hosts, and remove it without a trace."""
        directory.mkdir()
        network = cls(directory)
        try:
            for name in names:
                network.add_host(name)
            yield network
        finally:
            network.close()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def add_host(self, name: str) -> Host:
        """Start a host and its sshd."""
        host = Host(self, name, f"{self._subnet}.{11 + len(self.hosts)}")
        self.hosts[name] = host
        host.start_sshd()
        self.trust(name)
        for each in self.hosts.values():
            each.write("/etc/hosts", self.render_hosts())
            each.note_files()
        return host

    def trust(self, name: str, *, key: str | None = None) -> None:
        """Have this machine's ssh know a host by the key that it has, or by another; ``""``: not at all."""
        self._known[name] = self.hosts[name].public_key if key is None else key
        lines = [f"{each},{self.hosts[each].address} {key}\n" for each, key in self._known.items() if key]
        (self.directory / "known_hosts").write_text("".join(lines))

    def ssh(self, name: str, *command: str, timeout: float = WAIT) -> subprocess.CompletedProcess[str]:
        """Run a command on a host over ssh, in its login shell."""
        argv = ["ssh", "-F", self.ssh_config, "-o", "BatchMode=yes", name, shlex.join(command)]
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )

    @contextlib.contextmanager
    def capture(self) -> Iterator[Capture]:
        """Take down everything that goes over the switch meanwhile."""
        with capture_traffic(Path(f"/proc/{self._switch.pid}/ns/net"), "switch") as capture:
            yield capture

    def render_hosts(self) -> str:
        """Write the file /etc/hosts that all hosts have; this machine is in it under its own name."""
        names = {socket.gethostname(): self.address} | {host.name: host.address for host in self.hosts.values()}
        return "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in names.items())

    def close(self) -> None:
        """Remove everything, and see that it is gone.

        Raises:
            AssertionError: Something is left.
        """
        holders = [self._switch, *(host.holder for host in self.hosts.values())]
        subprocess.run(["ip", "link", "del", self.link], capture_output=True, check=False)
        spaces = {read_namespace(pid, "net") for pid in [self._switch.pid, *(h.pid for h in self.hosts.values())]}
        for host in self.hosts.values():
            host.end()
        self._switch.kill()
        for holder in holders:
            holder.wait(WAIT)
        poll(lambda: not [pid for pid in list_pids() if read_namespace(pid, "net") in spaces - {""}])
        # Of the same name, there may be another network's by now.
        assert self._link_index not in {index for index, _ in socket.if_nameindex()}, f"{self.link} is left"
        assert str(self.directory) not in Path("/proc/self/mountinfo").read_text(), "a mount is left"

    def set_port(self, name: str, *, up: bool) -> None:
        """Plug a host's cable in at the switch, or pull it out."""
        self._ip_at_switch(f"link set {name} {'up' if up else 'down'}")

    def plug(self, name: str, pid: int, address: str) -> None:
        """Give the host that this process is in a cable to the switch, and an address."""
        self._ip_at_switch(f"link add {name} type veth peer name eth0 netns {pid}", f"link set {name} master switch up")
        run_ip(pid, f"addr add {address}/24 dev eth0", "link set eth0 up")

    def _plug_in(self) -> tuple[str, str]:
        self._ip_at_switch("link add switch type bridge", "link set switch up")
        # Whoever makes the link first has the number: other tests look for one at the same time.
        for number in range(1, 255):
            link = f"stk{number}"
            peer = ["peer", "name", "uplink", "netns", str(self._switch.pid)]
            made = subprocess.run(["ip", "link", "add", link, "type", "veth", *peer], capture_output=True, check=False)
            if made.returncode == 0:
                self._ip_at_switch("link set uplink master switch up")
                run_ip(os.getpid(), f"addr add 10.77.{number}.1/24 dev {link}", f"link set {link} up")
                return link, f"10.77.{number}"
        raise AssertionError(f"no link could be made: {made.stderr.decode()}")

    def _ip_at_switch(self, *commands: str) -> None:
        run_ip(self._switch.pid, *commands)

    def _write_ssh_files(self) -> None:
        make_key(self.directory / "id")
        (self.directory / "known_hosts").touch()
        self.programs.mkdir()
        for name in ("ssh", "scp"):
            program = self.programs / name
            program.write_text(f'#!/bin/sh\nexec {shutil.which(name, path=PATH)} -F {self.ssh_config} "$@"\n')
            program.chmod(0o755)
        self.write_ssh_config()

    def write_ssh_config(self, *lines: str) -> None:
        """Write the user's ssh configuration.

        Args:
            lines: More of it; they come first, and so win.
        """
        names = [f"Host {host.name}\n  HostName {host.address}\n" for host in self.hosts.values()]
        common = (
            *("Host *", "  User root", f"  IdentityFile {self.directory / 'id'}", "  IdentitiesOnly yes"),
            *("  IdentityAgent none", f"  UserKnownHostsFile {self.directory / 'known_hosts'}"),
            *("  GlobalKnownHostsFile /dev/null", "  UpdateHostKeys no"),
        )
        self.ssh_config.write_text("\n".join([*lines, *names, *common]) + "\n")
