"""What a user names, and the cluster that is meant."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stoker.cluster import Address, find_cluster, find_running, resolve_spec
from stoker.cluster.planning import render_run_plan
from stoker.cluster.record import Record, write_record
from stoker.errors import NotRunningError, SpecError, UnknownTargetError
from stoker.launch import RUN_VARIABLE
from stoker.profile import ProfileDirectory, apply_plan, find_ipython_dir, read_plan
from stoker.spec import ClusterSpec, parse_spec
from stoker.system.machine import Cores


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "lab.toml"
    path.write_text("[controller]\nscheduler = 'lru'\n")
    return path


def apply(spec: ClusterSpec) -> None:
    apply_plan(read_plan(spec))


# Which spec is meant.


def test_nothing_means_the_default_spec() -> None:
    assert resolve_spec(None) == (ClusterSpec(), "default spec")


@pytest.mark.parametrize("target", [{"engines": [{"count": 2}]}, 2, b"lab"])
@pytest.mark.parametrize("find", [resolve_spec, find_cluster])
def test_what_names_no_cluster_is_refused_in_words(find: Callable[[object], object], target: object) -> None:
    with pytest.raises(TypeError, match=rf"stoker.parse_spec makes one\), got {type(target).__name__}"):
        find(target)


def test_a_spec_means_itself() -> None:
    spec = parse_spec({"cluster": {"profile": "lab"}})

    assert resolve_spec(spec) == (spec, "spec")


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_means_its_file(kind: Callable[[Path], str | Path], spec_file: Path) -> None:
    spec, source = resolve_spec(kind(spec_file))

    assert (spec.cluster.profile, spec.controller.scheduler, source) == ("lab", "lru", str(spec_file))


@pytest.mark.parametrize("name", ["lab.toml", "./lab.toml", "lab.d/spec"])
def test_what_looks_like_a_path_is_read_as_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SpecError) as caught:
        resolve_spec(name)

    assert [fault.problem for fault in caught.value.faults] == ["cannot be read: No such file or directory"]


def test_a_name_means_the_spec_that_was_applied_to_the_profile(spec_file: Path) -> None:
    apply(resolve_spec(spec_file)[0])

    spec, source = resolve_spec("lab")

    assert spec == resolve_spec(spec_file)[0]
    assert source == str(find_ipython_dir() / "profile_lab" / "stoker.toml")
    assert not read_plan(spec, source=source)


def test_a_name_with_a_cluster_id_means_another_cluster_of_the_profile(spec_file: Path) -> None:
    apply(resolve_spec(spec_file)[0])

    spec, _ = resolve_spec("lab:night")

    assert Address.of(spec) == Address(directory=ProfileDirectory.named("lab"), cluster_id="night")


def test_a_profile_that_was_copied_means_the_copy(spec_file: Path, tmp_path: Path) -> None:
    apply(resolve_spec(spec_file, ipython_dir=tmp_path / "old")[0])
    (tmp_path / "old" / "profile_lab").rename(tmp_path / "old" / "profile_moved")
    (tmp_path / "old").rename(tmp_path / "new")

    spec, _ = resolve_spec("moved", ipython_dir=tmp_path / "new")

    assert Address.of(spec).directory == ProfileDirectory(tmp_path / "new" / "profile_moved")


@pytest.mark.parametrize("target", [None, "file", "spec"])
def test_a_directory_for_profiles_beats_what_the_spec_says(target: str | None, tmp_path: Path, spec_file: Path) -> None:
    meant = {None: None, "file": spec_file, "spec": parse_spec({"cluster": {"ipython_dir": "/nowhere"}})}[target]

    spec, _ = resolve_spec(meant, ipython_dir=tmp_path / "here")

    assert spec.cluster.ipython_dir == tmp_path / "here"


def test_a_name_that_is_no_profile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UnknownTargetError) as caught:
        resolve_spec("lab")

    problem = f"neither a spec (a path that ends in .toml) nor a profile below {find_ipython_dir()}"
    assert (caught.value.target, str(caught.value)) == ("lab", f"lab: {problem}")


def test_a_profile_that_no_spec_was_applied_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    directory = ProfileDirectory.named("lab")
    directory.path.mkdir(parents=True)

    with pytest.raises(UnknownTargetError) as caught:
        resolve_spec("lab")

    problem = f"{directory.path} is there, but no spec was applied to it; name a spec: stoker up SPEC.toml"
    assert str(caught.value) == f"lab: {problem}"


@pytest.mark.parametrize("place", ["", "cluster_profiles"])
def test_a_spec_of_that_name_nearby_is_suggested(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path(place) / "lab.toml"
    file.parent.mkdir(exist_ok=True)
    file.touch()

    with pytest.raises(UnknownTargetError) as caught:
        resolve_spec("lab")

    problem = f"no spec was applied to a profile of this name; did you mean {file}?"
    assert str(caught.value) == f"lab: {problem}"


# Which cluster is meant.


@pytest.fixture
def run_fake() -> Iterator[Callable[[str, str], Address]]:
    """Makes a cluster that is nothing but a record and a process that carries its mark."""
    with ExitStack() as stack:

        def run(profile: str, cluster_id: str = "") -> Address:
            address = Address(directory=ProfileDirectory.named(profile), cluster_id=cluster_id)
            mark = f"fake-{os.getpid()}-{address.name}"
            environment = {**os.environ, RUN_VARIABLE: mark}
            argv = [sys.executable, "-c", "print(flush=True); input()"]
            process = stack.enter_context(
                subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            assert process.stdout is not None
            process.stdout.readline()
            stack.callback(os.kill, process.pid, signal.SIGKILL)
            address.directory.pid.mkdir(parents=True, exist_ok=True)
            write_record(address.directory, make_record(address.directory, mark, cluster_id))
            return address

        yield run


def make_record(directory: ProfileDirectory, run: str, cluster_id: str = "") -> Record:
    spec = parse_spec({"cluster": {"profile": directory.name, "cluster_id": cluster_id}})
    cores = Cores(logical=1, physical=1)
    return Record(
        state="running", plan=render_run_plan(spec, directory, run=run, source="spec", cwd=Path("/data"), cores=cores)
    )


def test_without_a_name_the_only_one_that_runs_is_meant(run_fake: Callable[..., Address]) -> None:
    ended = ProfileDirectory.named("ended")
    ended.pid.mkdir(parents=True)
    write_record(ended, make_record(ended, "nobody carries this mark"))

    runs = run_fake("lab")

    assert find_cluster(None) == runs
    assert find_running() == (runs,)


def test_without_a_name_none_that_runs_is_an_error() -> None:
    with pytest.raises(NotRunningError) as caught:
        find_cluster(None)

    assert str(caught.value) == f"no cluster runs below {find_ipython_dir()}; start one with: stoker up"
    assert caught.value.running == ()


def test_without_a_name_several_that_run_are_listed_by_name(run_fake: Callable[..., Address]) -> None:
    for profile, cluster_id in (("lab", "night"), ("lab", ""), ("attic", "")):
        run_fake(profile, cluster_id)

    with pytest.raises(NotRunningError) as caught:
        find_cluster(None)

    assert str(caught.value) == "several clusters run; name one of: attic, lab, lab:night"
    assert caught.value.running == ("attic", "lab", "lab:night")


def test_of_one_profile_the_cluster_that_runs_is_meant_whatever_its_id(run_fake: Callable[..., Address]) -> None:
    run_fake("attic")

    night = run_fake("lab", "night")

    assert find_cluster("lab") == find_cluster("lab:night") == night
    assert find_cluster("lab:") == Address(directory=ProfileDirectory.named("lab"), cluster_id="")


def test_of_one_profile_several_clusters_that_run_are_listed(run_fake: Callable[..., Address]) -> None:
    run_fake("lab")
    run_fake("lab", "night")

    with pytest.raises(NotRunningError) as caught:
        find_cluster("lab")

    assert caught.value.running == ("lab", "lab:night")


def test_a_name_under_which_nothing_runs_means_the_profile_itself() -> None:
    assert find_cluster("lab") == Address(directory=ProfileDirectory.named("lab"), cluster_id="")


def test_a_specs_path_means_its_cluster_whether_it_runs_or_not(spec_file: Path) -> None:
    assert find_cluster(str(spec_file)) == Address(directory=ProfileDirectory.named("lab"), cluster_id="")


@pytest.mark.parametrize(("cluster_id", "name"), [("", "lab"), ("night", "lab:night")])
def test_an_address_is_called_by_its_profile_and_id(cluster_id: str, name: str) -> None:
    assert Address(directory=ProfileDirectory.named("lab"), cluster_id=cluster_id).name == name
