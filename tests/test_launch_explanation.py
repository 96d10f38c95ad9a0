from __future__ import annotations

from typing import Any

import pytest

from stoker.errors import HostError, HostFault
from stoker.launch.explanation import STAGES, Evidence, Stage, explain, read_stage

CASES: list[Any] = [
    pytest.param(
        {"stage": "resolve", "errors": ("ssh: Could not resolve hostname n1: Name or service not known",)},
        "no such host is known",
        "correct the name in hosts, or give it a HostName in ~/.ssh/config",
        id="unknown name",
    ),
    pytest.param(
        {"stage": "connect", "errors": ("ssh: connect to host n1 port 22: Connection refused",)},
        "nothing listens at its ssh port",
        'start sshd there, or name the port it listens at, as in "me@host:2222"',
        id="port closed",
    ),
    pytest.param(
        {"stage": "connect", "errors": ("ssh: connect to host n1 port 22: No route to host",)},
        "it cannot be reached over the network",
        "see whether it is switched on and on the same network",
        id="no route",
    ),
    pytest.param(
        {"stage": "connect", "waited": 8.0},
        "it did not answer within 8 s: it is off, or a firewall drops what comes to its ssh port",
        "see whether it is reachable: ssh n1",
        id="silent",
    ),
    pytest.param(
        {
            "stage": "authenticate",
            "errors": ("No ED25519 host key is known for n1 and you have requested strict checking.",),
        },
        "its host key is not known here, and stoker never skips that check",
        "connect once by hand, compare the fingerprint and answer yes: ssh n1",
        id="unknown host key",
    ),
    pytest.param(
        {
            "stage": "authenticate",
            "errors": (
                "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
                "Host key verification failed.",
            ),
        },
        "its host key is not the one that is known for it: it was installed anew, or somebody is in between",
        "ask its administrator for the fingerprint; only if it is right, ssh-keygen -R HOST and connect once by hand",
        id="changed host key",
    ),
    pytest.param(
        {"stage": "authenticate", "host": "me@n1:2222", "errors": ("me@n1: Permission denied (publickey,password).",)},
        "it refuses the login: it wants a password, or none of your keys is allowed there",
        "ssh-copy-id -p 2222 me@n1, or start ssh-agent and ssh-add the key; see that 'ssh -o BatchMode=yes -p 2222 "
        "me@n1' gets in without asking anything",
        id="login refused",
    ),
    pytest.param(
        {"stage": "authenticate", "errors": ("kex_exchange_identification: Connection closed by remote host",)},
        "its sshd closed the connection before the login: too many at once, or an address that it blocks",
        "see MaxStartups and fail2ban there; see that 'ssh -o BatchMode=yes n1' gets in without asking anything",
        id="too many logins",
    ),
    pytest.param(
        {"stage": "authenticate", "waited": 10.0},
        "the login was not decided within 10 s: its sshd waits for a name or account server, or is overloaded",
        "see where it waits: ssh -v n1 (UseDNS and PAM there are the usual ones)",
        id="slow login",
    ),
    pytest.param(
        {"stage": "shell", "waited": 10.0},
        "its login shell said nothing within 10 s: a start-up file there takes long, or waits for an answer",
        "see what ~/.bashrc or ~/.profile there do: time ssh n1 true",
        id="slow shell",
    ),
    pytest.param(
        {"stage": "python", "python": "python3.11", "errors": ("env: 'python3.11': No such file or directory",)},
        "there is no Python that can be run as 'python3.11'",
        "install one there, or name it by its path, or the directory of its virtual environment, as python in the spec",
        id="no python",
    ),
    pytest.param(
        {"stage": "python", "failure": {"kind": "version", "problem": "3.9.2"}, "version": "3.11"},
        "its Python is 3.9.2, this machine's 3.11: functions do not travel between minor versions",
        "install Python 3.11 there, and name it as python in the spec",
        id="wrong minor version",
    ),
    pytest.param(
        {"stage": "python", "version": "3.11", "errors": ("SyntaxError: future feature annotations is not defined",)},
        "its Python is older than 3.7, this machine's 3.11: functions do not travel between minor versions",
        "install Python 3.11 there, and name it as python in the spec",
        id="very old python",
    ),
    pytest.param(
        {"stage": "import", "python": "python3", "failure": {"kind": "missing", "module": "ipyparallel.util"}},
        "its Python has no ipyparallel",
        "install it there: python3 -m pip install ipyparallel, or name another interpreter as python in the spec",
        id="no ipyparallel",
    ),
    pytest.param(
        {"stage": "agent", "failure": {"kind": "ENOSPC", "path": "/home/me", "problem": "No space left on device"}},
        "its disk, or your quota, is full: /home/me",
        "make room there: df -h /home/me",
        id="disk full",
    ),
    pytest.param(
        {"stage": "agent", "failure": {"kind": "EACCES", "path": "/home/me", "problem": "Permission denied"}},
        "nothing can be written there: /home/me (Permission denied)",
        "see whose /home/me is and how it is mounted: logs and sockets need a place",
        id="home not writable",
    ),
    pytest.param(
        {"stage": "agent", "failure": {"kind": "EAGAIN", "problem": "Resource temporarily unavailable"}},
        "it gives this user no more processes",
        "end some there, or have the limit raised (ulimit -u, TasksMax of systemd)",
        id="process limit",
    ),
    pytest.param(
        {"stage": "engine start", "errors": ("no process could be started: Resource temporarily unavailable",)},
        "it gives this user no more processes",
        "end some there, or have the limit raised (ulimit -u, TasksMax of systemd)",
        id="process limit at an engine",
    ),
    pytest.param(
        {"stage": "engine start", "errors": ("engine 3: no such directory: /data",)},
        "engine 3: no such directory: /data",
        "stoker logs tells more",
        id="another problem of an engine",
    ),
    pytest.param(
        {"stage": "connect back", "failure": {"problem": "10.0.0.1:4711 no answer"}},
        "it cannot reach the controller: 10.0.0.1:4711 no answer",
        'open the controller\'s ports (controller.ports fixes them) and have it listen, ip = "*", or write '
        "tunnel = true",
        id="controller unreachable",
    ),
    pytest.param(
        {"stage": "connect back", "errors": ("mux_client_forward: forwarding request failed: refused",)},
        "its sshd refuses to forward ports",
        "have AllowTcpForwarding and AllowStreamLocalForwarding allowed there, or let it reach the controller "
        'directly: [controller] ip = "*" and open ports',
        id="no forwarding",
    ),
    pytest.param(
        {"stage": "authenticate", "status": 255},
        "ssh ended with status 255",
        "try by hand: ssh n1",
        id="nothing known",
    ),
]


