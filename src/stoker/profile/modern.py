"""What old settings, and today's, say in a spec: traits become keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stoker.profile.source import UNKNOWN, Assignment

__all__ = [
    "CLUSTER_APPS",
    "FORGOTTEN",
    "LAUNCHERS",
    "LAUNCHER_TRAITS",
    "PAIRS",
    "POOLS",
    "RENAMED",
    "SCHEMES",
    "SINGLES",
    "launcher_word",
    "modern",
    "modern_path",
    "translate_trait",
]

SCHEMES = ("leastload", "lru", "plainrandom", "twobin", "weighted", "pure")
# Those that a spec can say; htcondor and winhpc are not among them.
LAUNCHERS = ("local", "ssh", "slurm", "pbs", "lsf", "sge", "mpi")

_CONTROLLER = "ipcontroller_config.py"
_ENGINE = "ipengine_config.py"
_CLUSTER = "ipcluster_config.py"
# Every application reads it first.
_COMMON = "ipython_config.py"

RENAMED: Mapping[str, tuple[str, str]] = {
    "HubFactory": ("IPController", _CONTROLLER),
    "IPControllerApp": ("IPController", _CONTROLLER),
    "EngineFactory": ("IPEngine", _ENGINE),
    "IPEngineApp": ("IPEngine", _ENGINE),
}
"""Classes whose traits ipyparallel translates: to which class, and from which file."""


CLUSTER_TRAITS = (
    "n",
    "delay",
    "engine_launcher_class",
    "controller_launcher_class",
    "controller_ip",
    "controller_location",
)
CLUSTER_APPS = ("IPClusterStart", "IPClusterEngines")
LAUNCHER_TRAITS = ("engine_launcher_class", "controller_launcher_class", "engine_launcher", "controller_launcher")
PAIRS = ("mux", "task", "control", "iopub")
SINGLES = ("hb", "regport", "notifier_port", "mon_port")
POOLS = ("ports", "engine_ports", "client_ports")
FORGOTTEN: Mapping[str, str] = {
    "RegistrationFactory": "remove the line, or say it of c.IPController (ip, ports)",
    "SchedulerFactory": "remove the line, or say it of c.IPController (ip) or c.TaskScheduler (scheme_name, hwm)",
    "SessionFactory": "write c.Session",
    "StreamSession": "write c.Session",
    "LoggingFactory": "remove the line",
    "IPClusterApp": "write c.Cluster",
    "IPLoggerApp": "remove the line: ipyparallel's log collector is dead",
    "MPI": "write c.IPEngine.use_mpi or c.IPEngine.init_mpi",
}
"""Classes that are gone without a successor, and what to do instead."""


def modern_path(file: str, path: tuple[str, ...]) -> tuple[str, ...] | None:
    """Give the class and trait that ipyparallel translates an old name to; None where it translates nothing.

    Args:
        file: The name of the config file.
        path: Sections and trait.
    """
    if len(path) != 2:
        return None
    section, trait = path
    new, home = RENAMED.get(section, ("", ""))
    if new and file in (home, _COMMON):
        return new, trait
    if section in CLUSTER_APPS and trait in CLUSTER_TRAITS and file in (_CLUSTER, _COMMON):
        return "Cluster", trait
    return None


def modern(assignment: Assignment) -> Mapping[str, object]:
    """Give what says the same today: keys of a spec, such as ``{"controller.ip": "*"}``.

    Traits that have no key of their own come as ``settings."Class.trait"``. Empty where nothing says the same: a
    value that is computed, a setting that means nothing any more, or one that stoker sees to itself. Whether such a
    trait is there is for the catalogue to say.
    """
    if len(assignment.path) != 2 or assignment.value is UNKNOWN:
        return {}
    section, trait = assignment.path
    if section in RENAMED:
        return translate_trait(RENAMED[section][0], trait, assignment.value)
    if section in CLUSTER_APPS:
        return translate_trait("Cluster", trait, assignment.value)
    if section in ("RegistrationFactory", "SchedulerFactory"):
        return translate_trait("IPController", trait, assignment.value) if trait == "ip" else {}
    if section.startswith("MPIExec"):
        return translate_trait(section.replace("MPIExec", "MPI", 1), trait, assignment.value)
    if section.startswith("WindowsHPC") or section in FORGOTTEN or section == "IPClusterStop":
        return {}
    return translate_trait(section, trait, assignment.value)


def translate_trait(section: str, trait: str, value: object) -> Mapping[str, object]:
    """Give the keys of a spec that say what a trait of today's ipyparallel says; empty where none do."""
    name = f"{section}.{trait}"
    if trait in LAUNCHER_TRAITS:
        return _translate_launcher(trait, value)
    if name in _NOT_SAID or trait == "log_url" or (section.startswith("Slurm") and trait == "options"):
        return {}
    if name in _KEYS:
        return _KEYS[name](value)
    return {f'settings."{name}"': value} if _fits_toml(value) else {}


def launcher_word(value: str) -> str:
    """Give the short name of a launcher that is named by its class, with or without its module."""
    name = value.rpartition(".")[2]
    for end in ("EngineSetLauncher", "ControllerLauncher", "EngineLauncher", "Launcher"):
        if name.endswith(end) and name != end:
            name = name.removesuffix(end)
            break
    name = name.lower()
    return {"mpiexec": "mpi", "windowshpc": "winhpc", "condor": "htcondor"}.get(name, name)


