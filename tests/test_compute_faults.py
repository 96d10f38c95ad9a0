"""Faults: the exceptions of items, built again, each with the item that it belongs to."""

from __future__ import annotations

import pickle
import re
import traceback
from dataclasses import dataclass
from typing import Any

import cloudpickle
import pytest

from stoker.compute.faults import ItemPlace, RemoteTraceback, build_death, build_error, show_item
from stoker.compute.ledger import Piece
from stoker.errors import EngineDiedError, ItemError, ItemTimeoutError, StokerError

PLACE = ItemPlace(index=4711, text="(3, 'x')", engine=3, host="node7", attempt=2)
WHERE = "item 4711 ((3, 'x')), engine 3 on node7, attempt 2"
TRACE = 'Traceback (most recent call last):\n  File "work.py", line 3, in work\nValueError: no\n'


class OddError(Exception):
    """Of this module, which the client has."""


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int

    def __reduce__(self) -> tuple[type[FrozenError], tuple[int]]:
        return FrozenError, (self.code,)


class SealedError(Exception):
    @property
    def item(self) -> str:
        return "mine"


def _record(error: BaseException, *, trace: str = TRACE) -> tuple[str, str, str, bytes]:
    name = type(error).__qualname__
    return name, f"{name}: {error.args}", trace, cloudpickle.dumps(error)


def _pack_by_value(error: BaseException) -> bytes:
    return bytes(cloudpickle.dumps(error))


@pytest.mark.parametrize(
    ("engine", "host", "text"),
    [
        (3, "node7", "item 4711 (x), engine 3 on node7, attempt 2"),
        (0, "", "item 4711 (x), engine 0, attempt 2"),
        (None, "node7", "item 4711 (x), an engine on node7, attempt 2"),
        (None, "", "item 4711 (x), an engine, attempt 2"),
    ],
)
def test_a_place_says_which_item_where_and_which_try(engine: int | None, host: str, text: str) -> None:
    assert str(ItemPlace(index=4711, text="x", engine=engine, host=host, attempt=2)) == text


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("no"),
        KeyError("key"),
        OddError("odd", 3),
        OSError(2, "No such file", "there"),
        KeyboardInterrupt(),
        SystemExit(3),
        FrozenError(3),
        SealedError("sealed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_is_built_again_with_its_traceback_as_its_cause(raised: BaseException) -> None:
    error = build_error(_record(raised), PLACE)

    assert type(error) is type(raised)
    assert str(error) == str(raised)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert error.__cause__.text == TRACE
    assert error.__notes__ == [WHERE]


def test_a_stop_iteration_becomes_what_generators_make_of_it() -> None:
    error = build_error(_record(StopIteration(5)), PLACE)

    assert type(error) is RuntimeError
    assert str(error) == "the function raised StopIteration"
    assert isinstance(error.__cause__, RemoteTraceback)


def test_an_exception_carries_its_item() -> None:
    errors = [build_error(_record(raised), PLACE) for raised in (ValueError("no"), FrozenError(3), SealedError())]

    assert [getattr(error, "item", None) for error in errors] == [PLACE, PLACE, "mine"]


def test_an_exception_that_cannot_tell_what_it_is_keeps_its_class() -> None:
    error = build_error(_record(MuteError()), PLACE)

    assert type(error) is MuteError
    assert error.__notes__ == [WHERE]


def test_a_traceback_shows_the_engines_part_and_the_item() -> None:
    try:
        raise build_error(_record(ValueError("no")), PLACE)
    except ValueError as error:
        shown = "".join(traceback.format_exception(error))

    assert f'stoker.compute.faults.RemoteTraceback: \n"""\n{TRACE}"""\n' in shown
    assert shown.endswith(f"ValueError: no\n{WHERE}\n")


def test_notes_that_were_added_on_the_engine_stay() -> None:
    raised = ValueError("no")
    raised.add_note("while reading line 3")

    error = build_error(_record(raised), PLACE)

    assert error.__notes__ == ["while reading line 3", WHERE]


def test_a_cause_that_travelled_stays() -> None:
    class CausedError(Exception):
        def __setstate__(self, state: Any) -> None:
            self.__cause__ = OSError("disk")

    raised = CausedError()
    raised.state = 1  # type: ignore[attr-defined]

    error = build_error(_record(raised), PLACE)

    assert isinstance(error.__cause__, OSError)


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(None, id="it could not be packed"),
        pytest.param(b"cgone_module\nGoneError\n.", id="its module is missing here"),
        pytest.param(b"cos\nGoneError\n.", id="its class is missing here"),
        pytest.param(b"rubbish", id="rubbish"),
        pytest.param(pickle.dumps("a text"), id="no exception"),
        pytest.param(pickle.dumps(ValueError), id="a class"),
    ],
)
def test_what_cannot_be_built_again_becomes_an_item_error(packed: bytes | None) -> None:
    error = build_error(("GoneError", "GoneError: no", TRACE, packed), PLACE)

    assert type(error) is ItemError
    assert (error.ename, error.text, str(error)) == ("GoneError", "GoneError: no", "GoneError: no")
    assert error.__notes__ == [WHERE]
    assert isinstance(error.__cause__, RemoteTraceback)
    assert error.item == PLACE  # type: ignore[attr-defined]


