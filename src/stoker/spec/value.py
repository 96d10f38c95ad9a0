"""The base of every part of a spec, and the checks that parts share."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

__all__ = [
    "LOOPBACK",
    "Frozen",
    "InnerFaultError",
    "Name",
    "Port",
    "Value",
    "Variable",
    "VariableText",
    "check_ip",
    "check_name",
]

LOOPBACK = "127.0.0.1"
"""This machine, for this machine alone."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Value(BaseModel):
    """The base of every part of a spec: frozen, strict, without unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_text(cls, value: object) -> object:
        return _refuse_nul(value)


class InnerFaultError(ValueError):
    """A fault of a key within the one that is being checked, seen only where what it clashes with is known."""

    def __init__(self, problem: str, *, below: tuple[str, ...]) -> None:
        super().__init__(problem)
        self.below = below
        """From the key that is being checked down to the one at fault."""


def check_name(value: str) -> str:
    """Refuse what cannot be part of a file's name everywhere.

    Raises:
        ValueError: It holds other characters.
    """
    if not _NAME.fullmatch(value):
        raise ValueError(f'must be made of letters, digits, "_", "." and "-", the last two not in front, got "{value}"')
    return value


def check_ip(value: str) -> str:
    """Give an address to listen at in the one way that ipcontroller and stoker write it.

    Raises:
        ValueError: It is neither an IPv4 address nor a wildcard.
    """
    # 0.0.0.0 and * mean the same, but ipcontroller compares them as texts.
    if value in ("*", "0.0.0.0"):  # noqa: S104 - a wish of the user's, checked and warned of elsewhere
        return "*"
    if value == "localhost":
        raise ValueError(f'must be an IPv4 address or "*", got "localhost"; did you mean "{LOOPBACK}"?')
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise ValueError(f'must be "*" or the IPv4 address of an interface, got "{value}"') from None


def _freeze(value: object) -> object:
    # TOML arrays come as lists; a frozen value holds tuples.
    return tuple(value) if isinstance(value, list) else value


def _check_variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise ValueError('must be the name of an environment variable: letters, digits and "_", no digit in front')
    if value.startswith(("IPP_", "STOKER_")):
        raise ValueError("steers ipyparallel or stoker itself and is set by stoker alone")
    return value


def _refuse_nul(value: object) -> object:
    # The system's calls take no such text: refused here, before anything is started.
    if isinstance(value, str) and "\0" in value:
        raise ValueError("must not hold a NUL character")
    return value


Frozen = BeforeValidator(_freeze)
Variable = Annotated[str, AfterValidator(_check_variable)]
VariableText = Annotated[str, BeforeValidator(_refuse_nul)]
Name = Annotated[str, Field(max_length=64)]
Port = Annotated[int, Field(ge=1, le=65535)]
