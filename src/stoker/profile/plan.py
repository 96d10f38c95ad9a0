"""The plan: what applying a spec would change in its profile. Reads, never writes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stoker.errors import ProfileError
from stoker.profile.block import render_block, replace_block
from stoker.profile.catalogue import check_settings, read_catalogue
from stoker.profile.directory import CONFIG_FILES, ProfileDirectory
from stoker.profile.render import ProfileSettings, render_settings
from stoker.profile.retire import Retired
from stoker.spec import ClusterSpec, render_spec
from stoker.system.files import read_or_none
from stoker.system.machine import Cores, read_cores

__all__ = ["FileChange", "Plan", "read_plan", "read_text"]

_COMMENT = """The spec that this profile was made from, as stoker read it last.
Change the spec you wrote and apply it: this copy is there so that commands know the cluster by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One file, before and after."""

    path: Path
    before: bytes | None
    """None: there is no such file yet."""

    after: bytes | None
    """None: it is removed."""

    @property
    def diff(self) -> str:
        """The change as a unified diff; empty where nothing changes."""
        before = (self.before or b"").decode(errors="replace").splitlines()
        after = (self.after or b"").decode(errors="replace").splitlines()
        origin, result = (str(self.path) if text is not None else "/dev/null" for text in (self.before, self.after))
        return "\n".join(difflib.unified_diff(before, after, origin, result, lineterm=""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that applying a spec changes on disk. Empty where the profile is already as it should be."""

    directory: ProfileDirectory
    directories: tuple[tuple[Path, int], ...]
    """Directories to make, with their permissions, outermost first."""

    changes: tuple[FileChange, ...]
    """Files to write, in this order."""

    settings: ProfileSettings | None = None
    """What the files say afterwards; None where they say nothing of stoker's."""

    def __bool__(self) -> bool:
        return bool(self.directories or self.changes)


def read_plan(
    spec: ClusterSpec,
    *,
    source: str = "spec",
    cores: Cores | None = None,
    retired: Mapping[str, tuple[Retired, ...]] | None = None,
) -> Plan:
    """Compare a spec with its profile on disk.

    Args:
        spec: What the cluster should be.
        source: What faults in ``[settings]`` name as the place.
        cores: The machine's; None: look.
        retired: By file name, statements outside stoker's block that are commented out.

    Raises:
        SpecError: ``[settings]`` names a trait that does not exist or a value that it refuses.
        ProfileError: A file cannot be read, or would not be loaded by IPython.
    """
    catalogue = None
    if spec.settings:
        catalogue = read_catalogue()
        check_settings(spec, catalogue, source=source)
    settings = render_settings(spec, cores=cores or read_cores(), catalogue=catalogue)
    directory = ProfileDirectory.of(spec)
    changes = [
        _read_config_change(directory.path / name, render_block(settings.files[name]), (retired or {}).get(name, ()))
        for name in CONFIG_FILES
    ]
    copy = render_spec(spec, comment=_COMMENT).encode()
    # Last, so that it is there only when the files that it stands for are.
    changes.append(FileChange(path=directory.spec, before=read_text(directory.spec), after=copy))
    return Plan(
        directory=directory,
        directories=tuple(_missing_directories(directory)),
        changes=tuple(change for change in changes if change.before != change.after),
        settings=settings,
    )


def _read_config_change(path: Path, body: bytes, retired: tuple[Retired, ...]) -> FileChange:
    before = read_text(path)
    after = replace_block(path, before, body, retired=retired)
    try:
        compile(after, path, "exec")
    except (SyntaxError, ValueError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        raise ProfileError(
            path, f"is no Python ({where}): IPython would drop the whole file and go on unencrypted"
        ) from None
    return FileChange(path=path, before=before, after=after)


def read_text(path: Path) -> bytes | None:
    """Read a file of a profile; None where there is none.

    Raises:
        ProfileError: It cannot be read.
    """
    try:
        return read_or_none(path)
    except OSError as error:
        raise ProfileError(path, f"cannot be read: {error.strerror}") from error


def _missing_directories(directory: ProfileDirectory) -> Iterator[tuple[Path, int]]:
    wanted = [
        (directory.path, 0o755),
        (directory.security, 0o700),
        (directory.pid, 0o700),
        (directory.log, 0o755),
        (directory.startup, 0o755),
    ]
    return ((path, mode) for path, mode in wanted if not path.is_dir())