def _translate_launcher(trait: str, value: object) -> Mapping[str, object]:
    # The controller is stoker's own to start.
    if trait.startswith("controller") or not isinstance(value, str):
        return {}
    word = launcher_word(value)
    return {"engines[0].launcher": word} if word in LAUNCHERS else {}


def _address(key: str) -> Callable[[object], Mapping[str, object]]:
    def translate(value: object) -> Mapping[str, object]:
        if not isinstance(value, str) or not value:
            return {}
        if value in ("*", "0.0.0.0"):  # noqa: S104 - what a user wrote
            # For clients or engines alone it is what makes ipcontroller bind one port twice and die.
            return {"controller.ip": "*"}
        return {key: "127.0.0.1" if value == "localhost" else value}

    return translate


def _same(key: str, *kinds: type) -> Callable[[object], Mapping[str, object]]:
    def translate(value: object) -> Mapping[str, object]:
        fits = isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)
        return {key: value} if fits and value != "" else {}

    return translate


def _choice(key: str, *choices: str) -> Callable[[object], Mapping[str, object]]:
    known = {choice.lower(): choice for choice in choices}

    def translate(value: object) -> Mapping[str, object]:
        word = str(value).rpartition(".")[2].lower()
        return {key: known[word]} if word in known else {}

    return translate


def _hosts(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict) or not value:
        return {}
    hosts = []
    for name, wanted in value.items():
        count = wanted.get("n", 1) if isinstance(wanted, dict) else wanted
        if not isinstance(name, str) or type(count) is not int or (isinstance(wanted, dict) and set(wanted) - {"n"}):
            return {}
        hosts.append({"name": name, "count": count})
    return {"engines[0].hosts": hosts}


def _ports(value: object) -> Mapping[str, object]:
    if isinstance(value, str):
        return {"controller.ports": value}
    if isinstance(value, list | tuple) and value and all(type(port) is int for port in value):
        return {"controller.ports": ",".join(str(port) for port in value)}
    return {}


def _seconds(key: str, divisor: float) -> Callable[[object], Mapping[str, object]]:
    def translate(value: object) -> Mapping[str, object]:
        return {key: value / divisor} if type(value) in (int, float) else {}  # type: ignore[operator]

    return translate


def _log_level(value: object) -> Mapping[str, object]:
    words = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
    word = words.get(value) if isinstance(value, int) else str(value).lower()
    return {"controller.log_level": word} if word in words.values() else {}


def _fits_toml(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _fits_toml(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_fits_toml(item) for item in value)
    return isinstance(value, str | int | float)


_KEYS: Mapping[str, Callable[[object], Mapping[str, object]]] = {
    "IPController.ip": _address("controller.ip"),
    "IPController.client_ip": _address("controller.client_ip"),
    "IPController.engine_ip": _address("controller.engine_ip"),
    "IPController.location": _same("controller.location", str),
    "IPController.enable_curve": _same("controller.encryption", bool),
    "IPController.ports": _ports,
    "IPController.db_class": _choice("controller.database", "NoDB", "DictDB", "SQLiteDB", "MongoDB"),
    "IPController.registration_timeout": _seconds("cluster.start_timeout", 1.0),
    "IPController.log_level": _log_level,
    "TaskScheduler.scheme_name": _choice("controller.scheduler", *SCHEMES),
    "TaskScheduler.hwm": _same("controller.hwm", int),
    "HeartMonitor.period": _seconds("controller.heartbeat.period", 1000),
    "IPEngine.work_dir": _same("engines[0].work_dir", str),
    "IPEngine.startup_command": _same("engines[0].startup", str),
    "IPEngine.startup_script": _same("engines[0].startup", str),
    "Cluster.n": _same("engines[0].count", int),
    "SSHEngineSetLauncher.engines": _hosts,
    "Cluster.controller_ip": _address("controller.ip"),
    "Cluster.controller_location": _same("controller.location", str),
    "InteractiveShellApp.extensions": _same("ipython.extensions", list),
    "InteractiveShellApp.exec_lines": _same("ipython.exec_lines", list),
    "IPKernelApp.ip": _same("kernel.ip", str),
    **{f"IPKernelApp.{name}_port": _same(f"kernel.{name}_port", int) for name in ("shell", "iopub", "stdin")},
    **{f"IPKernelApp.{name}_port": _same(f"kernel.{name}_port", int) for name in ("control", "hb")},
}

# Said by other keys, seen to by stoker itself, or of the old kind that puts single ports into pools.
_NOT_SAID = {
    "IPController.monitor_ip",
    "IPController.engine_ports",
    "IPController.client_ports",
    "IPController.use_threads",
    "IPController.cluster_id",
    "IPEngine.cluster_id",
    "Cluster.cluster_id",
    "ProfileDir.location",
    "HeartMonitor.max_heartmonitor_misses",
    "IPEngine.max_heartbeat_misses",
    "Cluster.controller_args",
    *(f"IPController.{trait}" for trait in (*PAIRS, *SINGLES)),
}
