"""Where a profile keeps what: names of files and directories. Reads nothing but the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Only for its name: what needs no more than a profile's places must not wait for pydantic.
    from stoker.spec import ClusterSpec

__all__ = ["CONFIG_FILES", "ProfileDirectory", "find_ipython_dir"]

CONFIG_FILES = (
    "ipcontroller_config.py",
    "ipengine_config.py",
    "ipcluster_config.py",
    "ipython_config.py",
    "ipython_kernel_config.py",
)
"""The files that ``ipython profile create --parallel`` makes."""


@dataclass(frozen=True, slots=True)
class ProfileDirectory:
    """An IPython profile directory."""

    path: Path

    @classmethod
    def of(cls, spec: ClusterSpec) -> ProfileDirectory:
        """Give the directory that a spec is rendered into."""
        return cls.named(spec.cluster.profile, ipython_dir=spec.cluster.ipython_dir)

    @classmethod
    def named(cls, profile: str, *, ipython_dir: Path | None = None) -> ProfileDirectory:
        """Give a profile's directory by its name; without ``ipython_dir``, where IPython looks."""
        return cls((ipython_dir or find_ipython_dir()) / f"profile_{profile}")

    @property
    def name(self) -> str:
        """The profile's name."""
        return self.path.name.removeprefix("profile_")

    @property
    def spec(self) -> Path:
        """The copy of the spec that was applied last."""
        return self.path / "stoker.toml"

    @property
    def security(self) -> Path:
        """Where connection files lie."""
        return self.path / "security"

    @property
    def pid(self) -> Path:
        """Where stoker notes what runs."""
        return self.path / "pid"

    @property
    def log(self) -> Path:
        """Where controller and engines log."""
        return self.path / "log"

    @property
    def startup(self) -> Path:
        """Where IPython keeps files that every shell runs."""
        return self.path / "startup"


def find_ipython_dir() -> Path:
    """Find IPython's directory as IPython does: ``$IPYTHONDIR``, else ``~/.ipython``.

    Written out here because importing IPython for it takes longer than everything else ``stoker plan`` does.
    What differs: where that place cannot be written to, IPython goes on in a temporary one.
    """
    given = os.environ.get("IPYTHONDIR")
    if given is None:
        home = Path("~").expanduser().resolve()
        # Versions before 1.0 had it here, and those who still have it there are let be.
        old = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "ipython"
        kept = old.is_dir() and not old.is_symlink() and os.access(old, os.W_OK)
        given = str(old if kept and not (home / ".ipython").exists() else home / ".ipython")
    # Unlike Path's, this one leaves "~nobody" as it is, as IPython does.
    return Path(os.path.normpath(Path(os.path.expanduser(given)).absolute()))  # noqa: PTH111
