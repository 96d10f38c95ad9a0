from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import zmq

from stoker.errors import StokerError
from stoker.launch.key_pair import KeyPair, read_or_draw_keys


def test_a_drawn_pair_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys"

    drawn = read_or_draw_keys(file)

    assert zmq.curve_public(drawn.secret) == drawn.public
    assert json.loads(file.read_bytes()) == {"public": drawn.public.decode(), "secret": drawn.secret.decode()}
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob("*keys*")) == [file]
    assert read_or_draw_keys(file) == drawn


def test_a_pair_does_not_show_its_secret() -> None:
    pair = KeyPair.draw()

    assert repr(pair) == f"KeyPair(public={pair.public!r})"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "keys"
    read_or_draw_keys(file)
    file.chmod(mode)

    with pytest.raises(StokerError, match=rf"keys: others can read .*\(mode 0{mode:o}, user \d+\): remove it; "):
        read_or_draw_keys(file)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda pair: b"", id="empty"),
        pytest.param(lambda pair: pair[:-9], id="half"),
        pytest.param(lambda pair: b"[]", id="a list"),
        pytest.param(lambda pair: b'{"public": "x", "secret": "y"}', id="no keys"),
        pytest.param(lambda pair: b'{"public": 1, "secret": 2}', id="numbers"),
        pytest.param(lambda pair: re.sub(rb'("public": ")..', rb"\1##", pair), id="not of one pair"),
    ],
)
def test_a_broken_file_is_refused_without_showing_it(tmp_path: Path, change: object) -> None:
    file = tmp_path / "keys"
    secret = read_or_draw_keys(file).secret.decode()
    assert callable(change)
    file.write_bytes(change(file.read_bytes()))

    with pytest.raises(StokerError, match="keys: holds no key pair of CurveZMQ: remove it; ") as raised:
        read_or_draw_keys(file)

    assert secret not in str(raised.value)


def test_a_directory_that_is_missing_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(StokerError, match=r"missing/keys: the controller's key pair can be neither read nor written"):
        read_or_draw_keys(tmp_path / "missing" / "keys")
