"""The ledger: what goes where, and whatever may be lost, in any order."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from examples import examples
from stoker.compute.ledger import Ledger, Piece
from stoker.compute.source import open_source

MOST = 600
"""Items of a call in the state machine."""


def _open(count: int, *, retries: int = 2) -> Ledger:
    return Ledger(open_source([range(count)]), retries=retries)


def _send(ledger: Ledger, size: int, number: int) -> Piece:
    piece = ledger.take(size)
    assert piece is not None
    ledger.depart(piece, number)
    return piece


def _drain(ledger: Ledger, size: int = 1000) -> list[Piece]:
    pieces = []
    while (piece := ledger.take(size)) is not None:
        pieces.append(piece)
    return pieces


def _items(piece: Piece | None) -> list[int]:
    return [] if piece is None else list(piece.columns[0])


def _describe(pieces: Sequence[Piece]) -> list[tuple[int, int, int, bool]]:
    return [(piece.first, piece.count, piece.deaths, piece.exact) for piece in pieces]


def test_items_are_taken_in_order_each_once() -> None:
    ledger = _open(10)

    pieces = [ledger.take(size) for size in (1, 4, 100, 1)]

    assert [_items(piece) for piece in pieces] == [[0], [1, 2, 3, 4], [5, 6, 7, 8, 9], []]
    assert [piece.first for piece in pieces if piece] == [0, 1, 5]
    assert ledger.left == 0


def test_a_piece_is_cut_in_all_its_columns() -> None:
    piece = Piece(first=10, columns=([1, 2, 3, 4], "abcd"), deaths=1, errors=2, exact=True)

    cut = piece.cut(1, 3)

    assert cut == Piece(first=11, columns=([2, 3], "bc"), deaths=1, errors=2, exact=True)
    assert (cut.count, cut.attempt) == (2, 4)


def test_what_comes_home_is_settled() -> None:
    ledger = _open(10)
    _send(ledger, 4, 1)
    _send(ledger, 3, 2)
    assert (ledger.flying, ledger.numbers(), ledger.left) == (2, [1, 2], 3)

    home = ledger.come_home(1, 4)

    assert _items(home) == [0, 1, 2, 3]
    assert (ledger.settled, ledger.flying, ledger.left, ledger.urgent) == (4, 1, 3, False)
    assert ledger.look(1) is None
    assert _items(ledger.look(2)) == [4, 5, 6]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_of_a_batch_has_not_run_goes_again_before_anything_new(count: int) -> None:
    ledger = _open(8)
    _send(ledger, 4, 1)

    home = ledger.come_home(1, count)

    assert _items(home) == list(range(count))
    assert (ledger.settled, ledger.urgent, ledger.left) == (count, True, 8 - count)
    assert [_items(piece) for piece in _drain(ledger)] == [list(range(count, 4)), [4, 5, 6, 7]]


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(lambda ledger: ledger.come_home(1, 4), id="comes home"),
        pytest.param(lambda ledger: ledger.come_home(1, 2, again=[0]), id="comes home in part"),
        pytest.param(lambda ledger: ledger.lose(1, 0, 4, known=True, last=True), id="is lost"),
        pytest.param(lambda ledger: ledger.return_unrun(1), id="has not run"),
    ],
)
@pytest.mark.parametrize(
    "before",
    [
        pytest.param(lambda ledger: ledger.come_home(1, 4), id="after it came home"),
        pytest.param(lambda ledger: ledger.lose(1, 0, 4, known=False), id="after it was lost"),
        pytest.param(lambda ledger: ledger.return_unrun(1), id="after it was sent again"),
    ],
)
def test_a_late_twin_changes_nothing(before: Callable[[Ledger], object], late: Callable[[Ledger], object]) -> None:
    ledger = _open(8)
    _send(ledger, 4, 1)
    before(ledger)
    seen = (ledger.settled, ledger.left, ledger.flying)

    result = late(ledger)

    assert result is None
    assert (ledger.settled, ledger.left, ledger.flying) == seen


def test_a_batch_that_was_not_run_goes_again_as_it_was_and_first() -> None:
    ledger = _open(8)
    sent = _send(ledger, 3, 1)
    _send(ledger, 3, 2)
    ledger.come_home(2, 1)

    ledger.return_unrun(1)

    assert ledger.take(100) == sent
    assert ledger.settled == 1


@pytest.mark.parametrize(
    ("low", "high", "known", "again"),
    [
        pytest.param(
            3,
            4,
            True,
            [(0, 3, 0, False), (3, 1, 1, True), (4, 12, 0, False)],
            id="one that is known: alone",
        ),
        pytest.param(
            4,
            12,
            True,
            [(0, 4, 0, False), (4, 8, 1, True), (12, 4, 0, False)],
            id="a step of several: together, but each noted",
        ),
        pytest.param(0, 1, True, [(0, 1, 1, True), (1, 15, 0, False)], id="the first"),
        pytest.param(15, 99, True, [(0, 15, 0, False), (15, 1, 1, True)], id="a step that reaches over the end"),
        pytest.param(0, 16, False, [(at, 2, 0, True) for at in range(0, 16, 2)], id="unknown: in eight parts"),
        pytest.param(0, 2**20, False, [(at, 2, 0, True) for at in range(0, 16, 2)], id="unknown, while it was loading"),
        pytest.param(
            4,
            7,
            False,
            [(0, 4, 0, False), (4, 1, 0, True), (5, 1, 0, True), (6, 1, 0, True), (7, 9, 0, False)],
            id="few that are unknown: each alone",
        ),
        pytest.param(
            5, 6, False, [(0, 5, 0, False), (5, 1, 1, True), (6, 10, 0, False)], id="a single one is known by itself"
        ),
        pytest.param(16, 17, True, [(0, 16, 0, False)], id="behind the end: all had run"),
    ],
)
def test_a_lost_batch_goes_again_with_its_suspects_apart(
    low: int, high: int, known: bool, again: list[tuple[int, int, int, bool]]
) -> None:
    ledger = _open(16)
    _send(ledger, 16, 1)

    given_up = ledger.lose(1, low, high, known=known)

    assert given_up is None
    assert (ledger.settled, ledger.left) == (0, 16)
    assert _describe(_drain(ledger)) == again


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 63, 64, 65, 1000])
def test_unknown_suspects_are_cut_in_at_most_eight_parts_of_about_one_size(count: int) -> None:
    ledger = _open(count)
    _send(ledger, count, 1)

    ledger.lose(1, 0, count, known=False)

    parts = _drain(ledger)
    assert [item for part in parts for item in _items(part)] == list(range(count))
    assert len(parts) <= 8
    assert max(part.count for part in parts) == math.ceil(count / 8)


def test_suspects_are_not_sent_along_with_others_and_a_large_part_is_cut() -> None:
    ledger = _open(32)
    _send(ledger, 16, 1)
    ledger.lose(1, 0, 6, known=True)

    pieces = _drain(ledger, 4)

    assert _describe(pieces) == [
        (0, 4, 1, True),
        (4, 2, 1, True),
        *((at, 4, 0, False) for at in (6, 10)),
        (14, 2, 0, False),
        *((at, 4, 0, False) for at in (16, 20, 24, 28)),
    ]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("retries", [0, 1, 2, 5])
def test_an_item_that_kills_alone_is_tried_again_as_often_as_allowed(retries: int, known: bool) -> None:
    ledger = _open(1, retries=retries)
    given_up, deaths = None, 0

    while given_up is None:
        deaths += 1
        assert _send(ledger, 1, deaths).attempt == deaths
        given_up = ledger.lose(deaths, 0, 1, known=known)

    assert deaths == retries + 1
    assert (given_up.piece.first, given_up.piece.deaths) == (0, retries + 1)
    assert (ledger.settled, ledger.left, ledger.take(1)) == (1, 0, None)


def test_mates_of_an_item_that_is_given_up_go_again() -> None:
    ledger = _open(10, retries=0)
    _send(ledger, 10, 1)

    given_up = ledger.lose(1, 4, 5, known=True)

    assert given_up is not None
    assert given_up.piece == Piece(first=4, columns=(range(4, 5),), deaths=1, exact=True)
    assert ledger.settled == 1
    assert [_items(piece) for piece in _drain(ledger)] == [[0, 1, 2, 3], [5, 6, 7, 8, 9]]


def test_a_single_suspect_is_given_up_at_once_where_it_is_not_to_be_tried_again() -> None:
    ledger = _open(10)
    _send(ledger, 10, 1)

    given_up = ledger.lose(1, 9, 10, known=True, last=True)

    assert given_up is not None
    assert (given_up.piece.first, given_up.piece.deaths) == (9, 1)
    assert ledger.settled == 1


def test_several_suspects_are_never_given_up_together() -> None:
    ledger = _open(10, retries=0)
    _send(ledger, 10, 1)

    given_up = ledger.lose(1, 2, 8, known=True, last=True)

    assert given_up is None
    assert _describe(_drain(ledger)) == [(0, 2, 0, False), (2, 6, 1, True), (8, 2, 0, False)]


def test_what_failed_and_is_tried_again_goes_alone_and_is_not_settled() -> None:
    ledger = _open(6)
    _send(ledger, 6, 1)

    home = ledger.come_home(1, 4, again=[1, 3])

    assert _items(home) == [0, 1, 2, 3]
    assert (ledger.settled, ledger.left) == (2, 4)
    pieces = _drain(ledger)
    assert [(_items(piece), piece.errors, piece.attempt) for piece in pieces] == [
        ([4, 5], 0, 1),
        ([1], 1, 2),
        ([3], 1, 2),
    ]


def test_a_try_after_an_error_remembers_deaths_and_errors() -> None:
    ledger = _open(1)
    _send(ledger, 1, 1)
    ledger.lose(1, 0, 1, known=True)
    _send(ledger, 1, 2)

    ledger.come_home(2, 1, again=[0])

    piece = ledger.take(1)
    assert piece is not None
    assert (piece.deaths, piece.errors, piece.attempt, piece.exact) == (1, 1, 3, True)


def test_nobody_knows_how_much_is_left_of_a_generator_until_it_ends() -> None:
    ledger = Ledger(open_source([iter(range(3))]), retries=2)

    left = [ledger.left]
    _send(ledger, 2, 1)
    left.append(ledger.left)
    _send(ledger, 2, 2)
    left.append(ledger.left)
    ledger.return_unrun(1)
    left.append(ledger.left)

    assert left == [None, None, 0, 2]


class Losses(RuleBasedStateMachine):
    """A call whose engines die, whose messages are lost and come twice, and some of whose items kill each time."""

    @initialize(
        count=st.integers(0, MOST),
        retries=st.integers(0, 3),
        counted=st.booleans(),
        poison=st.lists(st.integers(0, MOST), max_size=6),
        seed=st.integers(0, 2**32),
    )
    def open(self, count: int, retries: int, counted: bool, poison: list[int], seed: int) -> None:
        self.count, self.retries, self.counted = count, retries, counted
        self.poison = frozenset(poison)
        self.chance = random.Random(seed)
        items = range(count) if counted else iter(range(count))
        self.ledger = Ledger(open_source([items, range(10_000, 10_000 + count)]), retries=retries)
        self.number = 0
        self.flying: dict[int, Piece] = {}
        self.past: list[int] = []
        self.homes: Counter[int] = Counter()
        self.given_up: Counter[int] = Counter()
        self.deaths: Counter[int] = Counter()
        """In how many deaths each item was a suspect."""
        self.counted_deaths: Counter[int] = Counter()
        """In how many of them that its tries are counted by."""

    @rule(size=st.integers(1, MOST))
    def send(self, size: int) -> None:
        self._send(size)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def come_home(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.flying)), label="number")
        most = self._find_killer(self.flying[number])
        count = data.draw(st.integers(0, most) | st.just(most), label="count")
        again = data.draw(st.sets(st.integers(0, count - 1), max_size=3) if count else st.just(set()), label="again")
        self._come_home(number, count, sorted(again))

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), overdue=st.booleans())
    def die_at_a_known_step(self, data: st.DataObject, overdue: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.flying)), label="number")
        piece = self.flying[number]
        at = data.draw(st.integers(0, min(self._find_killer(piece), piece.count - 1)), label="at")
        step = 1 if piece.exact else 1 << data.draw(st.integers(0, 8), label="step")
        low = max(at - data.draw(st.integers(0, step - 1), label="before"), 0)
        self._lose(number, low, low + step, known=True, last=overdue)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), loading=st.booleans())
    def die_at_an_unknown_item(self, data: st.DataObject, loading: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.flying)), label="number")
        self._lose(number, 0, 2**20 - 1 if loading else self.flying[number].count, known=False)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def lose_the_message(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.flying)), label="number")
        self._land(number)
        self.ledger.return_unrun(number)

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def hear_of_a_late_twin(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.past), label="number")

        assert self.ledger.look(number) is None
        assert self.ledger.come_home(number, 1, again=[0]) is None
        assert self.ledger.lose(number, 0, 1, known=True, last=True) is None
        self.ledger.return_unrun(number)

    @invariant()
    def nothing_is_forgotten(self) -> None:
        ledger = self.ledger
        assert ledger.numbers() == list(self.flying)
        assert ledger.settled == self.homes.total() + self.given_up.total()
        if self.counted:
            flying = sum(piece.count for piece in self.flying.values())
            assert ledger.left == self.count - flying - ledger.settled

    @invariant()
    def no_item_is_settled_twice(self) -> None:
        settled = self.homes + self.given_up
        assert max(settled.values(), default=0) <= 1

    @invariant()
    def nobody_dies_of_an_item_for_ever(self) -> None:
        splits = math.ceil(math.log(MOST, 8))
        assert max(self.deaths.values(), default=0) <= splits + 1 + self.retries + 1

    def teardown(self) -> None:
        """No more bad luck: only the items that kill still do."""
        if not hasattr(self, "ledger"):
            return
        known = self.chance.random() < 0.5
        for _ in range(20 * MOST):
            if self.flying:
                self._work_off(self.chance.choice(sorted(self.flying)), known=known)
            elif not self._send(self.chance.choice([1, 10, MOST])):
                break
        else:
            raise AssertionError("it does not end")

        assert (self.ledger.settled, self.ledger.flying, self.ledger.left) == (self.count, 0, 0)
        assert sorted(self.homes + self.given_up) == list(range(self.count))
        assert self.poison & set(range(self.count)) <= set(self.given_up)
        self.nothing_is_forgotten()
        self.no_item_is_settled_twice()
        self.nobody_dies_of_an_item_for_ever()

    def _work_off(self, number: int, *, known: bool) -> None:
        piece = self.flying[number]
        killer = self._find_killer(piece)
        if killer == piece.count:
            self._come_home(number, piece.count, [])
        elif known:
            step = 1 if piece.exact else self.chance.choice([1, 4, 64])
            low = max(killer - self.chance.randrange(step), 0)
            self._lose(number, low, low + step, known=True)
        else:
            self._lose(number, 0, piece.count, known=False)

    def _find_killer(self, piece: Piece) -> int:
        return next((at for at, item in enumerate(piece.columns[0]) if item in self.poison), piece.count)

    def _send(self, size: int) -> bool:
        piece = self.ledger.take(size)
        if piece is None:
            return False
        assert 0 < piece.count <= size
        assert _items(piece) == list(range(piece.first, piece.first + piece.count))
        assert list(piece.columns[1]) == [10_000 + item for item in _items(piece)]
        self.number += 1
        self.ledger.depart(piece, self.number)
        self.flying[self.number] = piece
        return True

    def _land(self, number: int) -> Piece:
        self.past.append(number)
        return self.flying.pop(number)

    def _come_home(self, number: int, count: int, again: list[int]) -> None:
        piece = self._land(number)

        home = self.ledger.come_home(number, count, again=again)

        assert _items(home) == _items(piece)[:count]
        self.homes.update(item for at, item in enumerate(_items(home)) if at not in again)

    def _lose(self, number: int, low: int, high: int, *, known: bool, last: bool = False) -> None:
        piece = self._land(number)
        suspects = _items(piece)[low:high]
        self.deaths.update(suspects)
        if known or len(suspects) == 1:
            self.counted_deaths.update(suspects)

        given_up = self.ledger.lose(number, low, high, known=known, last=last)

        enough = len(suspects) == 1 and (last or self.counted_deaths[suspects[0]] > self.retries)
        assert (given_up is not None) == enough
        if given_up is not None:
            (item,) = _items(given_up.piece)
            assert [item] == suspects
            assert given_up.piece.deaths == self.counted_deaths[item] <= max(self.retries + 1, 2)
            self.given_up[item] += 1


TestLosses = Losses.TestCase
TestLosses.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
