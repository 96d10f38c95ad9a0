"""Targets: what a user names, a spec or a profile, and the cluster that is meant by it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stoker.cluster.record import read_record, record_files
from stoker.errors import NotRunningError, RunningError, UnknownTargetError
from stoker.profile import ProfileDirectory, find_ipython_dir
from stoker.spec import ClusterSpec, read_spec

__all__ = ["Address", "Target", "find_cluster", "find_running", "refuse_running", "resolve_spec"]

Target = str | Path | ClusterSpec | None
"""A spec's path, a profile's name (perhaps ``NAME:CLUSTER_ID``), a spec itself, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Which cluster: a profile and a cluster id."""

    directory: ProfileDirectory
    cluster_id: str

    @classmethod
    def of(cls, spec: ClusterSpec) -> Address:
        """Give the address of the cluster that a spec describes."""
        return cls(directory=ProfileDirectory.of(spec), cluster_id=spec.cluster.cluster_id)

    @property
    def name(self) -> str:
        """What users call it: ``NAME``, or ``NAME:CLUSTER_ID``."""
        return f"{self.directory.name}:{self.cluster_id}" if self.cluster_id else self.directory.name


def resolve_spec(target: Target, *, ipython_dir: Path | None = None) -> tuple[ClusterSpec, str]:
    """Find the spec that is meant, and the words that faults name it by.

    Args:
        target: None is the default spec: one engine per core here, under the profile ``stoker``.
        ipython_dir: Where profiles are; beats what the spec says. None: as the spec says, else IPython's.

    Raises:
        SpecError: The spec is faulty.
        UnknownTargetError: There is no such file, or no profile that a spec was applied to.
    """
    if isinstance(target, ClusterSpec):
        spec, source = target, "spec"
    elif target is None:
        spec, source = ClusterSpec(), "default spec"
    elif _is_path(target):
        spec, source = read_spec(target), str(target)
    else:
        directory, cluster_id = _split(str(target), ipython_dir)
        spec, source = _read_copy(directory, str(target)), str(directory.spec)
        # The directory may have been moved or copied since the copy was written.
        here: dict[str, object] = {"profile": directory.name}
        if directory.path.parent != (spec.cluster.ipython_dir or find_ipython_dir()):
            here["ipython_dir"] = directory.path.parent
        if cluster_id is not None:
            here["cluster_id"] = cluster_id
        return spec.model_copy(update={"cluster": spec.cluster.model_copy(update=here)}), source
    if ipython_dir is not None:
        cluster = spec.cluster.model_copy(update={"ipython_dir": ipython_dir.absolute()})
        spec = spec.model_copy(update={"cluster": cluster})
    return spec, source


def find_cluster(target: Target, *, ipython_dir: Path | None = None) -> Address:
    """Find the one cluster that is meant: the named one, or the only one that runs.

    Raises:
        NotRunningError: No name was given, and none or several run; or several under the name.
        SpecError: A spec was named, and it is faulty.
    """
    if isinstance(target, ClusterSpec) or (target is not None and _is_path(target)):
        return Address.of(resolve_spec(target, ipython_dir=ipython_dir)[0])
    running = find_running(ipython_dir=ipython_dir)
    place = ipython_dir or find_ipython_dir()
    if target is None:
        return _only(running, f"no cluster runs below {place}; start one with: stoker up")
    directory, cluster_id = _split(str(target), ipython_dir)
    if cluster_id is not None:
        return Address(directory=directory, cluster_id=cluster_id)
    here = [address for address in running if address.directory == directory]
    return _only(here, "") if here else Address(directory=directory, cluster_id="")


def find_running(*, ipython_dir: Path | None = None) -> tuple[Address, ...]:
    """Find the clusters that stoker started and that were not taken down, by name."""
    found = []
    for path in sorted((ipython_dir or find_ipython_dir()).glob("profile_*")):
        directory = ProfileDirectory(path)
        for file in record_files(directory):
            record = read_record(file)
            if record is not None and record.processes():
                found.append(Address(directory=directory, cluster_id=record.cluster_id))
    return tuple(sorted(found, key=lambda address: address.name))


def refuse_running(directory: ProfileDirectory) -> None:
    """Refuse to go on where a cluster runs under a profile.

    Raises:
        RunningError: One does.
    """
    for address in find_running(ipython_dir=directory.path.parent):
        if address.directory == directory:
            raise RunningError(address.name)


def _only(running: tuple[Address, ...] | list[Address], otherwise: str) -> Address:
    if not running:
        raise NotRunningError(otherwise)
    if len(running) > 1:
        names = [address.name for address in running]
        raise NotRunningError(f"several clusters run; name one of: {', '.join(names)}", running=names)
    return running[0]


def _is_path(target: str | Path) -> bool:
    if not isinstance(target, str | Path):
        raise TypeError(
            "a cluster is named by a profile, the path of a spec, or a spec (of a dict, stoker.parse_spec makes one), "
            f"got {type(target).__name__}"
        )
    return isinstance(target, Path) or target.endswith(".toml") or os.sep in target


def _split(name: str, ipython_dir: Path | None) -> tuple[ProfileDirectory, str | None]:
    profile, colon, cluster_id = name.partition(":")
    return ProfileDirectory.named(profile, ipython_dir=ipython_dir), cluster_id if colon else None


def _read_copy(directory: ProfileDirectory, name: str) -> ClusterSpec:
    if directory.spec.exists():
        return read_spec(directory.spec)
    for place in (Path(), Path("cluster_profiles")):
        file = place / f"{name}.toml"
        if file.exists():
            raise UnknownTargetError(name, f"no spec was applied to a profile of this name; did you mean {file}?")
    if directory.path.is_dir():
        raise UnknownTargetError(
            name,
            f"{directory.path} is there, but no spec was applied to it; name a spec: stoker up SPEC.toml",
        )
    raise UnknownTargetError(
        name, f"neither a spec (a path that ends in .toml) nor a profile below {directory.path.parent}"
    )
