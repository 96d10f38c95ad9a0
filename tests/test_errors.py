from __future__ import annotations

from pathlib import Path

import pytest

from stoker import errors
from stoker.errors import (
    BusyError,
    ConnectError,
    Fault,
    NotRunningError,
    ProfileError,
    SpecError,
    StartError,
    StokerError,
    StopError,
    SupervisorError,
    UnknownTargetError,
)

LOG = Path("/lab/profile_lab/log/controller.log")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        pytest.param(
            SpecError(
                [
                    Fault(source="lab.toml", key="controller.hwm", problem="must be at least 0, got -1"),
                    Fault(source="lab.toml", key="", problem="is not TOML"),
                ]
            ),
            "lab.toml: controller.hwm: must be at least 0, got -1\nlab.toml: is not TOML",
            id="spec: every fault on a line of its own",
        ),
        pytest.param(ProfileError(Path("/lab/x.py"), "is no Python"), "/lab/x.py: is no Python", id="profile"),
        pytest.param(UnknownTargetError("lab", "no such profile"), "lab: no such profile", id="target"),
        pytest.param(NotRunningError("no cluster runs", running=["a"]), "no cluster runs", id="not running"),
        pytest.param(
            BusyError(Path("/ipython/profile_lab/pid/x.lock"), holder="stoker up (process 7)", waited=29.6),
            "profile_lab: stoker up (process 7) is starting or stopping this cluster (waited 30 s); "
            "try again when it has finished",
            id="busy",
        ),
        pytest.param(StartError("controller", "died"), "controller: died", id="start without a log"),
        pytest.param(
            StartError("controller", "died", log=LOG),
            f"controller: died\n  its log {LOG} is empty",
            id="start with an empty log",
        ),
        pytest.param(
            StartError("controller", "died", log=LOG, lines=["one", "two"]),
            f"controller: died\n  from {LOG}:\n    one\n    two",
            id="start with the last lines of a log",
        ),
        pytest.param(
            StopError([7, 8]), "these processes outlived SIGKILL (stuck in the kernel, or not ours): 7, 8", id="stop"
        ),
        pytest.param(ConnectError("no answer"), "no answer", id="connect"),
        pytest.param(SupervisorError("no engine 7; there are: 0, 1"), "no engine 7; there are: 0, 1", id="supervisor"),
    ],
)
def test_an_error_says_where_and_what(error: StokerError, text: str) -> None:
    assert str(error) == text


def test_every_error_is_a_stoker_error_and_is_in_the_tree_of_the_docstring() -> None:
    found = {name for name in errors.__all__ if not name.endswith("Fault")}

    assert {cls.__name__ for cls in StokerError.__subclasses__()} == found - {"StokerError"}
    assert [name for name in sorted(found) if name not in errors.__doc__] == []


def test_an_error_carries_its_parts() -> None:
    error = StartError("controller", "died", log=LOG, lines=["one"])

    assert (error.stage, error.problem, error.log, error.lines) == ("controller", "died", LOG, ("one",))
