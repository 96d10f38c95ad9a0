"""Effective values: a process of its own loads a profile's files as the applications do, and says what holds then.

Run as ``python -m stoker.profile.effective PROFILE_DIR``. What the files print goes to standard error, the answer to
standard output, line by line: which file is being loaded, and at the end what was found.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.errors import ProfileError
from stoker.profile.directory import ProfileDirectory
from stoker.profile.finding import Finding
from stoker.profile.layers import APPLICATIONS
from stoker.profile.render import ProfileSettings
from stoker.profile.source import UNKNOWN

__all__ = ["Effective", "Failure", "Refusal", "Value", "compare_effective", "read_effective", "verify_profile"]

_TIMEOUT = 60.0
"""Seconds in which all files must have been loaded, on a busy machine too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A file that raised while it was loaded."""

    path: Path
    line: int | None
    problem: str
    """The exception's type and text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An application that ends because of a value."""

    application: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What a trait has once the files are loaded."""

    application: str
    file: str
    """The config file whose block wants something of it."""

    name: str
    """``Class.trait``."""

    shown: str
    """The value, as Python writes it."""

    wanted: bool
    """Whether it is what the block wants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """What loading a profile's files showed."""

    directory: Path
    failures: tuple[Failure, ...]
    refusals: tuple[Refusal, ...]
    values: tuple[Value, ...]


def verify_profile(directory: ProfileDirectory, settings: ProfileSettings) -> tuple[Finding, ...]:
    """Load a profile as its applications do, and find what is not as the settings say.

    Raises:
        ProfileError: Loading took too long, or ended the process that did it.
    """
    return compare_effective(settings, read_effective(directory, settings))


def read_effective(directory: ProfileDirectory, settings: ProfileSettings, *, timeout: float = _TIMEOUT) -> Effective:
    """Load a profile's files in a process of its own.

    Args:
        directory: The profile.
        settings: The traits to look at, and the values that they should have.
        timeout: Seconds.

    Raises:
        ProfileError: Loading took too long, or ended the process that did it; names the file.
    """
    question = json.dumps({file: _select(traits) for file, traits in settings.files.items()})
    argv = [sys.executable, "-m", __name__, str(directory.path)]
    try:
        # A session of its own: what the files start at a terminal must not get hold of it.
        ended = subprocess.run(
            argv, input=question.encode(), capture_output=True, timeout=timeout, check=False, start_new_session=True
        )
    except subprocess.TimeoutExpired as error:
        loading, _ = _read_answer(error.stdout or b"")
        raise ProfileError(loading or directory.path, f"is not loaded after {timeout:g} s") from None
    except OSError as error:
        raise ProfileError(directory.path, f"cannot be loaded: {error.strerror}") from error
    loading, answer = _read_answer(ended.stdout)
    if answer is None:
        last = (ended.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise ProfileError(
            loading or directory.path, f"ends the process that loads it (status {ended.returncode}): {last}"
        )
    return Effective(
        directory=directory.path,
        failures=tuple(
            Failure(path=Path(each["path"]), line=each["line"], problem=each["problem"]) for each in answer["failures"]
        ),
        refusals=tuple(Refusal(**each) for each in answer["refusals"]),
        values=tuple(Value(**each) for each in answer["values"]),
    )


def compare_effective(wanted: ProfileSettings, found: Effective) -> tuple[Finding, ...]:
    """Find what does not hold although the settings say it, and what stands in the way of loading at all."""
    findings = [
        Finding(
            path=failure.path,
            line=failure.line,
            setting="",
            kind="wrong",
            today=f"raises {failure.problem}: {_describe_dropped(failure.path)}",
            remedy="correct it",
        )
        for failure in found.failures
    ]
    findings += [
        Finding(
            path=found.directory / APPLICATIONS[refusal.application][-1],
            line=None,
            setting="",
            kind="wrong",
            today=f"{refusal.application} refuses a value and ends: {refusal.problem}",
            remedy="correct the value",
        )
        for refusal in found.refusals
    ]
    for value in found.values:
        if value.wanted or value.name not in wanted.files.get(value.file, {}):
            continue
        findings.append(
            Finding(
                path=found.directory / value.file,
                line=None,
                setting=f"c.{value.name}",
                kind="overridden",
                today=f"{value.application} goes by {value.shown}, not {wanted.files[value.file][value.name]!r}",
                remedy="look for what else sets it: a file that is loaded from here, or the configuration of the "
                "whole machine",
            )
        )
    return tuple(dict.fromkeys(findings))


def _describe_dropped(path: Path) -> str:
    unencrypted = ", a controller unencrypted" if path.stem in ("ipython_config", "ipcontroller_config") else ""
    return f"dropped whole, with a message in the log; whoever reads it goes on with defaults{unencrypted}"


def _select(traits: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in traits.items() if value is not UNKNOWN and _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, str | int | float)


def _read_answer(out: bytes) -> tuple[Path | None, dict[str, Any] | None]:
    """Give the file that was loaded last, and the answer; None for what did not come."""
    loading: Path | None = None
    for line in out.splitlines():
        try:
            data = json.loads(line)
        except ValueError:
            # Cut off in the middle.
            continue
        if "loading" not in data:
            return None, data
        loading = Path(data["loading"])
    return loading, None


def main() -> None:
    """Load the profile that the command line names, and answer what standard input asks."""
    from stoker.profile import loading

    loading.answer(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
