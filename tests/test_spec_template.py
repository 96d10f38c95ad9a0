from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest

from stoker.errors import SpecError
from stoker.spec import ClusterSection, ClusterSpec, EngineGroup, parse_spec, read_spec
from stoker.spec.engines import Host
from stoker.spec.keys import list_keys
from stoker.spec.template import render_template, write_template

KEY = re.compile(r"^#(?=[^ \n])", re.MULTILINE)


def test_the_template_as_it_is_written_means_the_default_spec() -> None:
    assert parse_spec(tomllib.loads(render_template("lab"))) == ClusterSpec()


def test_the_template_without_the_marks_of_its_keys_is_a_spec_that_says_everything() -> None:
    text = KEY.sub("", render_template("lab"))

    spec = parse_spec(tomllib.loads(text), base=Path("/lab"))

    assert [group.launcher for group in spec.engines] == ["local", "ssh", "slurm", "pbs", "mpi"]
    said = {
        *(f"cluster.{name}" for name in spec.cluster.model_fields_set),
        *(f"controller.{name}" for name in spec.controller.model_fields_set),
        *(f"controller.heartbeat.{name}" for name in spec.controller.heartbeat.model_fields_set),
        *(f"engines[].{name}" for group in spec.engines for name in group.model_fields_set),
        # They have no lines of their own; what says where engines run names them.
        *(f"engines[].hosts[].{name}" for name in Host.model_fields if name == "name" or f"`{name}`" in text),
        *(f"ipython.{name}" for name in spec.ipython.model_fields_set),
        *(f"kernel.{name}" for name in spec.kernel.model_fields_set),
        *(f"queue.{name}" for name in spec.queue.model_fields_set),
        *spec.model_fields_set,
    }
    assert said == {key.place for key in list_keys()}


@pytest.mark.parametrize("mark", range(len(KEY.findall(render_template("lab")))))
def test_each_key_can_be_set_alone_or_says_what_it_needs(mark: int) -> None:
    text = render_template("lab")
    start = list(KEY.finditer(text))[mark].start()

    problem = _read_problem(text[:start] + text[start + 1 :])

    # A key of another launcher, without the group that it belongs to.
    assert problem is None or re.search(r"^spec: engines\[[01]\]\..*(belongs to launcher|must be given)", problem)


def test_every_key_is_explained_above_it_and_no_line_is_too_long() -> None:
    lines = render_template("lab").splitlines()

    bare = [
        line
        for above, line in itertools.pairwise(lines)
        if KEY.match(line) and not above.startswith("# ") and "launcher =" not in line and "count = 4" not in line
    ]

    assert bare == ['#"DictDB.record_limit" = 4096']
    assert max(map(len, lines)) <= 120


def test_the_template_shows_the_defaults() -> None:
    template = render_template("lab").splitlines()

    shown = [line for line in template if line.startswith(("#profile", "#scheduler", "#period", "#count", "#ip"))]

    assert shown == [
        '#profile = "lab"',
        '#ipython_dir = "~/.ipython"',
        '#ip = "127.0.0.1"',
        '#scheduler = "leastload"',
        "#period = 0.2",
        '#count = "cores"',
        "#count = 4",
        "#count = 4",
        '#ip = "127.0.0.1"',
        '#ip = "127.0.0.1"',
    ]


def test_the_section_of_the_queue_is_written_with_what_its_keys_mean() -> None:
    template = render_template("lab")

    section = template[template.index("# Where the job queue") : template.index("# Any other trait")]
    assert section == (
        """\
# Where the job queue of multiprocessing.managers is served (`stoker queue`), and how long its leases are.
[queue]
# The address of an interface, or `*`.
#ip = "127.0.0.1"
# Where it listens. Default: any free port, the same one when it is served again.
#port = 50010
# The directory of its key and its journal. Default: `$XDG_STATE_HOME/stoker/queue`, else `~/.local/state/stoker/queue`.
#directory = "~/queue"
# Seconds of silence after which a worker's jobs are given to others.
#lease = 30.0
# How many workers a job may kill before it is given up.
#attempts = 3
# Seconds that a job may take unless its producer says otherwise. Default: no limit.
#time_limit = 600.0

"""
    )


def test_the_keys_of_healing_are_written_with_what_they_mean() -> None:
    template = render_template("lab")

    keys = template[template.index("# Seconds of their own running time") : template.index("# Where the controller")]
    assert keys == (
        """\
# Seconds of their own running time for which agents and the controller go on without their supervisor. Then they stop
# what they own and leave.
#lease = 120.0
# Seconds for which an engine, or a process of the controller, may be stopped (state T) before it is killed and
# replaced.
#frozen_after = 5.0
# Megabytes that a log file may hold. Of a longer one the older half goes.
#log_limit = 10.0

"""
    )


def test_the_heartbeat_is_written_with_examples_because_its_defaults_are_found_out() -> None:
    template = render_template("lab")

    section = template[template.index("# How lost engines are noticed.") : template.index("# Groups of engines")]
    assert section == (
        """\
# How lost engines are noticed.
[controller.heartbeat]
# Seconds between two beats. ipyparallel's own controller takes an engine after up to two of them, which is most of its
# start-up time; stoker's takes it at once, and lets up to 0.5 s pass between beats. Default: 0.1 up to 4 engines, 0.2
# up to 20, beyond that 0.01 for each, at most 3; never more than a third of `limit`.
#period = 0.2
# Seconds without an answer after which an engine is given up, and after which an engine that hears nothing from its
# controller leaves. Default: 30 more than `cluster.lease`.
#limit = 150.0

"""
    )


def test_a_key_of_several_launchers_is_written_once_with_the_local_group() -> None:
    template = render_template("lab")

    groups = template[template.index("[[engines]]") :].split("[[engines]]")[1:]
    assert ["#fork = true" in group for group in groups] == [True, False, False, False, False]


def test_every_key_of_the_model_has_a_description() -> None:
    assert [key.place for key in list_keys() if not key.description] == []


def test_the_template_is_written_where_no_file_is(tmp_path: Path) -> None:
    write_template(tmp_path / "lab.toml")

    spec = read_spec(tmp_path / "lab.toml")

    assert spec == ClusterSpec(cluster=ClusterSection(profile="lab"), engines=(EngineGroup(),))
    assert (tmp_path / "lab.toml").read_text() == render_template("lab")


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text("mine")

    with pytest.raises(SpecError) as caught:
        write_template(path)

    assert str(caught.value) == f"{path}: is there already; take another name, or --force to replace it"
    assert path.read_text() == "mine"


def test_a_file_that_is_there_is_replaced_by_force(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text("mine")

    write_template(path, force=True)

    assert path.read_text() == render_template("lab")


def test_a_name_that_no_profile_can_have_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        write_template(tmp_path / "default.toml")

    assert str(caught.value) == (
        "profile 'default': cluster.profile: \"default\" is the profile of your daily IPython; choose another name"
    )
    assert list(tmp_path.glob("*.toml")) == []


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "lab.toml"

    with pytest.raises(SpecError) as caught:
        write_template(path)

    assert str(caught.value) == f"{path}: cannot be written: No such file or directory"


def _read_problem(text: str) -> str | None:
    try:
        parse_spec(tomllib.loads(text), base=Path("/lab"))
    except SpecError as error:
        return str(error)
    return None