def test_a_result_that_cannot_be_sent_says_so() -> None:
    text = "its result, a Lock, cannot be sent: TypeError: cannot pickle"
    packed = _pack_by_value(TypeError("cannot pickle"))

    kept = build_error(("TypeError", text, "", packed), PLACE)
    lost = build_error(("TypeError", text, "", None), PLACE)

    assert (type(kept), str(kept), kept.__notes__) == (TypeError, "cannot pickle", [text, WHERE])
    assert (type(lost), str(lost), lost.__notes__) == (ItemError, text, [WHERE])
    assert (kept.__cause__, lost.__cause__) == (None, None)


def test_a_timeout_is_a_timeout_error_that_names_the_item_once() -> None:
    error = build_error(("_ItemTimeout", "took longer than 2 s", TRACE, None), PLACE)

    assert type(error) is ItemTimeoutError
    assert isinstance(error, TimeoutError)
    assert str(error) == f"{WHERE}: took longer than 2 s"
    assert not hasattr(error, "__notes__")
    assert isinstance(error.__cause__, RemoteTraceback)
    assert error.item == PLACE  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("deaths", "cause", "text"),
    [
        (1, "", f"{WHERE}: the engine died while it ran this item"),
        (1, "SIGKILL", f"{WHERE}: the engine died of SIGKILL while it ran this item"),
        (3, "", f"{WHERE}: the engine died while it ran this item (3 engines did)"),
        (3, "SIGSEGV", f"{WHERE}: the engine died of SIGSEGV while it ran this item (3 engines did)"),
    ],
)
def test_a_death_says_of_what_and_how_often(deaths: int, cause: str, text: str) -> None:
    piece = Piece(first=4711, columns=([3],), deaths=deaths)

    error = build_death(piece, PLACE, cause=cause, timeout=None)

    assert isinstance(error, EngineDiedError)
    assert (str(error), error.cause) == (text, cause)
    assert error.item == PLACE  # type: ignore[attr-defined]
    assert not hasattr(error, "__notes__")


def test_an_engine_that_was_ended_for_a_timeout_is_a_timeout() -> None:
    piece = Piece(first=4711, columns=([3],), deaths=1)

    error = build_death(piece, PLACE, cause="SIGKILL", timeout=0.5)

    assert isinstance(error, ItemTimeoutError)
    assert str(error) == f"{WHERE}: took longer than 0.5 s and could not be stopped: its engine was ended"


@pytest.mark.parametrize(
    "error",
    [
        build_error(_record(ValueError("no")), PLACE),
        build_error(("GoneError", "GoneError: no", TRACE, None), PLACE),
        build_error(("_ItemTimeout", "took longer than 2 s", TRACE, None), PLACE),
        build_death(Piece(first=1, columns=([3],), deaths=1), PLACE, cause="SIGKILL", timeout=None),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_items_can_be_packed_in_turn(error: BaseException) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), copy.args, copy.item) == (type(error), error.args, PLACE)
    assert str(copy) == str(error)


@pytest.mark.parametrize("error", [ItemError("a", "b"), ItemTimeoutError("a"), EngineDiedError("a")])
def test_the_errors_of_maps_are_stokers(error: BaseException) -> None:
    assert isinstance(error, StokerError)


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (([1, 2, 3],), "2"),
        (([1, 2, 3], "abc"), "(2, 'b')"),
        (([(), (1, "x")],), "(1, 'x')"),
        ((range(10, 20),), "11"),
        (([0, list(range(1000))],), "[0, 1, 2, 3, 4, 5, ...]"),
        ((["", "x" * 1000],), "'xxxxxxxxxxxx...xxxxxxxxxxxxx'"),
    ],
    ids=["one", "several arguments", "a row", "of a range", "long list", "long text"],
)
def test_an_item_is_shown_shortened(columns: tuple[Any, ...], text: str) -> None:
    assert show_item(Piece(first=0, columns=columns), 1) == text


def test_an_item_whose_repr_raises_is_shown_all_the_same() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise ValueError("no repr")

    class Worse(type):
        @property
        def __name__(cls) -> str:
            raise RuntimeError("no name")

    class Worst(metaclass=Worse):
        pass

    shown = show_item(Piece(first=0, columns=([Bad(), Worst()],)), 0)
    worse = show_item(Piece(first=0, columns=([Bad(), Worst()],)), 1)

    assert re.fullmatch(r"<Bad instance at 0x[0-9a-f]+>", shown)
    assert worse == "its repr raised RuntimeError"
