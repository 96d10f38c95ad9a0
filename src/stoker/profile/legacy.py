"""The names and values of earlier ipyparallels, as data: what the installed one makes of each, and what says the same.

Each line was tried with ipyparallel 9.2; ``tests/live/test_old_settings.py`` tries it again.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from stoker.profile.modern import (
    CLUSTER_APPS,
    FORGOTTEN,
    LAUNCHER_TRAITS,
    LAUNCHERS,
    PAIRS,
    POOLS,
    RENAMED,
    SCHEMES,
    SINGLES,
    launcher_word,
    modern,
    modern_path,
)
from stoker.profile.source import Assignment, Import

__all__ = [
    "OldImport",
    "OldSetting",
    "find_old_import",
    "find_old_setting",
    "modern",
    "modern_path",
]

_ENGINE_FILES = ("ipengine_config.py", "ipython_config.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class OldSetting:
    """What the installed ipyparallel makes of an old name or value."""

    today: str
    remedy: str
    renamed: bool = False
    """Whether it is another setting under its old name, which counts only where the new one is not set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OldImport:
    """What becomes of a file that imports an old module."""

    today: str
    remedy: str


def find_old_setting(file: str, assignment: Assignment) -> OldSetting | None:
    """Say what becomes of an old setting; None where it is none.

    Args:
        file: The name of the config file, ``.py`` also for a ``.json`` one.
        assignment: The line; only its path and value count.
    """
    if len(assignment.path) < 2:
        return None
    section, trait, value = assignment.path[-2], assignment.path[-1], assignment.value
    renamed = modern_path(file, assignment.path)
    new_section = renamed[0] if renamed else section
    fault = _find_fault(file, new_section, trait, value)
    if renamed is not None:
        return _describe_renamed(assignment.path, renamed, fault)
    if section in RENAMED and len(assignment.path) == 2:
        new, home = RENAMED[section]
        return OldSetting(
            today=f"ignored in silence: c.{section} is translated in {home} alone",
            remedy=f"write c.{new}.{trait} in {home}",
        )
    return fault or _find_forgotten(section, trait)


def find_old_import(statement: Import) -> OldImport | None:
    """Say what becomes of a file that imports this module; None where it is there."""
    for gone, instead in _GONE_MODULES.items():
        if statement.module == gone or statement.module.startswith(f"{gone}."):
            return OldImport(
                today="there is no such module any more: the file raises here and is dropped whole; "
                "ipcontroller then starts with defaults, unencrypted",
                remedy=f"import {instead} instead, or remove the line",
            )
    return None


def _describe_renamed(path: tuple[str, ...], renamed: tuple[str, ...], fault: OldSetting | None) -> OldSetting:
    old, new = ".".join(path), ".".join(renamed)
    today = f"translated to c.{new}, with a warning"
    if path[0] in CLUSTER_APPS:
        today = (
            f"translated to c.{new} by the command ipcluster, with a misleading warning (not recognized) and a true one"
            " (deprecated); ignored where Python code makes an ipyparallel.Cluster"
        )
    if fault is None:
        return OldSetting(today=today, remedy=f"write c.{new} instead of c.{old}", renamed=True)
    return OldSetting(today=f"{today}; there {fault.today}", remedy=fault.remedy, renamed=True)


def _find_fault(file: str, section: str, trait: str, value: object) -> OldSetting | None:
    """Find what is old about a trait or value of a class that is there."""
    if trait in LAUNCHER_TRAITS and section in ("Cluster", *CLUSTER_APPS):
        return _find_launcher_fault(section, trait, value)
    if section == "IPController":
        return _find_controller_fault(trait, value)
    if trait == "log_url" and section in ("IPEngine", "BaseParallelApplication") and value != "":
        if file in _ENGINE_FILES:
            return _LOG_URL_CRASH
        return _LOG_URL
    if section.startswith("Slurm") and trait == "options":
        return _SLURM_OPTIONS
    if section == "TaskScheduler" and trait == "scheme_name" and isinstance(value, str):
        return _find_scheme_fault(value)
    if section == "IPClusterStop" and trait == "signal":
        return OldSetting(
            today="accepted and never used: ipcluster stop ends clusters in its own way", remedy="remove the line"
        )
    return None


def _find_controller_fault(trait: str, value: object) -> OldSetting | None:
    if trait == "log_url" and value != "":
        return _LOG_URL
    if trait in PAIRS:
        return OldSetting(
            today="its first port is put into both pools, its second one is lost: two sockets get the same port, and "
            'a scheduler may die at the start ("Address already in use") while the controller stays up',
            remedy=_PORTS_REMEDY,
        )
    if trait in SINGLES:
        pool = {"hb": "engine_ports", "regport": "engine_ports", "notifier_port": "client_ports"}.get(trait, "ports")
        return OldSetting(
            today=f"put at the end of c.IPController.{pool}, with a warning; which socket gets it is left to chance",
            remedy=_PORTS_REMEDY,
        )
    if trait in POOLS and isinstance(value, str):
        return OldSetting(
            today='ipcontroller refuses it and ends ("Bad config encountered during initialization"): such a text is '
            "read on the command line only",
            remedy=f"write a list, c.IPController.{trait} = list(range(10101, 10141)), or controller.ports in a spec",
        )
    if trait == "db_class" and isinstance(value, str) and value.startswith("IPython."):
        return OldSetting(
            today="ipcontroller refuses it and ends: there is no module IPython.parallel any more",
            remedy=f"write {value.rpartition('.')[2]!r}, or controller.database in a spec",
        )
    return None


