from __future__ import annotations

import sys

import pytest

from stoker.agent import interrupt
from stoker.agent.interrupt import EngineStopped, TaskFrames, end_tasks, run_task


def test_what_a_task_calls_is_its_own_however_deep() -> None:
    frames = TaskFrames()

    def deep(depth: int) -> bool:
        return deep(depth - 1) if depth else frames.holds(sys._getframe())

    assert run_task(deep, (50,), {}) is True
    assert run_task(lambda: frames.holds(sys._getframe()), (), {}) is True


def test_what_no_task_has_called_is_nobodys() -> None:
    frames = TaskFrames()

    assert not frames.holds(sys._getframe())
    assert not frames.holds(None)


def test_code_counts_only_while_its_block_runs() -> None:
    frames = TaskFrames()
    code = compile("found = frames.holds(sys._getframe())", "<cell>", "exec")
    names = {"frames": frames, "sys": sys}

    exec(code, names)
    before = names["found"]
    with frames.add(code), frames.add(code):
        exec(code, names)
    during = names["found"]
    exec(code, names)

    assert (before, during, names["found"]) == (False, True, False)


def test_code_that_looks_the_same_is_not_taken_for_a_tasks() -> None:
    frames = TaskFrames()
    source = "found = frames.holds(sys._getframe())"
    mine, other = compile(source, "<cell>", "exec"), compile(source, "<cell>", "exec")
    names = {"frames": frames, "sys": sys}

    with frames.add(mine):
        exec(other, names)

    assert names["found"] is False


def test_code_stops_counting_also_after_an_exception() -> None:
    frames = TaskFrames()
    code = compile("1 / 0", "<cell>", "exec")

    with pytest.raises(ZeroDivisionError), frames.add(code):
        exec(code)

    assert code not in frames._codes


def test_a_task_gets_its_arguments_and_gives_what_it_returns() -> None:
    assert run_task(divmod, (7, 2), {}) == (3, 1)
    assert run_task(int, ("ff",), {"base": 16}) == 255


def test_the_end_of_an_engine_is_not_caught_as_an_error() -> None:
    assert not issubclass(EngineStopped, Exception)


def test_a_task_does_not_begin_in_an_engine_that_was_told_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "_ends", [])

    end_tasks("engine 3 was told to end")

    with pytest.raises(EngineStopped, match="engine 3 was told to end"):
        run_task(divmod, (7, 2), {})
