from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from stoker.spec import EngineGroup, Host, parse_spec, read_spec, render_spec
from stoker.spec.engines import BATCH_SYSTEMS, list_launchers
from stoker.spec.notices import list_ipcluster_groups

READY_MADE = Path(__file__).parent.parent / "cluster_profiles"
OPEN = {"ip": "*"}


def _parse(*groups: dict[str, Any], **sections: Any) -> tuple[EngineGroup, ...]:
    return parse_spec({"engines": list(groups), **sections}, base=Path("/lab")).engines


def test_a_host_is_a_text_or_a_table() -> None:
    (group,) = _parse(
        {"launcher": "ssh", "count": 2, "hosts": ["node[1-2]", {"name": "me@gpu:2222", "count": 4, "python": "p"}]}
    )

    assert group.hosts == (Host(name="node[1-2]"), Host(name="me@gpu:2222", count=4, python="p"))
    assert [host.names for host in group.hosts] == [("node1", "node2"), ("me@gpu:2222",)]


def test_hosts_are_written_as_they_were_given() -> None:
    hosts = ["node[1-2]", {"name": "me@gpu:2222", "count": 4}]
    spec = parse_spec({"engines": [{"launcher": "ssh", "hosts": hosts}]})

    written = tomllib.loads(render_spec(spec))

    assert written["engines"] == [{"launcher": "ssh", "hosts": hosts}]


def test_paths_on_other_hosts_are_meant_from_the_home_directory_there() -> None:
    (group,) = _parse(
        {
            "launcher": "ssh",
            "python": "~/env/bin/python",
            "work_dir": "data",
            "startup": "start.py",
            "hosts": ["a", {"name": "b", "python": "~/b/python"}, {"name": "c", "python": "/c/python"}],
        }
    )

    assert group == EngineGroup(
        launcher="ssh",
        python="env/bin/python",
        work_dir=Path("data"),
        startup="/lab/start.py",
        hosts=(Host(name="a"), Host(name="b", python="b/python"), Host(name="c", python="/c/python")),
    )


@pytest.mark.parametrize("launcher", [*BATCH_SYSTEMS, "mpi"])
def test_paths_of_launchers_with_a_shared_file_system_are_meant_from_the_directory_of_the_file(launcher: str) -> None:
    (group,) = _parse({"launcher": launcher, "count": 1, "python": "env/bin/python", "work_dir": "data"})

    assert (group.python, group.work_dir) == ("/lab/env/bin/python", Path("/lab/data"))


@pytest.mark.parametrize("time", ["30", "30:00", "01:30:00", "2-12", "2-12:30", "2-12:30:00"])
def test_every_form_of_a_time_that_slurm_knows_is_taken(time: str) -> None:
    (group,) = _parse({"launcher": "slurm", "count": 1, "time_limit": time})

    assert group.time_limit == time


def test_engines_are_forked_unless_the_group_says_otherwise() -> None:
    groups = _parse({}, {"fork": False}, {"launcher": "ssh", "hosts": ["a"], "fork": False}, {"launcher": "mpi"})

    assert [group.fork for group in groups] == [True, False, False, True]


def test_every_key_of_a_launcher_is_one_of_the_group() -> None:
    owned = {name: list_launchers(name) for name in EngineGroup.model_fields if list_launchers(name)}

    assert owned == {
        "fork": ("local", "ssh"),
        "hosts": ("ssh",),
        "ssh_options": ("ssh",),
        "ssh_config": ("ssh",),
        "tunnel": ("ssh",),
        "location": ("ssh",),
        "min_engines": ("ssh",),
        "partition": ("slurm",),
        "account": ("slurm",),
        "qos": ("slurm",),
        "time_limit": ("slurm",),
        "queue": ("pbs", "lsf", "sge"),
        "directives": ("slurm", "pbs", "lsf", "sge"),
        "mpi_cmd": ("mpi",),
        "mpi_args": ("mpi",),
    }


