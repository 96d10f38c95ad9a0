"""Reading: text or plain data becomes a spec, or all its faults at once, each with file and dotted key."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from stoker.errors import Fault, SpecError
from stoker.spec.keys import find_section, list_keys
from stoker.spec.model import ClusterSpec
from stoker.spec.value import InnerFaultError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["parse_spec", "read_spec"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = 80


def read_spec(path: Path | str) -> ClusterSpec:
    """Read a spec from a TOML file.

    Paths in it that are relative are meant from the file's directory; the profile's name, where none is
    given, is the file's.

    Raises:
        SpecError: It cannot be read, is not TOML, or is faulty.
    """
    path = Path(path)
    try:
        # Some editors put a byte order mark in front.
        data = tomllib.loads(path.read_bytes().decode().removeprefix("\ufeff"))
    except OSError as error:
        raise SpecError([_fault(path, "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise SpecError([_fault(path, "", f"is not UTF-8 text (byte {error.start})")]) from error
    except tomllib.TOMLDecodeError as error:
        raise SpecError([_fault(path, "", f"is not TOML: {error}")]) from error
    section = data.get("cluster", {})
    unnamed = isinstance(section, dict) and "profile" not in section
    if unnamed:
        data["cluster"] = {"profile": path.stem, **section}
    try:
        return parse_spec(data, source=str(path), base=path.absolute().parent)
    except SpecError as error:
        if not unnamed:
            raise
        raise SpecError([_explain_origin(fault) for fault in error.faults]) from None


def parse_spec(data: Mapping[str, Any], *, source: str = "spec", base: Path | None = None) -> ClusterSpec:
    """Make a spec from plain data, as TOML gives it.

    Args:
        data: Tables as mappings, arrays as lists.
        source: What faults name as the place.
        base: The directory that relative paths are meant from; None: the current one.

    Raises:
        SpecError: It is faulty.
    """
    try:
        spec = ClusterSpec.model_validate(dict(data))
    except ValidationError as error:
        details = sorted(error.errors(), key=lambda detail: _order(detail["loc"]))
        faults = dict.fromkeys(_describe(detail, source) for detail in details)
        raise SpecError(list(faults)) from None
    return _resolve_paths(spec, base or Path.cwd(), source)


def _explain_origin(fault: Fault) -> Fault:
    if fault.key != "cluster.profile":
        return fault
    return replace(fault, problem=f"{fault.problem} (the file's name, because no profile is given)")


def _fault(path: Path, key: str, problem: str) -> Fault:
    return Fault(source=str(path), key=key, problem=problem)


def _describe(detail: ErrorDetails, source: str) -> Fault:
    loc = _strip_union_tags(detail["loc"])
    error = detail.get("ctx", {}).get("error")
    if isinstance(error, InnerFaultError):
        loc = (*loc, *error.below)
    return Fault(source=source, key=_dotted(loc), problem=_explain(detail, loc))


def _explain(detail: ErrorDetails, loc: Sequence[int | str]) -> str:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "extra_forbidden":
        return _explain_unknown_key(loc, value)
    if loc[:1] == ("engines",) and loc[-1] == "count" and kind != "value_error":
        hint = _suggest(value, ("cores", "physical"))
        return f'must be a number from 1 to 10000, "cores" or "physical", got {_show(value)}{hint}'
    if kind == "literal_error":
        return _explain_choice(context["expected"], value)
    if kind == "value_error":
        return str(context["error"]).replace("\n", "\\n")
    if kind == "too_short":
        return f"must hold at least one {'group' if loc == ('engines',) else 'word'}"
    if kind == "missing":
        return f"{detail['loc'][-1]} must be given"
    if kind == "tuple_type" and loc == ("engines",):
        return f"must be an array of tables, each with [[engines]] above it, got {_show(value)}"
    if kind == "model_type" and loc[2:3] == ("hosts",):
        return f'must be a host in quotes, or a table such as {{ name = "node1", count = 2 }}, got {_show(value)}'
    if kind == "model_type" and len(loc) == 1 and not isinstance(value, list):
        # A key of a section may have the name of another section.
        return f"must be a table, got {_show(value)}{_point_to(_find_elsewhere(str(loc[0]), value))}"
    expected = _EXPECTED.get(kind)
    if expected is None:
        return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, got {_show(value)}"
    return f"must be {expected.format(**context)}, got {_show(value)}"


_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "greater than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "less_than_equal": "at most {le:g}",
    "model_type": "a table",
    "path_type": "a path in quotes",
    "string_too_long": "at most {max_length} characters long",
    "string_too_short": "a text that is not empty",
    "string_type": "a text in quotes",
    "tuple_type": "an array",
}


def _explain_unknown_key(loc: Sequence[int | str], value: object) -> str:
    name, known = str(loc[-1]), _known_keys(loc[:-1])
    hint = _point_to(_guess_key(name, value, known)) or f"; known here: {', '.join(known)}"
    return f"unknown key{hint}"


def _guess_key(name: str, value: object, known: Sequence[str]) -> Sequence[str]:
    # What a name here ends with, such as port of shell_port, is meant here, though another section have a port.
    if here := [key for key in known if key.rpartition("_")[2].removesuffix("s") == name.removesuffix("s")]:
        return here
    # A key of another section, whose header is missing or stands too low, unless several have it.
    elsewhere = _find_elsewhere(name, value)
    return elsewhere if len(elsewhere) == 1 else difflib.get_close_matches(name, known, n=1, cutoff=0.6)


def _point_to(keys: Sequence[str]) -> str:
    return f"; did you mean '{keys[0]}'?" if len(keys) == 1 else ""


def _known_keys(loc: Sequence[int | str]) -> list[str]:
    model: type[BaseModel] = ClusterSpec
    for part in loc:
        if isinstance(part, str):
            section = find_section(model.model_fields[part])
            assert section is not None
            model = section
    return list(model.model_fields)


def _find_elsewhere(name: str, value: object) -> list[str]:
    """Find the sections that have a key of this name; where one lies within another, the outer one."""
    # A text or a number is never a section's: with it, queue is the key of engines.
    plain = not isinstance(value, Mapping | list)
    places = [key.place for key in list_keys() if key.name == name and not (plain and key.place == name)]
    depth = min((place.count(".") for place in places), default=0)
    return [place for place in places if place.count(".") == depth]


def _explain_choice(expected: str, value: object) -> str:
    # pydantic lists the choices as 'a', 'b' or 'c'.
    choices = expected.replace("'", "").replace(" or ", ", ").split(", ")
    return f"must be one of {', '.join(choices)}, got {_show(value)}{_suggest(value, choices)}"


def _suggest(value: object, choices: Iterable[str]) -> str:
    lowered = {choice.lower(): choice for choice in choices}
    guess = difflib.get_close_matches(str(value).lower(), lowered, n=1, cutoff=0.6)
    return f'; did you mean "{lowered[guess[0]]}"?' if guess else ""


def _strip_union_tags(loc: Sequence[int | str]) -> tuple[int | str, ...]:
    # For a field of several types pydantic adds the type that was tried, engines[0].count."int", and for
    # the name of an entry the word [key].
    if loc[:1] == ("engines",):
        if loc[2:3] == ("hosts",):
            # A host that is a text alone has no key for it.
            return tuple(loc[:4]) if loc[4:5] == ("name",) else tuple(loc[:5])
        return tuple(loc[: _DEPTHS.get(str(loc[2]) if len(loc) > 2 else "", len(loc))])
    if loc[:1] == ("settings",):
        return tuple(loc[:2])
    return tuple(loc)


_DEPTHS = {"count": 3, "env": 4, "ssh_options": 4}


def _dotted(loc: Sequence[int | str]) -> str:
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            text += f".{name}" if text else name
    return text


def _order(loc: Sequence[int | str]) -> tuple[int, int]:
    # In the order of the sections, and of the groups within.
    sections = list(ClusterSpec.model_fields)
    place = sections.index(str(loc[0])) if loc and loc[0] in sections else len(sections)
    return place, loc[1] if len(loc) > 1 and isinstance(loc[1], int) else 0


def _show(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return _shorten(f"[{', '.join(_show(item) for item in value)}]")
    return _shorten(json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value))


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _resolve_paths(spec: ClusterSpec, base: Path, source: str) -> ClusterSpec:
    """Make every path absolute, so that the spec means the same wherever it is read again.

    But for those on other hosts: they are meant from the home directory there.
    """
    faults: list[Fault] = []

    def resolve(path: Path, key: str) -> Path:
        try:
            return Path(os.path.normpath(base / path.expanduser()))
        except RuntimeError:
            problem = f'"{path.parts[0]}" is nobody\'s home directory; write the path in full'
            faults.append(Fault(source=source, key=key, problem=problem))
            return path

    def resolve_there(path: Path, key: str) -> Path:
        if path.parts[:1] == ("~",):
            return Path(*path.parts[1:])
        if str(path).startswith("~"):
            problem = f'"{path.parts[0]}" cannot be found out on other hosts; write the path in full'
            faults.append(Fault(source=source, key=key, problem=problem))
        return path

    cluster = spec.cluster
    if cluster.ipython_dir is not None:
        cluster = cluster.model_copy(update={"ipython_dir": resolve(cluster.ipython_dir, "cluster.ipython_dir")})
    groups = []
    for number, group in enumerate(spec.engines):
        place, find = f"engines[{number}]", resolve_there if group.launcher == "ssh" else resolve
        changes: dict[str, Any] = {}
        if group.work_dir is not None:
            changes["work_dir"] = find(group.work_dir, f"{place}.work_dir")
        if group.startup_file is not None:
            changes["startup"] = str(resolve(group.startup_file, f"{place}.startup"))
        if group.python is not None and os.sep in group.python:
            changes["python"] = str(find(Path(group.python), f"{place}.python"))
        if group.ssh_config is not None:
            changes["ssh_config"] = resolve(group.ssh_config, f"{place}.ssh_config")
        hosts = []
        for at, host in enumerate(group.hosts):
            own: dict[str, Any] = {}
            if host.python is not None and os.sep in host.python:
                own["python"] = str(find(Path(host.python), f"{place}.hosts[{at}].python"))
            if host.work_dir is not None:
                own["work_dir"] = find(host.work_dir, f"{place}.hosts[{at}].work_dir")
            if host.startup_file is not None:
                own["startup"] = str(resolve(host.startup_file, f"{place}.hosts[{at}].startup"))
            hosts.append(host.model_copy(update=own) if own else host)
        if hosts:
            changes["hosts"] = tuple(hosts)
        groups.append(group.model_copy(update=changes))
    queue = spec.queue
    if queue.directory is not None:
        queue = queue.model_copy(update={"directory": resolve(queue.directory, "queue.directory")})
    if faults:
        raise SpecError(faults)
    changed = {"engines": tuple(groups), "cluster": cluster, "queue": queue}
    same = all(value == getattr(spec, name) for name, value in changed.items())
    return spec if same else spec.model_copy(update=changed)
