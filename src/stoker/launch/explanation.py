"""Why a host did not come up: what was seen becomes a cause and a next step. Never touches the machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from stoker.errors import HostFault

__all__ = ["STAGES", "Evidence", "Stage", "explain", "read_stage"]

Stage = Literal[
    "resolve",
    "connect",
    "authenticate",
    "shell",
    "python",
    "import",
    "agent",
    "engine start",
    "connect back",
    "registered",
]
STAGES: tuple[Stage, ...] = (
    "resolve",
    "connect",
    "authenticate",
    "shell",
    "python",
    "import",
    "agent",
    "engine start",
    "connect back",
    "registered",
)
"""What a host goes through, in this order. ``python`` begins with the first word of its shell."""

_LATE = ("agent", "engine start", "connect back", "registered")
_MOST_LINES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was seen of a start on a host."""

    host: str
    """As the spec names it."""

    stage: Stage
    """The one that it did not get through."""

    waited: float | None = None
    """Seconds after which patience with the stage ended; None: it failed by itself."""

    status: int | None = None
    """Exit status of ssh."""

    errors: tuple[str, ...] = ()
    """What ssh, and through it the host, wrote to standard error, without what is for debugging."""

    noise: tuple[str, ...] = ()
    """What the host's shell wrote before it was asked anything."""

    failure: Mapping[str, Any] = field(default_factory=dict)
    """What the program there said of its failure: ``kind``, ``problem``, ``path``, ``module``, ``lines``."""

    python: str = ""
    """The interpreter that was asked for."""

    version: str = ""
    """This machine's Python, as ``3.11``."""


def read_stage(line: str) -> Stage | None:
    """Tell what begins, by a line of ssh's (LogLevel DEBUG1); None for any other."""
    if line.startswith("debug1: Connecting to "):
        return "connect"
    if line.startswith("debug1: Connection established"):
        return "authenticate"
    if line.startswith(("Authenticated to ", "debug1: Authentication succeeded")):
        return "shell"
    return None


def explain(evidence: Evidence) -> HostFault:
    """Find the likely cause of a failure, and what to do."""
    cause, step = _find_cause(evidence)
    lines: Sequence[str] = evidence.failure.get("lines") or evidence.errors or evidence.noise
    return HostFault(
        host=evidence.host, stage=evidence.stage, cause=cause, step=step, lines=tuple(lines)[-_MOST_LINES:]
    )


_Told = tuple[str, str]
"""A cause and a step; ``_fill`` puts in what is in braces."""

_BY_HAND = "see that 'ssh -o BatchMode=yes {host}' gets in without asking anything"
_NO_PYTHON: _Told = (
    "there is no Python that can be run as '{python}'",
    "install one there, or name it by its path, or the directory of its virtual environment, as python in the spec",
)
_NO_PROCESSES: _Told = (
    "it gives this user no more processes",
    "end some there, or have the limit raised (ulimit -u, TasksMax of systemd)",
)
_WRONG_VERSION: _Told = (
    "its Python is {found}, this machine's {version}: functions do not travel between minor versions",
    "install Python {version} there, and name it as python in the spec",
)

_RULES: Mapping[str, _Told] = {
    r"could not resolve hostname": (
        "no such host is known",
        "correct the name in hosts, or give it a HostName in ~/.ssh/config",
    ),
    r"remote host identification has changed": (
        "its host key is not the one that is known for it: it was installed anew, or somebody is in between",
        "ask its administrator for the fingerprint; only if it is right, ssh-keygen -R HOST and connect once by hand",
    ),
    r"host key verification failed|no .* host key is known": (
        "its host key is not known here, and stoker never skips that check",
        "connect once by hand, compare the fingerprint and answer yes: ssh {host}",
    ),
    r"permission denied \(|too many authentication failures": (
        "it refuses the login: it wants a password, or none of your keys is allowed there",
        "ssh-copy-id {host}, or start ssh-agent and ssh-add the key; " + _BY_HAND,
    ),
    r"forwarding request failed|forwarding failed|administratively prohibited": (
        "its sshd refuses to forward ports",
        "have AllowTcpForwarding and AllowStreamLocalForwarding allowed there, or let it reach the controller "
        'directly: [controller] ip = "*" and open ports',
    ),
    r"connection refused": (
        "nothing listens at its ssh port",
        'start sshd there, or name the port it listens at, as in "me@host:2222"',
    ),
    r"timed out during banner exchange": (
        "what listens at its ssh port says nothing: it is overloaded, or no sshd",
        "see where it waits: ssh -v {host}",
    ),
    r"no route to host|network is unreachable|connection timed out|operation timed out": (
        "it cannot be reached over the network",
        "see whether it is switched on and on the same network",
    ),
    r"fork: retry|cannot fork|resource temporarily unavailable|shell request failed": _NO_PROCESSES,
    r"kex_exchange_identification|connection (closed|reset) by": (
        "its sshd closed the connection before the login: too many at once, or an address that it blocks",
        "see MaxStartups and fail2ban there; " + _BY_HAND,
    ),
    r"^(env|exec|/bin/sh|sh|stoker)\b.*(no such file or directory|not found|permission denied)\s*$": _NO_PYTHON,
    r"SyntaxError: future feature annotations": (
        _WRONG_VERSION[0].replace("{found}", "older than 3.7"),
        _WRONG_VERSION[1],
    ),
}
"""What is told by what was written to standard error; the first that fits."""

