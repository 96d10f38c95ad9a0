from __future__ import annotations

import base64
import json
import shlex
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.launch.cargo import pack_cargo, read_bootstrap
from stoker.launch.ssh import MARKER, HostCommand, render_forward, render_program, render_ssh

COMMAND = HostCommand(
    name="node1",
    address="me@node1:2222",
    destination="me@node1",
    port=2222,
    options={"ProxyJump": "gate"},
    config="/lab/ssh_config",
    python="env",
    early={"LD_LIBRARY_PATH": "/a b"},
    place="run node1",
    logs="lab",
    log="/log/agent-node1.log",
    control="/run/c0",
    near="/run/tunnels.sock",
    tunnel=None,
    target="127.0.0.1",
    location=None,
)


def list_options(argv: tuple[str, ...]) -> dict[str, str]:
    """Give the options as ssh takes them: of several values, the first."""
    pairs = [argv[at + 1].split("=", 1) for at, word in enumerate(argv) if word == "-o"]
    return dict(tuple(pair) for pair in reversed(pairs))


def test_ssh_asks_nothing_and_checks_host_keys_and_a_users_options_win() -> None:
    options = list_options(render_ssh(COMMAND))
    patient = list_options(render_ssh(replace(COMMAND, options={"ServerAliveInterval": "60", "BatchMode": "no"})))

    assert options["BatchMode"] == patient["BatchMode"] == "yes"
    assert "StrictHostKeyChecking" not in options
    assert (options["ServerAliveInterval"], patient["ServerAliveInterval"]) == ("5", "60")
    assert options["ProxyJump"] == "gate"


def test_the_destination_cannot_be_taken_for_an_option() -> None:
    argv = render_ssh(COMMAND)

    assert argv[:3] == ("ssh", "-F", "/lab/ssh_config")
    assert argv[-5:-1] == ("-p", "2222", "--", "me@node1")


@pytest.mark.parametrize("tunnel", [None, True, False])
def test_a_socket_for_forwards_is_there_unless_none_is_wanted(tunnel: bool | None) -> None:
    options = list_options(render_ssh(replace(COMMAND, tunnel=tunnel)))

    assert options["ControlPath"] == ("none" if tunnel is False else "/run/c0")


def test_forwards_are_ordered_over_the_same_connection() -> None:
    argv = render_forward(COMMAND, carrier="/tmp/m/s")

    assert list_options(argv)["ControlPath"] == "/run/c0"
    assert argv[argv.index("-O") :] == (
        *("-O", "forward", "-R", "/tmp/m/s:/run/tunnels.sock"),
        *("-p", "2222", "--", "me@node1"),
    )


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "csh", "tcsh", "fish", "zsh"])
def test_every_login_shell_starts_the_python_that_is_named(shell: str, require: object, tmp_path: Path) -> None:
    require(shell)  # type: ignore[operator]
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").symlink_to(sys.executable)
    program = "import os, sys; print(os.environ['LD_LIBRARY_PATH'], sys.path[:1] == [''])"

    done = subprocess.run(
        [shell, "-c", render_ssh(COMMAND)[-1]], cwd=tmp_path, input=render_program(program), capture_output=True
    )

    assert done.stdout == MARKER + b"/a b False\n", done.stderr


def test_no_quote_newline_or_exclamation_mark_needs_care() -> None:
    words = shlex.split(render_ssh(COMMAND)[-1])

    assert words[:3] == ["exec", "/bin/sh", "-c"]
    assert not [word for word in words if set(word) & set("'\n!")]


def test_a_python_that_is_left_alone_before_its_program_came_ends() -> None:
    done = subprocess.run(
        ["sh", "-c", render_ssh(replace(COMMAND, python=sys.executable))[-1]],
        input=b"",
        capture_output=True,
        timeout=20,
    )

    assert (done.stdout, done.returncode) == (MARKER, 3)


def test_the_cargo_holds_what_an_agent_needs_and_nothing_above() -> None:
    names = set(json.loads(zlib.decompress(pack_cargo())))

    assert {"stoker", "stoker.errors", "stoker.agent.outpost", "stoker.system.files", "cloudpickle"} <= names
    assert not [name for name in names if name.startswith(("stoker.launch", "stoker.spec", "stoker.cluster"))]


def test_the_program_is_one_line() -> None:
    line = render_program(read_bootstrap())

    assert line.count(b"\n") == 1
    assert zlib.decompress(base64.b64decode(line)).decode() == read_bootstrap()
