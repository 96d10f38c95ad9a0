"""A changed spec for a cluster that runs: what differs, and what of it can be changed live."""

from __future__ import annotations

from typing import Any

import pytest

from stoker.cluster.update import choose_live, find_changes
from stoker.spec import ClusterSpec, parse_spec
from stoker.spec.model import ClusterSection


def make_spec(**sections: Any) -> ClusterSpec:
    return parse_spec({"engines": [{"count": 2}, {"count": 3}], **sections, "cluster": sections.get("cluster", {})})


# By dotted key, with the change that is made to a spec of two groups.
LIVE: dict[str, dict[str, Any]] = {
    "cluster.lease": {"cluster": {"lease": 60.0}},
    "cluster.frozen_after": {"cluster": {"frozen_after": 1.0}},
    "cluster.log_limit": {"cluster": {"log_limit": 1.0}},
    "cluster.start_timeout": {"cluster": {"start_timeout": 90.0}},
    "engines[0].count": {"engines": [{"count": 7}, {"count": 3}]},
    "engines[1].count": {"engines": [{"count": 2}, {"count": "cores"}]},
}
APART: dict[str, dict[str, Any]] = {
    "cluster.profile": {"cluster": {"profile": "attic"}},
    "cluster.cluster_id": {"cluster": {"cluster_id": "night"}},
    "cluster.ipython_dir": {"cluster": {"ipython_dir": "/elsewhere"}},
    "kernel.shell_port": {"kernel": {"shell_port": 50_001}},
    "queue.attempts": {"queue": {"attempts": 5}},
}
KEPT: dict[str, dict[str, Any]] = {
    "controller.scheduler": {"controller": {"scheduler": "lru"}},
    "controller.encryption": {"controller": {"encryption": False}},
    "controller.heartbeat.period": {"controller": {"heartbeat": {"period": 1.0}}},
    "engines[1].env.COLOUR": {"engines": [{"count": 2}, {"count": 3, "env": {"COLOUR": "red"}}]},
    "engines[0].startup": {"engines": [{"count": 2, "startup": "import math"}, {"count": 3}]},
    "engines[0].python": {"engines": [{"count": 2, "python": "/opt/python"}, {"count": 3}]},
    "engines[0].fork": {"engines": [{"count": 2, "fork": False}, {"count": 3}]},
    "engines[1]": {"engines": [{"count": 2}]},
    "engines[2]": {"engines": [{"count": 2}, {"count": 3}, {"count": 1}]},
    "ipython.exec_lines": {"ipython": {"exec_lines": ["import math"]}},
    "settings.DictDB.record_limit": {"settings": {"DictDB.record_limit": 4096}},
}


@pytest.mark.parametrize(("key", "change"), [*LIVE.items(), *APART.items(), *KEPT.items()])
def test_a_change_is_found_under_its_dotted_key_in_both_directions(key: str, change: dict[str, Any]) -> None:
    before, after = make_spec(), make_spec(**change)

    assert find_changes(before, before) == ()
    assert find_changes(before, after) == find_changes(after, before) == (key,)


def test_all_changes_are_found_at_once() -> None:
    after = make_spec(
        cluster={"lease": 60.0},
        controller={"scheduler": "lru"},
        engines=[{"count": 1, "env": {"COLOUR": "red"}}, {"count": 3}, {"count": 1}],
    )

    assert find_changes(make_spec(), after) == (
        "cluster.lease",
        "controller.scheduler",
        "engines[0].count",
        "engines[0].env.COLOUR",
        "engines[2]",
    )


@pytest.mark.parametrize(("key", "change"), [*LIVE.items(), *APART.items()])
def test_what_a_running_cluster_takes_up_or_has_no_part_in_is_taken(key: str, change: dict[str, Any]) -> None:
    before, after = make_spec(), make_spec(**change)

    live = choose_live(before, after)

    assert live == after
    assert find_changes(live, after) == ()


@pytest.mark.parametrize(("key", "change"), KEPT.items())
def test_what_needs_a_restart_is_left_as_it_was(key: str, change: dict[str, Any]) -> None:
    before, after = make_spec(), make_spec(**change)

    live = choose_live(before, after)

    assert live == before
    assert find_changes(live, after) == (key,)


def test_of_a_spec_with_both_kinds_of_changes_each_gets_its_own() -> None:
    after = make_spec(
        cluster={"lease": 60.0},
        controller={"scheduler": "lru"},
        engines=[{"count": 4, "threads": 2}, {"count": 3}],
        queue={"attempts": 5},
    )

    live = choose_live(make_spec(), after)

    assert live == make_spec(cluster={"lease": 60.0}, engines=[{"count": 4}, {"count": 3}], queue={"attempts": 5})
    assert find_changes(live, after) == ("controller.scheduler", "engines[0].threads")


def test_a_lease_that_goes_with_another_beat_waits_for_the_restart_with_it() -> None:
    before = make_spec(cluster={"lease": 60.0}, controller={"heartbeat": {"period": 20.0}})
    after = make_spec(cluster={"lease": 10.0, "log_limit": 1.0}, controller={"heartbeat": {"period": 1.0}})

    live = choose_live(before, after)

    assert (live.cluster.lease, live.cluster.log_limit) == (60.0, 1.0)
    assert find_changes(live, after) == ("cluster.lease", "controller.heartbeat.period")
    # What lies in the profile must be a spec that can be read.
    assert parse_spec(live.model_dump(exclude_unset=True)) == live


def test_every_key_of_the_section_of_the_cluster_is_known_here() -> None:
    keys = {key.removeprefix("cluster.") for key in {**LIVE, **APART} if key.startswith("cluster.")}

    assert keys == set(ClusterSection.model_fields)