_DELAYS: Mapping[Stage, _Told] = {
    "resolve": (
        "its name was not resolved within {waited:g} s",
        "see whether the name server answers: getent hosts HOST",
    ),
    "connect": (
        "it did not answer within {waited:g} s: it is off, or a firewall drops what comes to its ssh port",
        "see whether it is reachable: ssh {host}",
    ),
    "authenticate": (
        "the login was not decided within {waited:g} s: its sshd waits for a name or account server, or is overloaded",
        "see where it waits: ssh -v {host} (UseDNS and PAM there are the usual ones)",
    ),
    "shell": (
        "its login shell said nothing within {waited:g} s: a start-up file there takes long, or waits for an answer",
        "see what ~/.bashrc or ~/.profile there do: time ssh {host} true",
    ),
    "python": (
        "its Python did not start within {waited:g} s",
        "try by hand: time ssh {host} {python} -V",
    ),
    "import": (
        "ipyparallel was not imported within {waited:g} s: its disk is slow or busy",
        "try by hand: time ssh {host} {python} -c \"'import ipyparallel'\"",
    ),
}
_DELAY: _Told = ("it did not get on within {waited:g} s", "stoker logs tells more")


def _find_cause(evidence: Evidence) -> _Told:
    if evidence.failure:
        return _explain_failure(evidence)
    text = "\n".join(evidence.errors)
    for pattern, told in _RULES.items():
        if re.search(pattern, text, re.IGNORECASE | re.MULTILINE):
            return _fill(told, evidence)
    if evidence.waited is not None:
        return _fill(_DELAYS.get(evidence.stage, _DELAY), evidence)
    if evidence.stage == "python":
        return _fill(_NO_PYTHON, evidence)
    if evidence.stage in _LATE and evidence.errors:
        return "; ".join(evidence.errors), "stoker logs tells more"
    status = "" if evidence.status is None else f" with status {evidence.status}"
    return _fill(("ssh ended{found}", "try by hand: ssh {host}"), evidence, status)


def _fill(told: _Told, evidence: Evidence, found: str = "") -> _Told:
    name, _, port = evidence.host.partition(":")
    values = {
        "host": f"-p {port} {name}" if port else name,
        "python": evidence.python,
        "version": evidence.version,
        "waited": evidence.waited,
        "found": found,
    }
    cause, step = told
    return cause.format_map(values), step.format_map(values)


def _explain_failure(evidence: Evidence) -> _Told:
    failure = evidence.failure
    kind, problem, path = (str(failure.get(key, "")) for key in ("kind", "problem", "path"))
    if kind == "version":
        return _fill(_WRONG_VERSION, evidence, problem)
    if kind == "missing":
        module = str(failure.get("module", "")) or "a module"
        return (
            f"its Python has no {module.partition('.')[0]}",
            f"install it there: {evidence.python} -m pip install ipyparallel, "
            "or name another interpreter as python in the spec",
        )
    if evidence.stage == "import":
        return f"ipyparallel cannot be imported there: {problem}", "mend that installation: pip install -U ipyparallel"
    if kind in ("ENOSPC", "EDQUOT"):
        return f"its disk, or your quota, is full: {path}", f"make room there: df -h {path}"
    if kind in ("EACCES", "EROFS", "EPERM", "ENOENT", "ENOTDIR") and path:
        return (
            f"nothing can be written there: {path} ({problem})",
            f"see whose {path} is and how it is mounted: logs and sockets need a place",
        )
    if kind in ("EAGAIN", "ENOMEM"):
        return _NO_PROCESSES
    if evidence.stage == "connect back":
        return (
            f"it cannot reach the controller: {problem}",
            'open the controller\'s ports (controller.ports fixes them) and have it listen, ip = "*", '
            "or write tunnel = true",
        )
    return problem or "it failed", "stoker logs tells more"
