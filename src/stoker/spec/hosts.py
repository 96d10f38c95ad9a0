"""Hosts: the texts that name machines reached over SSH, and the sets of them, as ClusterShell writes sets."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Address", "expand_hosts", "parse_address"]

_LIMIT = 10_000
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_PIECE = re.compile(r"(?P<first>[0-9]+)(?:-(?P<last>[0-9]+)(?:/(?P<step>[0-9]+))?)?")
# Nothing that ssh would take for an option, or a shell for more than a word.
_ADDRESS = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]*)@)?(?P<host>[A-Za-z0-9_][A-Za-z0-9._-]*)(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where ssh reaches one machine."""

    host: str
    """A name or address, or a ``Host`` of ~/.ssh/config."""

    user: str | None = None
    """None: as ssh's own configuration says; so for the port."""

    port: int | None = None

    def __str__(self) -> str:
        user = "" if self.user is None else f"{self.user}@"
        port = "" if self.port is None else f":{self.port}"
        return f"{user}{self.host}{port}"


def expand_hosts(text: str) -> tuple[str, ...]:
    """Expand a set such as ``me@node[1-3,7]:2222`` or ``rack[1-2]n[01-16]`` into its hosts, in order.

    Source: the node sets of ClusterShell, without its groups and its set arithmetic.

    Raises:
        ValueError: The text is not of this form, or names too many hosts, or one twice.
    """
    literals = _BRACKETS.split(text)
    # Text, then in turn: the inside of brackets, the text behind them.
    numbers = [list(_expand_ranges(inside, text)) for inside in literals[1::2]]
    total = 1
    for choices in numbers:
        total *= len(choices)
    if total > _LIMIT:
        raise ValueError(f'"{text}" names {total} hosts; at most {_LIMIT} are possible')
    hosts = [
        literals[0] + "".join(number + tail for number, tail in zip(chosen, literals[2::2], strict=True))
        for chosen in itertools.product(*numbers)
    ]
    for host in hosts:
        _check_address(host, text)
    if len(set(hosts)) < len(hosts):
        raise ValueError(f'"{text}" names a host twice')
    return tuple(hosts)


def parse_address(text: str) -> Address:
    """Take ``user@host:port`` apart.

    Raises:
        ValueError: The text is not of this form.
    """
    _check_address(text, text)
    match = _ADDRESS.fullmatch(text)
    assert match is not None
    port = match["port"]
    return Address(host=match["host"], user=match["user"], port=None if port is None else int(port))


def _check_address(host: str, text: str) -> None:
    match = _ADDRESS.fullmatch(host)
    if match is None:
        raise ValueError(
            f'must be a host such as "node1", "me@gpu:2222" or a set such as "node[1-20]", got "{text}"'
            + (" (for an IPv6 address, give it a name in ~/.ssh/config)" if host.count(":") > 1 else "")
        )
    if match["port"] is not None and not 1 <= int(match["port"]) <= 65535:
        raise ValueError(f'port must be 1-65535, got {match["port"]} in "{text}"')


def _expand_ranges(inside: str, text: str) -> Iterator[str]:
    for piece in inside.split(","):
        match = _PIECE.fullmatch(piece.strip())
        if match is None:
            raise ValueError(f'must be numbers and ranges in brackets, such as "node[1-3,7]", got "{text}"')
        first, last, step = match["first"], match["last"] or match["first"], int(match["step"] or 1)
        if "0" in (first[:1], last[:1]) and len(first) != len(last) and max(first, last, key=len)[0] == "0":
            raise ValueError(f'"{piece.strip()}" must have as many digits at its start as at its end, in "{text}"')
        if int(first) > int(last) or step == 0:
            raise ValueError(f'a range must rise, got "{piece.strip()}" in "{text}"')
        if (int(last) - int(first)) // step >= _LIMIT:
            raise ValueError(f'"{text}" names too many hosts; at most {_LIMIT} are possible')
        width = len(first) if first.startswith("0") and len(first) > 1 else 0
        yield from (f"{number:0{width}d}" for number in range(int(first), int(last) + 1, step))
