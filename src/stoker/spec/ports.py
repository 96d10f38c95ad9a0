"""Ports: the text that names a range of them, and their share-out to the controller's three pools."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PORTS_NEEDED", "PortPools", "parse_ports", "share_ports"]

_ENGINE, _CLIENT, _INTERNAL = 9, 6, 3

PORTS_NEEDED = _ENGINE + _CLIENT + _INTERNAL
"""What an ipcontroller of 9.2 binds at broadcast depth 1 (counted on a running one)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortPools:
    """Three pools without a common port, as ``--reuse`` needs them.

    With one common pool ipcontroller draws the internal ports again from its start and collides with itself.
    """

    engine: tuple[int, ...]
    """What engines connect to; the first is also where everybody registers."""

    client: tuple[int, ...]
    """What clients connect to."""

    internal: tuple[int, ...]
    """What the controller's own processes use among each other."""

    @property
    def all(self) -> tuple[int, ...]:
        """Every port that the controller binds."""
        return self.engine + self.client + self.internal


def parse_ports(text: str) -> tuple[int, ...]:
    """Read a text such as ``10101-10140`` or ``10101-10110,10120-10140``.

    Raises:
        ValueError: The text is not of this form, or a port is not 1-65535, or is named twice.
    """
    ports: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f'must be a range such as "10101-10140", got "{text}"')
        low, high = int(first), int(last or first)
        if not 1 <= low <= high <= 65535:
            raise ValueError(f'ports must rise and lie in 1-65535, got "{part.strip()}"')
        ports.extend(range(low, high + 1))
    if len(set(ports)) < len(ports):
        raise ValueError(f'a port is named twice in "{text}"')
    return tuple(ports)


def share_ports(ports: tuple[int, ...]) -> PortPools:
    """Share ports out, in order; what is more than needed stays unused.

    Raises:
        ValueError: They are too few.
    """
    if len(ports) < PORTS_NEEDED:
        raise ValueError(
            f"{len(ports)} ports are too few: a controller needs {PORTS_NEEDED} "
            f"({_ENGINE} for engines, {_CLIENT} for clients, {_INTERNAL} of its own)"
        )
    return PortPools(
        engine=ports[:_ENGINE],
        client=ports[_ENGINE : _ENGINE + _CLIENT],
        internal=ports[_ENGINE + _CLIENT : PORTS_NEEDED],
    )