@pytest.mark.parametrize(
    ("groups", "places"),
    [
        pytest.param([{}], (0,), id="one"),
        pytest.param([{}, {"launcher": "mpi"}, {"python": "p"}], (0, 2), id="local, whatever else differs"),
        pytest.param([{"launcher": "mpi"}, {}], (0,), id="the first group's launcher"),
        pytest.param([{"launcher": "ssh", "hosts": ["a"]}, {"launcher": "ssh", "hosts": ["b"]}], (0, 1), id="ssh"),
        pytest.param(
            [{"launcher": "slurm", "count": 2}, {"launcher": "slurm", "count": 3}], (0, 1), id="one job for like groups"
        ),
        pytest.param(
            [{"launcher": "slurm", "count": 2}, {"launcher": "slurm", "count": 2, "qos": "x"}], (0,), id="unlike groups"
        ),
    ],
)
def test_plain_ipcluster_starts_the_groups_that_one_launcher_can(
    groups: list[dict[str, Any]], places: tuple[int, ...]
) -> None:
    assert list_ipcluster_groups(_parse(*groups)) == places


_REACH = (
    "controller.ip: engines[0] run on other machines, which cannot reach a controller that listens at 127.0.0.1; "
    'write ip = "*", or an address that they can reach'
)


@pytest.mark.parametrize(
    ("spec", "notices"),
    [
        pytest.param(
            {"engines": [{"launcher": "ssh", "count": 1, "hosts": ["a"]}], "controller": OPEN}, (), id="nothing"
        ),
        pytest.param({"engines": [{"launcher": "slurm", "count": 1}]}, (_REACH,), id="loopback"),
        pytest.param(
            {"engines": [{"launcher": "ssh", "count": 1, "hosts": ["a"], "tunnel": False}]}, (_REACH,), id="no tunnel"
        ),
        pytest.param(
            {"engines": [{"launcher": "ssh", "count": 1, "hosts": ["a"]}]},
            (
                "controller.ip: engines[0] reach a controller that listens at 127.0.0.1 only through the ssh "
                'connections, which `stoker up` does and plain `ipcluster start` does not; without: ip = "*"',
            ),
            id="tunnel",
        ),
        pytest.param({"engines": [{"launcher": "mpi"}]}, (), id="mpi on this machine"),
        pytest.param({"engines": [{"fork": False}]}, (), id="no forking"),
        pytest.param({"cluster": {"lease": 1, "frozen_after": 100, "log_limit": 0.1}}, (), id="lease"),
        pytest.param(
            {"engines": [{}, {"launcher": "mpi"}, {"launcher": "slurm", "count": 1}], "controller": OPEN},
            (
                "plain `ipcluster start` has one launcher and one set of options for it: it starts engines[0] and "
                "leaves engines[1], engines[2] out",
            ),
            id="several launchers",
        ),
        pytest.param(
            {"engines": [{"launcher": "ssh", "hosts": ["a", {"name": "b", "count": 2}]}], "controller": OPEN},
            (
                "engines[0]: plain `ipcluster start` cannot ask hosts for their cores and starts one engine on each; "
                "write count as a number",
            ),
            id="cores of other hosts",
        ),
        pytest.param(
            {
                "engines": [
                    {"launcher": "ssh", "count": 1, "hosts": ["n[1-3]"]},
                    {"launcher": "ssh", "count": 2, "hosts": ["n2"], "startup": "/a.py"},
                ],
                "controller": OPEN,
                "ipython": {"extensions": ["x"]},
                "settings": {"IPEngine.timeout": 3, "TaskScheduler.hwm": 2},
            },
            (
                "n2: in several groups; plain `ipcluster start` knows each host once and starts there what the first "
                "of them says",
                "engines[1]: startup is a file, which must be at the same path on each host",
                'ipython.extensions, settings."IPEngine.timeout": plain `ipcluster start` sends hosts no config files: '
                "engines there read what their own home directory has under the profile's name",
            ),
            id="what ipcluster cannot do over ssh",
        ),
    ],
)
def test_what_plain_ipcluster_cannot_do_is_a_notice(spec: dict[str, Any], notices: tuple[str, ...]) -> None:
    assert parse_spec(spec).notices == notices


@pytest.mark.parametrize("name", ["three_hosts", "slurm", "mpi"])
def test_ready_made_specs_are_read_without_a_notice(name: str) -> None:
    assert read_spec(READY_MADE / f"{name}.toml").notices == ()
