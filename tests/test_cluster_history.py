"""What is told about a run: who died of what, how often, who stays down."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.agent.order import Death
from stoker.cluster.history import Event, History
from stoker.cluster.lives import Why


def look(history: History) -> list[tuple[str, str, bool]]:
    return [(event.who, event.what, event.death) for event in history.events]


@pytest.mark.parametrize(
    ("death", "why", "what"),
    [
        pytest.param(Death(status=-9), None, "died of SIGKILL", id="a signal"),
        pytest.param(Death(status=-35), None, "died of signal 35", id="a signal without a name"),
        pytest.param(Death(status=3), None, "died of exit status 3", id="an exit status"),
        pytest.param(Death(status=0), None, "died of exit status 0", id="os._exit(0) is no ordered end"),
        pytest.param(Death(), None, "died of an unknown cause", id="nobody saw it"),
        pytest.param(Death(status=-9, frozen=True), None, "died of SIGKILL (it was frozen)", id="frozen"),
        pytest.param(
            Death(status=-9, out_of_memory=True, peak=23_800_000_000),
            None,
            "died of SIGKILL (out of memory: peak 23.8 GB)",
            id="out of memory",
        ),
        pytest.param(Death(with_agent=True), None, "died of the death of its agent", id="with its agent"),
        pytest.param(Death(problem="/no/python: gone"), None, "died of /no/python: gone", id="it could not be started"),
        pytest.param(
            Death(status=-9),
            "dropped",
            "was killed: the hub had dropped it, and it could not come back",
            id="dropped by the hub",
        ),
        pytest.param(Death(status=-9), "start timeout", "was killed: it was not ready in time", id="not ready in time"),
    ],
)
def test_a_death_is_told_with_its_cause_and_counted(death: Death, why: Why | None, what: str) -> None:
    history = History()

    history.note_death("engine 3", replace(death, number=3, pid=33), log="/no/log", why=why)

    assert look(history) == [("engine 3", what, True)]
    assert history.deaths == {"engine 3": 1}
    told = history.last_death("engine 3")
    assert told is not None
    assert (told.what, told.pid) == (what, 33)


@pytest.mark.parametrize(
    ("death", "why", "what"),
    [
        pytest.param(Death(status=0, ordered=True), None, "left, as it was told", id="a client's order"),
        pytest.param(Death(status=0, ordered=True), "unwanted", "left, as it was told", id="scaled down"),
        pytest.param(Death(status=-9), "unwanted", "left, as it was told", id="scaled down, by force"),
        pytest.param(Death(status=0), "restart", "was ended, to be started again", id="a restart"),
        pytest.param(
            Death(status=0, ordered=True), "restart", "was ended, to be started again", id="a restart in peace"
        ),
    ],
)
def test_an_end_that_was_ordered_is_no_death(death: Death, why: Why | None, what: str) -> None:
    history = History()

    history.note_death("engine 3", death, log="/no/log", why=why)

    assert look(history) == [("engine 3", what, False)]
    assert history.deaths == {}
    assert history.last_death("engine 3") is None


def test_a_death_comes_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_text("".join(f"line {number}\n" for number in range(9)))
    history = History()

    history.note_death("agent local", Death(status=1), log=str(log))
    history.note_death("engine 0", Death(status=1, last_lines=("what the agent", "read")), log=str(log))
    history.note_death("engine 1", Death(status=1), log=str(tmp_path / "missing.log"))

    lines = [event.last_lines for event in history.events]
    assert lines == [tuple(f"line {number}" for number in range(4, 9)), ("what the agent", "read"), ()]


def test_the_last_death_of_each_is_found_among_what_else_happened() -> None:
    history = History()

    history.note_death("engine 0", Death(status=1), log="")
    history.note_death("engine 0", Death(status=-11), log="")
    history.note_death("engine 1", Death(status=-9), log="")
    history.note_death("engine 0", Death(status=0, ordered=True), log="")
    history.note_event("engine 0", "was continued")

    found = {who: history.last_death(who) for who in ("engine 0", "engine 1", "engine 10", "controller")}
    assert {who: event and event.what for who, event in found.items()} == {
        "engine 0": "died of SIGSEGV",
        "engine 1": "died of SIGKILL",
        "engine 10": None,
        "controller": None,
    }
    assert history.deaths == {"engine 0": 2, "engine 1": 1}


def test_who_stays_down_is_told_with_the_cause() -> None:
    history = History()

    history.note_given_up("engine 2", "exit status 1")

    assert history.given_up == {"engine 2": "exit status 1"}
    assert look(history) == [
        ("engine 2", "stays down: it died again and again, at last of exit status 1", False),
    ]


def test_events_carry_their_time() -> None:
    history = History()
    before = time.time()

    history.note_event("supervisor", "was started again")

    assert before <= history.events[0].at <= time.time()


def test_the_oldest_events_are_forgotten_and_no_count_is() -> None:
    history = History()

    for number in range(250):
        history.note_death("engine 0", Death(status=number), log="")

    assert history.deaths == {"engine 0": 250}
    assert [event.what for event in history.events] == [f"died of exit status {number}" for number in range(50, 250)]


def test_a_history_that_went_through_json_is_the_same() -> None:
    history = History()
    history.note_death("engine 0", Death(status=-9, pid=7, last_lines=("one", "two")), log="")
    history.note_event("agent local", "was continued")
    history.note_given_up("controller", "exit status 1")

    again = History.from_json(json.loads(json.dumps(history.to_json())))

    assert again.to_json() == history.to_json()
    assert list(again.events) == list(history.events)
    assert isinstance(again.events[0], Event)
    again.note_death("engine 0", Death(status=-9), log="")
    assert again.deaths == {"engine 0": 2}
