"""The shortcut: ``stoker apply`` on a profile that nothing has touched since is answered from a stamp.

Reading a spec and the traits behind it takes a third of a second; seeing that a dozen files are as they were, a few
hundredths. So this module imports the standard library and ``system`` alone, and runs before everything else.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import stoker
from stoker.system.files import make_directory
from stoker.system.stamp import Stamp, make_stamp, read_stamp, write_stamp

__all__ = ["leave_stamp", "take_shortcut"]

_PACKAGES = ("ipyparallel", "ipython", "ipykernel", "traitlets", "pydantic")
_VARIABLES = ("HOME", "IPYTHONDIR", "XDG_CONFIG_HOME")


def take_shortcut(arguments: list[str]) -> int | None:
    """Answer ``stoker apply [SPEC]`` where nothing has changed; None where the long way is needed."""
    if arguments[:1] != ["apply"] or len(arguments) > 2 or any(word.startswith("-") for word in arguments):
        return None
    stamp = _read(arguments[1] if len(arguments) == 2 else None)
    if stamp is None or not stamp.holds(_read_circumstances()):
        return None
    for line in stamp.lines:
        stream, _, text = line.partition(" ")
        print(text, file=sys.stderr if stream == "error" else sys.stdout)
    return 0


def leave_stamp(target: str | None, files: Iterable[Path], *, said: str, warnings: Iterable[str]) -> None:
    """Note that a profile is as its spec says.

    Args:
        target: What the user named.
        files: Everything that this rests on, be it there or not.
        said: What to say the next time.
        warnings: What to warn of the next time.
    """
    lines = [*(f"error warning: {warning}" for warning in warnings), f"out {said}"]
    try:
        path = _stamp_file(target)
        make_directory(path.parent)
        write_stamp(path, make_stamp(files, circumstances=_read_circumstances(), lines=lines))
    except OSError:
        # A home that cannot be written to has no shortcuts, and nothing else is lost.
        return


def _read(target: str | None) -> Stamp | None:
    try:
        return read_stamp(_stamp_file(target))
    except (OSError, RuntimeError):
        return None


def _stamp_file(target: str | None) -> Path:
    place = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stoker"
    words = "\0".join([str(Path.cwd()), target or "", *(os.environ.get(name, "") for name in _VARIABLES)])
    return place / f"{hashlib.sha256(words.encode(errors='surrogateescape')).hexdigest()[:24]}.json"


def _read_circumstances() -> dict[str, str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    code = Path(stoker.__file__).parent
    newest = max(_read_times(code / "spec"), default=0), max(_read_times(code / "profile"), default=0)
    return {
        "stoker": f"{stoker.__version__} {newest}",
        "python": f"{sys.version} {sys.prefix}",
        "packages": " ".join(sorted(_list_packages())),
        "cores": str(cores),
    }


def _read_times(directory: Path) -> Iterator[int]:
    return (entry.stat().st_mtime_ns for entry in os.scandir(directory) if entry.name.endswith(".py"))


def _list_packages() -> Iterator[str]:
    """Give the installed packages that a rendered profile rests on, with their versions."""
    for place in sys.path:
        if place.endswith("site-packages") and Path(place).is_dir():
            yield from (
                entry.name
                for entry in os.scandir(place)
                if entry.name.endswith(".dist-info") and entry.name.startswith(_PACKAGES)
            )
