"""Connection files, and whether somebody listens where they point."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from stoker.launch import Connection, ConnectionFiles, is_listening, read_connection, read_open_ports
from stoker.profile import ProfileDirectory

CLIENT = {"interface": "tcp://127.0.0.1", "registration": 4711, "key": "", "curve_serverkey": "PUBLIC"}


@pytest.fixture
def files(tmp_path: Path) -> ConnectionFiles:
    directory = ProfileDirectory(tmp_path / "profile_lab")
    directory.security.mkdir(parents=True)
    return ConnectionFiles.of(directory, "")


def write(files: ConnectionFiles, **changes: Any) -> None:
    for path in (files.client, files.engine):
        path.write_text(json.dumps({**CLIENT, **changes}))


@pytest.mark.parametrize(("cluster_id", "stem"), [("", "ipcontroller"), ("night", "ipcontroller-night")])
def test_files_are_named_as_ipyparallel_does(cluster_id: str, stem: str) -> None:
    directory = ProfileDirectory(Path("/home/ada/.ipython/profile_lab"))

    files = ConnectionFiles.of(directory, cluster_id)

    assert files == ConnectionFiles(
        client=directory.security / f"{stem}-client.json",
        engine=directory.security / f"{stem}-engine.json",
        keys=directory.security / f"{stem}-keys.json",
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, Connection(encrypted=True, host="127.0.0.1", port=4711), id="encrypted"),
        pytest.param(
            {"curve_serverkey": None, "key": "SECRET"},
            Connection(encrypted=False, host="127.0.0.1", port=4711),
            id="not encrypted",
        ),
        pytest.param(
            {"interface": "tcp://*"}, Connection(encrypted=True, host="127.0.0.1", port=4711), id="all interfaces"
        ),
        pytest.param(
            {"interface": "tcp://0.0.0.0"}, Connection(encrypted=True, host="127.0.0.1", port=4711), id="0.0.0.0"
        ),
        pytest.param(
            {"interface": "tcp://10.1.2.3"}, Connection(encrypted=True, host="10.1.2.3", port=4711), id="one interface"
        ),
    ],
)
def test_what_the_files_say_is_read_without_their_keys(
    changes: dict[str, Any], expected: Connection, files: ConnectionFiles
) -> None:
    write(files, **changes)

    found = read_connection(files)

    assert found == expected
    assert "SECRET" not in repr(found)
    assert "PUBLIC" not in repr(found)


@pytest.mark.parametrize("broken", ["client", "engine"])
@pytest.mark.parametrize("content", [None, "", '{"interface": "tcp://127', "[]", "{}"])
def test_files_that_are_missing_or_half_written_say_nothing_yet(
    broken: str, content: str | None, files: ConnectionFiles
) -> None:
    write(files)
    path = getattr(files, broken)
    path.unlink()
    if content is not None:
        path.write_text(content)

    assert read_connection(files) is None


def test_all_files_are_removed_whichever_are_there(files: ConnectionFiles) -> None:
    write(files)
    files.keys.touch()

    files.remove()
    files.remove()

    assert list(files.client.parent.iterdir()) == []


def test_a_zeromq_socket_is_told_from_a_port_that_is_closed() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server:
        port = server.bind_to_random_port("tcp://127.0.0.1")
        while_open = is_listening(Connection(encrypted=True, host="127.0.0.1", port=port), timeout=5)
    with socket.create_server(("127.0.0.1", 0)) as other:
        closed = other.getsockname()[1]
    after = is_listening(Connection(encrypted=True, host="127.0.0.1", port=closed), timeout=5)

    assert (while_open, after) == (True, False)


@contextmanager
def serve(greeting: bytes) -> Iterator[int]:
    """Another kind of server: says something to one caller and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(greeting)

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\xff", b"\x7f" * 10], ids=repr)
def test_another_server_that_got_the_port_is_not_taken_for_a_controller(greeting: bytes) -> None:
    with serve(greeting) as port:
        found = is_listening(Connection(encrypted=True, host="127.0.0.1", port=port), timeout=5)

    assert not found


def test_a_server_that_says_nothing_costs_no_more_than_the_time_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = Connection(encrypted=True, host="127.0.0.1", port=silent.getsockname()[1])

        assert not is_listening(connection, timeout=0.05)


@pytest.mark.parametrize(
    ("client", "engine", "expected"),
    [
        pytest.param("127.0.0.1", "127.0.0.1", (), id="loopback"),
        pytest.param("*", "*", (1, 2, 3, 4, 5, 6), id="all interfaces"),
        pytest.param("10.0.0.1", "127.0.0.1", (1, 2, 3, 4), id="clients only"),
        pytest.param("127.0.0.1", "10.0.0.1", (1, 4, 5, 6), id="engines only"),
    ],
)
def test_open_ports_are_those_that_other_machines_reach(
    files: ConnectionFiles, client: str, engine: str, expected: tuple[int, ...]
) -> None:
    common = {"registration": 1, "key": "", "curve_serverkey": "PUBLIC", "location": "node1"}
    files.client.write_text(
        json.dumps({**common, "interface": f"tcp://{client}", "task": 2, "broadcast": 3, "iopub": 4})
    )
    files.engine.write_text(json.dumps({**common, "interface": f"tcp://{engine}", "hb_ping": 4, "broadcast": [5, 6]}))

    assert read_open_ports(files) == expected


def test_without_connection_files_no_port_is_open(files: ConnectionFiles) -> None:
    assert read_open_ports(files) == ()