@pytest.mark.parametrize(("seen", "cause", "step"), CASES)
def test_what_was_seen_becomes_a_cause_and_a_next_step(seen: dict[str, Any], cause: str, step: str) -> None:
    found = explain(Evidence(**{"host": "n1", **seen}))

    assert (found.stage, found.cause, found.step) == (seen["stage"], cause, step)
    assert found.lines == tuple(seen.get("errors", ()))


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        pytest.param("debug1: Connecting to n1 [10.0.0.1] port 22.", "connect", id="connect"),
        pytest.param("debug1: Connection established.", "authenticate", id="connected"),
        pytest.param('Authenticated to n1 ([10.0.0.1]:22) using "publickey".', "shell", id="logged in"),
        pytest.param("debug1: Sending command: true", None, id="another"),
        pytest.param("bash: Connecting to nothing", None, id="of the host"),
    ],
)
def test_ssh_says_which_stage_begins(line: str, stage: Stage | None) -> None:
    assert read_stage(line) == stage


def test_an_error_holds_what_was_heard_from_the_host() -> None:
    explanation = HostFault(host="n1", stage="shell", cause="it is so", step="do this", lines=("a", "b"))

    error = HostError(explanation)

    assert str(error) == "n1: shell: it is so; do this\n    a\n    b"
    assert len(set(STAGES)) == 10
