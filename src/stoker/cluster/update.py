"""A changed spec for a cluster that runs: what can be changed live is, and what needs a restart is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stoker.cluster.planning import render_run_plan
from stoker.cluster.record import Record, read_record, record_file
from stoker.cluster.run_plan import RunPlan
from stoker.cluster.startup_files import read_startup_files
from stoker.cluster.target import Address
from stoker.launch.supervisor_line import ask_supervisor
from stoker.profile import Plan, apply_plan, read_plan
from stoker.profile.catalogue import read_catalogue
from stoker.spec import ClusterSpec, read_spec
from stoker.system.machine import read_cores

__all__ = ["choose_live", "find_changes", "update_cluster"]

# What a running cluster takes up, beside the number of engines in a group, and what it has no part in.
_LIVE = ("lease", "frozen_after", "log_limit", "start_timeout")
_APART = ("ipython_dir", "profile", "cluster_id")


def update_cluster(
    spec: ClusterSpec, address: Address, plan: Plan, *, source: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Change a cluster that runs to what a spec says, as far as that can be done live.

    Args:
        spec: What it should be.
        address: The cluster's.
        plan: What applying the spec would change in its profile.
        source: Where the spec came from.

    Returns:
        What was changed, and what the user should know.

    Raises:
        SupervisorError: The supervisor refuses, or new engines do not come up.
    """
    record = read_record(record_file(address.directory, address.cluster_id))
    assert record is not None
    applied = read_spec(address.directory.spec)
    live = choose_live(applied, spec)
    kept = find_changes(live, spec)
    if not kept and plan:
        apply_plan(plan)
    elif kept and find_changes(applied, live):
        apply_plan(read_plan(live, source=source))
    notices: tuple[str, ...] = ()
    if kept:
        listed = ", ".join(kept)
        notices = (f"changed in the spec, and as before until stoker down, then stoker up: {listed}",)
    return _change_live(live, address, record, source=source), notices


def find_changes(before: ClusterSpec, after: ClusterSpec) -> tuple[str, ...]:
    """Find the dotted keys in which two specs differ."""
    return tuple(_compare(before.model_dump(mode="json"), after.model_dump(mode="json"), ""))


def choose_live(before: ClusterSpec, after: ClusterSpec) -> ClusterSpec:
    """Give the spec of a cluster that runs after what can be changed live has been."""
    taken = {name: getattr(after.cluster, name) for name in (*_LIVE, *_APART)}
    if before.controller.heartbeat.find_clash(after.cluster.lease) is not None:
        # It goes with another beat, which needs a restart.
        del taken["lease"]
    groups = [
        group.model_copy(update={"count": after.engines[place].count}) if place < len(after.engines) else group
        for place, group in enumerate(before.engines)
    ]
    return before.model_copy(
        update={
            "cluster": before.cluster.model_copy(update=taken),
            "engines": tuple(groups),
            "kernel": after.kernel,
            "queue": after.queue,
        }
    )


def _change_live(live: ClusterSpec, address: Address, record: Record, *, source: str) -> tuple[str, ...]:
    cores = read_cores()
    plan = render_run_plan(
        read_startup_files(live),
        address.directory,
        run=record.run,
        source=source,
        cwd=Path(record.plan.controller.cwd),
        cores=cores,
        catalogue=read_catalogue() if live.settings else None,
        # That of whoever started it: this process's environment may name another.
        runtime=Path(record.plan.runtime),
    )
    # The controller that runs keeps its beat, so engines keep the patience that goes with it.
    plan = plan.with_patience_of(record.plan)
    # Where the hosts' cores count, what was counted there stays.
    counts = {place: group.count for place, group in enumerate(plan.groups) if group.count is not None}
    present = {place: sum(place == group for group in record.slots.values()) for place in counts}
    changed = [f"cluster.{name}" for name in _LIVE if _read_setting(plan, name) != _read_setting(record.plan, name)]
    if counts == present and not changed:
        return ()
    timeout = live.cluster.start_timeout + 10
    answer = ask_supervisor(record.plan.control_socket, "update", timeout=timeout, plan=plan.to_json())
    lines = []
    if answer["added"]:
        lines.append(f"started engine {', '.join(map(str, answer['added']))}")
    if answer["leaving"]:
        lines.append(f"ending engine {', '.join(map(str, answer['leaving']))}")
    if changed:
        lines.append(f"changed {', '.join(changed)}")
    return tuple(lines)


def _read_setting(plan: RunPlan, name: str) -> float:
    value: float = plan.start_timeout if name == "start_timeout" else getattr(plan.settings, name)
    return value


def _compare(before: Any, after: Any, key: str) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in {**before, **after}:
            yield from _compare(before.get(name), after.get(name), f"{key}.{name}" if key else str(name))
    elif _are_tables(before) and _are_tables(after):
        for place in range(max(len(before), len(after))):
            old, new = (tables[place] if place < len(tables) else None for tables in (before, after))
            yield from _compare(old, new, f"{key}[{place}]")
    elif before != after:
        yield key


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)
