from __future__ import annotations

import json

import pytest

from stoker.agent.order import Death, EngineOrder, EngineReport

ORDER = EngineOrder(
    number=3,
    connection={"key": "SECRET", "curve_serverkey": "SECRET TOO"},
    log="/log",
    arguments=("--a=1",),
    config={"IPEngine": {"id": 3}},
    env={"A": "1"},
    work_dir="/work",
    setups=("x",),
    fork=False,
)
REPORT = EngineReport(
    number=1, pid=2, started=3, uuid="u", phase="ready", state="S", seconds=1.5, busy=0.0, tasks_done=4, rss=5
)
DEATH = Death(number=1, pid=2, status=-9, last_lines=("a", "b"), seconds=1.5)


def test_an_order_travels_as_json() -> None:
    data = json.loads(json.dumps(ORDER.to_json()))

    assert EngineOrder.from_json(data).to_json() == {**ORDER.to_json(), "arguments": ["--a=1"], "setups": ["x"]}
    assert EngineReport.from_json(json.loads(json.dumps(REPORT.to_json()))) == REPORT
    assert json.loads(json.dumps(DEATH.to_json()))["last_lines"] == ["a", "b"]


def test_what_a_newer_sender_adds_is_ignored() -> None:
    assert EngineReport.from_json({**REPORT.to_json(), "colour": "red"}) == REPORT


def test_what_is_missing_is_an_error() -> None:
    with pytest.raises(TypeError, match="'log'"):
        EngineOrder.from_json({"number": 1, "connection": {}})


def test_a_key_is_never_shown() -> None:
    assert "SECRET" not in f"{ORDER!r} {ORDER}"


@pytest.mark.parametrize(
    ("death", "cause"),
    [
        pytest.param(Death(status=3), "exit status 3", id="status"),
        pytest.param(Death(status=0), "exit status 0", id="success"),
        pytest.param(Death(status=-11), "SIGSEGV", id="signal"),
        pytest.param(Death(status=-45), "signal 45", id="signal without a name"),
        pytest.param(Death(), "an unknown cause", id="unknown"),
        pytest.param(Death(status=-9, frozen=True), "SIGKILL (it was frozen)", id="frozen"),
        pytest.param(
            Death(status=-9, out_of_memory=True, peak=23_800_000_000),
            "SIGKILL (out of memory: peak 23.8 GB)",
            id="memory",
        ),
        pytest.param(Death(status=-9, out_of_memory=True), "SIGKILL (out of memory)", id="memory, peak unknown"),
        pytest.param(Death(with_agent=True), "the death of its agent", id="agent"),
        pytest.param(Death(problem="no such directory: /x"), "no such directory: /x", id="problem"),
    ],
)
def test_a_cause_is_told_in_a_few_words(death: Death, cause: str) -> None:
    assert death.cause == cause