def _find_launcher_fault(section: str, trait: str, value: object) -> OldSetting | None:
    if trait in ("engine_launcher", "controller_launcher"):
        return OldSetting(
            today=f"ignored, with a warning (not recognized by {section})",
            remedy=f"write c.Cluster.{trait}_class, or engines[0].launcher in a spec",
        )
    if not isinstance(value, str):
        return None
    word = launcher_word(value)
    instead = f"write {word!r}"
    if word == "winhpc":
        instead = _NO_WINHPC
    elif trait.startswith("engine") and word in LAUNCHERS:
        instead += f", or engines[0].launcher = {word!r} in a spec"
    if "." not in value and value.endswith("Launcher"):
        return OldSetting(
            today="ipcluster refuses it and ends: a bare class name must be a type, but could not be imported",
            remedy=instead,
        )
    if value.startswith("IPython."):
        return OldSetting(
            today="ipcluster refuses it and ends: it could not be imported, IPython.parallel is gone", remedy=instead
        )
    if word == "winhpc":
        return OldSetting(
            today="away from Windows ipcluster hangs: the start fails in a callback, nothing ends it but SIGKILL"
            if trait.startswith("engine")
            else "away from Windows ipcluster hangs at the start without a controller",
            remedy=_NO_WINHPC,
        )
    if value.startswith("ipyparallel.apps."):
        return OldSetting(
            today="works, with a DeprecationWarning that nobody sees: ipyparallel.apps.launcher is only there for "
            "old files",
            remedy=instead,
        )
    if "MPIExec" in value:
        return OldSetting(today="works, with a warning: the class is deprecated", remedy=instead)
    return None


def _find_scheme_fault(value: str) -> OldSetting | None:
    if value in SCHEMES:
        return None
    if value == "none":
        return OldSetting(
            today="the controller starts no task scheduler: load-balanced views wait for ever",
            remedy=f"choose one of {', '.join(SCHEMES)}",
        )
    guess = difflib.get_close_matches(value.lower(), SCHEMES, n=1, cutoff=0.6)
    return OldSetting(
        today="the scheduler's process dies at the start, the controller stays up without it: load-balanced views "
        "wait for ever",
        remedy=f"did you mean {guess[0]!r}?" if guess else f"choose one of {', '.join(SCHEMES)}",
    )


def _find_forgotten(section: str, trait: str) -> OldSetting | None:
    if section in CLUSTER_APPS and trait == "controller_args":
        return OldSetting(
            today=f"ignored, with a warning (not recognized by {section})", remedy="write c.Cluster.controller_args"
        )
    if section.startswith("MPIExec") and section.endswith("Launcher"):
        new = section.replace("MPIExec", "MPI", 1)
        return OldSetting(
            today=f"ignored in silence, unless c.Cluster.engine_launcher_class names {section} itself",
            remedy=f"write c.{new}.{trait}",
        )
    if section.startswith("WindowsHPC"):
        return OldSetting(
            today="of no effect away from Windows, where this launcher only hangs", remedy="remove the line"
        )
    instead = FORGOTTEN.get(section)
    if instead is None:
        return None
    remedy = "write c.IPController.ip, or controller.ip in a spec" if trait == "ip" and "ip" in instead else instead
    today = "ignored in silence: there is no such class any more"
    if trait == "ip":
        today += ", and the controller listens where it would without this line (127.0.0.1 by default)"
    return OldSetting(today=today, remedy=remedy)


_NO_WINHPC = "remove the line: ipyparallel has no launcher for Windows HPC that works"
_PORTS_REMEDY = 'give the controller a range of its own: controller.ports = "10101-10140" in a spec, 18 are needed'
_LOG_URL_CRASH = OldSetting(
    today="every engine dies at the start: AttributeError: 'IPEngine' object has no attribute 'engine'",
    remedy="remove the line: ipyparallel's log collector (iplogger) is dead",
)
_LOG_URL = OldSetting(
    today="its log is sent to nobody: ipyparallel's log collector (iplogger) is dead",
    remedy="remove the line; logs are in the profile's directory log",
)
_SLURM_OPTIONS = OldSetting(
    today="accepted and ignored: no option reaches sbatch",
    remedy="write the #SBATCH lines into c.SlurmEngineSetLauncher.batch_template",
)
_GONE_MODULES: Mapping[str, str] = {
    "IPython.parallel": "ipyparallel",
    "IPython.kernel": "ipykernel or jupyter_client",
    "IPython.config": "traitlets.config",
    "IPython.html": "notebook",
    "IPython.utils.traitlets": "traitlets",
}
