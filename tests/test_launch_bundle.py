from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from stoker.errors import BundleError
from stoker.launch.bundle import parse_bundle, read_bundle, write_bundle

CONNECTION = {
    "interface": "tcp://*",
    "registration": 10101,
    "control": 1,
    "mux": 2,
    "task": 3,
    "iopub": 4,
    "broadcast": [5, 6],
    "hb_ping": 7,
    "hb_pong": 8,
    "signature_scheme": "hmac-sha256",
    "pack": "json",
    "unpack": "json",
    "key": "secret-hmac",
    "curve_serverkey": "secret-curve",
    "location": "head.lab",
    "ssh": "",
}


def render(**changes: Any) -> bytes:
    content = {**CONNECTION, **changes}
    return json.dumps({name: value for name, value in content.items() if value is not None}).encode()


def test_a_bundle_holds_what_ipyparallel_gives_its_engines_and_nothing_more() -> None:
    bundle = parse_bundle(render(secret_of_somebody="else"), source="file")

    assert json.loads(bundle.render()) == CONNECTION
    assert bundle.is_encrypted


def test_a_bundle_shows_no_key() -> None:
    assert "secret" not in repr(parse_bundle(render(), source="file"))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(b"nothing", "is no connection file of ipyparallel's", id="no JSON"),
        pytest.param(b"[1]", "is no connection file of ipyparallel's", id="no object"),
        pytest.param(
            render(hb_ping=None, hb_pong=None, notification=9),
            "is the clients' connection file; engines need ipcontroller-engine.json beside it",
            id="the clients' file",
        ),
        pytest.param(
            render(mux=None, pack=None), "is no whole connection file for engines: without mux, pack", id="half a file"
        ),
    ],
)
def test_another_file_is_refused_by_what_it_is(data: bytes, problem: str) -> None:
    with pytest.raises(BundleError) as caught:
        parse_bundle(data, source="file")

    assert str(caught.value) == f"file: {problem}"


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    path.write_bytes(render())
    path.chmod(0o644)

    with pytest.raises(BundleError, match=f"others can read it.*chmod 600 {path}"):
        read_bundle(path)
    path.chmod(0o600)

    assert read_bundle(path).connection == CONNECTION


def test_a_file_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle\.json: cannot be read: No such file or directory"):
        read_bundle(tmp_path / "bundle.json")


def test_a_bundle_is_written_for_its_owner_alone_also_over_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    path.write_bytes(render(registration=1))
    path.chmod(0o644)

    write_bundle(parse_bundle(render(), source="file"), path)

    assert json.loads(path.read_text()) == CONNECTION
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob("*bundle*")) == [path]


def test_a_file_that_is_no_bundle_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "thesis.tex"
    path.write_text("my work")

    with pytest.raises(BundleError, match=r"thesis\.tex: is there, and no bundle; it is left as it is"):
        write_bundle(parse_bundle(render(), source="file"), path)

    assert path.read_text() == "my work"


@pytest.mark.parametrize(
    ("changes", "address"),
    [
        pytest.param({"location": "192.0.2.7"}, "192.0.2.7", id="all interfaces of another machine"),
        pytest.param({"interface": "tcp://0.0.0.0", "location": "192.0.2.7"}, "192.0.2.7", id="0.0.0.0"),
        pytest.param({"location": socket.gethostname()}, "127.0.0.1", id="all interfaces of this machine"),
        pytest.param({"location": None}, "127.0.0.1", id="of nobody knows which"),
        pytest.param({"interface": "tcp://192.0.2.8"}, "192.0.2.8", id="one interface"),
        pytest.param(
            {"interface": "tcp://127.0.0.1", "location": socket.gethostname()},
            "127.0.0.1",
            id="this machine's loopback",
        ),
    ],
)
def test_the_controllers_address_is_found(changes: dict[str, Any], address: str) -> None:
    bundle = parse_bundle(render(**changes), source="file").resolve()

    assert bundle.connection["interface"] == f"tcp://{address}"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param(
            {"location": "nowhere.invalid"},
            "names nowhere.invalid as its controller's machine, .*; give one: --location ADDRESS",
            id="unknown name",
        ),
        pytest.param(
            {"interface": "tcp://127.0.0.1"},
            "its controller listens at 127.0.0.1 of head.lab only",
            id="loopback of another machine",
        ),
        pytest.param({"ssh": "me@head"}, "asks for an ssh tunnel to me@head", id="tunnel"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(BundleError, match=problem):
        parse_bundle(render(**changes), source="file").resolve()


def test_a_location_beats_what_the_file_says() -> None:
    bundle = parse_bundle(render(interface="tcp://127.0.0.1"), source="file").at("192.0.2.9")

    assert bundle.resolve().connection["interface"] == "tcp://192.0.2.9"
