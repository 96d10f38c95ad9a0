"""The ssh command lines by which a host is reached. Never touches the machine; no key is in them."""

from __future__ import annotations

import base64
import shlex
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["MARKER", "HostCommand", "render_forward", "render_program", "render_ssh"]

MARKER = b"stoker-shell\n"
"""What the host's shell says first; what comes before is of its start-up files."""

# No single quote, newline or exclamation mark is in these: they pass unharmed through any login shell.
_SHELL = 'echo stoker-shell; p=$1; l=$2; shift 2; if test -d "$p"; then p=$p/bin/python; fi; exec env "$@" "$p" -c "$l"'
# The directory in which it is started is no place to import from. It ends where the connection does.
_LOADER = (
    "import sys;sys.path[:]=[p for p in sys.path if p];import os,zlib,base64;exec(zlib.decompress(base64.b64decode("
    'b"".join(iter(lambda:os.read(0,1)or os._exit(3),b"\\n")))))'
)
# Of several values for one option, ssh takes the first.
_FIRST = {"BatchMode": "yes", "LogLevel": "DEBUG1"}
_LAST = {
    # Longer than each stage may take: what takes too long is told by its stage.
    "ConnectTimeout": "20",
    "ConnectionAttempts": "1",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "ForkAfterAuthentication": "no",
    "ClearAllForwardings": "yes",
    "EscapeChar": "none",
    "ControlPersist": "no",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCommand:
    """How to reach a host and start an agent there."""

    name: str
    """Tells it from the others of its cluster: the host's address, perhaps with a number."""

    address: str
    """``user@host:port``, as in the spec."""

    destination: str
    """``user@host``, or the host alone."""

    port: int | None
    """None: as ssh's own configuration says."""

    options: Mapping[str, str]
    """Of ssh_config(5), beyond what its files say."""

    config: str | None
    """An ssh_config(5) in place of the user's; None: the user's and the system's."""

    python: str
    """The interpreter, or the directory of a virtual environment, there."""

    early: Mapping[str, str]
    """Environment variables that matter before any code runs."""

    place: str
    """Tells the agent there from others of the same user."""

    logs: str
    """The name of the directory of its logs, below stoker's."""

    log: str
    """The file here that gets what ssh and the agent print."""

    control: str
    """The socket here by which the connection is told to forward a socket."""

    near: str
    """The socket here of the near end of tunnels."""

    tunnel: bool | None
    """Whether engines reach the controller through the connection; None: where they must."""

    target: str
    """The address at which this machine reaches the controller."""

    location: str | None
    """The address at which engines reach the controller; None: it is found out."""

    lease: float = 120.0
    """Seconds of its own running time that it goes on with nobody attached."""

    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the agent and of all that comes of it."""


def render_ssh(command: HostCommand) -> tuple[str, ...]:
    """Give the command that reaches a host and there starts a Python that waits for its program."""
    early = [f"{name}={value}" for name, value in command.early.items()]
    remote = f"exec {shlex.join(['/bin/sh', '-c', _SHELL, 'stoker', command.python, _LOADER, *early])}"
    own = {**_LAST, **_render_control(command)}
    return (*_render_options(command, own), *_render_destination(command), remote)


def render_forward(command: HostCommand, *, carrier: str) -> tuple[str, ...]:
    """Give the command that has a host's connection forward a socket there to the near end of tunnels.

    Args:
        command: The host's.
        carrier: Where the socket is to be, there.
    """
    own = {**_render_control(command), "ControlMaster": "no"}
    forward = ("-O", "forward", "-R", f"{carrier}:{command.near}")
    return (*_render_options(command, own), *forward, *_render_destination(command))


def render_program(source: str) -> bytes:
    """Give the line by which the waiting Python is sent its program."""
    return base64.b64encode(zlib.compress(source.encode())) + b"\n"


def _render_options(command: HostCommand, own: Mapping[str, str]) -> tuple[str, ...]:
    config = () if command.config is None else ("-F", command.config)
    pairs = [*_FIRST.items(), *command.options.items(), *own.items()]
    return ("ssh", *config, *(word for name, value in pairs for word in ("-o", f"{name}={value}")))


def _render_control(command: HostCommand) -> dict[str, str]:
    if command.tunnel is False:
        return {"ControlMaster": "no", "ControlPath": "none"}
    return {"ControlMaster": "yes", "ControlPath": command.control}


def _render_destination(command: HostCommand) -> tuple[str, ...]:
    port = () if command.port is None else ("-p", str(command.port))
    return (*port, "--", command.destination)
