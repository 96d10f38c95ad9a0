"""Hosts in the decision what to do, in the plan of a run, and in the status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stoker.cluster.healing import StartAgent, StartEngine, decide, share_out
from stoker.cluster.lives import (
    AgentState,
    ControllerState,
    Death,
    EngineState,
    Policies,
    Seen,
    Slot,
    Wanted,
    lose_agent,
    note_away,
    note_back,
)
from stoker.cluster.planning import render_run_plan
from stoker.cluster.run_plan import RunPlan
from stoker.launch.ssh import HostCommand
from stoker.profile import ProfileDirectory
from stoker.spec import parse_spec
from stoker.system.machine import Cores

POLICIES = Policies(hosts=frozenset({"n1"}))


def make_seen(phase: Any = "ready", *engines: EngineState) -> Seen:
    """A sound controller, and an agent ``n1`` since moment 10."""
    return Seen(
        controller=ControllerState(phase="ready", started_at=0, ready_at=1),
        agents={"n1": AgentState(id="n1", phase=phase, started_at=9, ready_at=None if phase == "starting" else 10)},
        engines={engine.number: engine for engine in engines},
    )


def make_plan(*groups: dict[str, Any], **sections: Any) -> RunPlan:
    """The plan of a spec with these groups on a machine of two cores."""
    spec = parse_spec({"engines": list(groups), **sections}, base=Path("/lab"))
    return render_run_plan(
        spec,
        ProfileDirectory(Path("/ipython/profile_lab")),
        run="r1",
        source="lab.toml",
        cwd=Path("/here"),
        cores=Cores(logical=2, physical=1),
        runtime=Path("/run/x"),
    )


def test_engines_of_a_host_that_is_away_are_left_alone_and_none_is_started() -> None:
    ready = EngineState(number=0, agent="n1", phase="ready", started_at=10, ready_at=11, known=False)
    seen = make_seen("away", ready, EngineState(number=1, agent="n1", starts=1))
    wanted = Wanted(slots=(Slot(number=0, agent="n1"), Slot(number=1, agent="n1")))

    assert decide(wanted, seen, 1000.0, POLICIES).actions == ()


def test_a_host_that_is_back_is_ready_as_before() -> None:
    agent = make_seen().agents["n1"]

    away = note_away(agent)

    assert away.phase == "away"
    assert note_back(away, 50.0) == agent
    assert note_away(AgentState(id="n1", phase="starting", started_at=1)).phase == "starting"


def test_a_host_that_is_back_gets_the_engines_that_are_missing() -> None:
    wanted = Wanted(slots=(Slot(number=1, agent="n1"),))

    assert decide(wanted, make_seen(), 100.0, POLICIES).actions == (StartEngine(number=1, agent="n1"),)


def test_a_host_of_unknown_size_is_reached_without_a_slot() -> None:
    seen = Seen(controller=ControllerState(phase="ready", started_at=0, ready_at=1))

    assert decide(Wanted(agents=frozenset({"n1"})), seen, 2.0, POLICIES).actions == (StartAgent(id="n1"),)


def test_a_host_that_fails_is_tried_again_ever_more_seldom_and_never_given_up() -> None:
    seen, now, pauses = make_seen("starting"), 100.0, []
    wanted = Wanted(slots=(Slot(number=0, agent="n1"),))

    for _ in range(50):
        seen = lose_agent(seen, "n1", Death(problem="no route"), now, POLICIES)
        wake = decide(wanted, seen, now, POLICIES).wake
        assert wake is not None
        pauses.append(wake - now)
        now = wake
        seen = seen.having(AgentState(**{**_fields(seen.agents["n1"]), "phase": "starting", "started_at": now}))

    assert pauses[:8] == [1, 5, 15, 30, 60, 120, 300, 300]
    assert set(pauses[6:]) == {300}


def _fields(agent: AgentState) -> dict[str, Any]:
    return {name: getattr(agent, name) for name in AgentState.__dataclass_fields__}


@pytest.mark.parametrize(
    ("count", "present", "shares"),
    [
        pytest.param(5, {0: 1, 1: 1}, {0: 3, 1: 2}, id="more"),
        pytest.param(4, {0: 1, 1: 3}, {0: 1, 1: 3}, id="as it is"),
        pytest.param(2, {0: 4, 1: 1}, {0: 1, 1: 1}, id="fewer, of the fullest"),
        pytest.param(6, {0: 4, 1: 0, 2: 1}, {0: 4, 1: 1, 2: 1}, id="more, where there are fewest"),
        pytest.param(0, {0: 2}, {0: 0}, id="none"),
    ],
)
def test_engines_are_shared_out_evenly_and_none_moves(
    count: int, present: dict[int, int], shares: dict[int, int]
) -> None:
    assert share_out(count, present) == shares


def test_a_plan_has_an_agent_for_each_host_and_what_a_host_says_holds_there() -> None:
    hosts = ["a", {"name": "me@b:2222", "count": 3, "python": "env/bin/python", "env": {"X": "2"}, "threads": 4}]
    group = {
        "launcher": "ssh",
        "count": "cores",
        "hosts": hosts,
        "env": {"X": "1", "LD_PRELOAD": "/l.so"},
        "ssh_options": {"ProxyJump": "gate"},
        "min_engines": 2,
        "work_dir": "data",
    }

    plan = make_plan(group, {"count": 1}, cluster={"lease": 30.0})

    assert [agent.name for agent in plan.agents] == ["a", "me@b:2222", "local"]
    assert [(each.agent, each.count, each.group, each.host) for each in plan.groups] == [
        ("a", None, 0, "a"),
        ("me@b:2222", 3, 0, "me@b:2222"),
        ("local", 1, 1, ""),
    ]
    assert [(each.env.get("X"), each.env["OMP_NUM_THREADS"]) for each in plan.groups[:2]] == [("1", "1"), ("2", "4")]
    assert (plan.groups[0].work_dir, plan.groups[0].least, plan.groups[0].arguments) == ("data", 2, ("--cluster-id=",))
    assert plan.slots == {0: 1, 1: 1, 2: 1, 3: 2}
    command = plan.hosts["me@b:2222"]
    assert command == HostCommand(
        name="me@b:2222",
        address="me@b:2222",
        destination="me@b",
        port=2222,
        options={"ProxyJump": "gate"},
        config=None,
        python="env/bin/python",
        early={"LD_PRELOAD": "/l.so"},
        env={"STOKER_AGENT": "r1-me@b:2222", "STOKER_RUN": "r1"},
        place="r1 me@b:2222",
        logs="lab",
        log="/ipython/profile_lab/log/agent-me@b:2222.log",
        control="/run/x/c1",
        near="/run/x/tunnels.sock",
        tunnel=None,
        target="127.0.0.1",
        location=None,
        lease=30.0,
    )


def test_a_plan_with_hosts_comes_back_from_json_as_it_was() -> None:
    plan = make_plan({"launcher": "ssh", "hosts": ["n[1-3]"], "ssh_options": {"ProxyJump": "gate"}}, {})

    assert RunPlan.from_json(plan.to_json()) == plan


def test_groups_that_are_alike_on_a_host_share_an_agent_and_others_do_not() -> None:
    first = {"launcher": "ssh", "hosts": ["a"], "count": 1}

    plan = make_plan(first, {**first, "count": 2}, {**first, "python": "py/bin/python"})

    assert [group.agent for group in plan.groups] == ["a", "a", "a-1"]


def test_counts_that_were_found_out_make_slots() -> None:
    plan = make_plan({"launcher": "ssh", "hosts": ["a", "b"], "count": "physical"})

    counted = plan.having_counts({1: 2})

    assert ([group.per for group in plan.groups], plan.slots) == (["physical"] * 2, {})
    assert counted.slots == {0: 1, 1: 1}


@pytest.mark.parametrize("value", ["no", "off", "No"])
def test_the_check_of_host_keys_cannot_be_switched_off(value: str) -> None:
    with pytest.raises(Exception, match="accept-new"):
        make_plan({"launcher": "ssh", "hosts": ["a"], "ssh_options": {"StrictHostKeyChecking": value}})
