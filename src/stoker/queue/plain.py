"""Plain values as bytes: None, truth, numbers, texts, bytes, and lists, tuples, dicts and sets of these.

Whoever reads them runs nothing: the reader knows no class and no function, so a pickle that names one is refused.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

__all__ = ["PlainError", "dump_plain", "load_plain"]


class PlainError(ValueError):
    """Bytes that hold no plain value."""


def dump_plain(value: object) -> bytes:
    """Turn a plain value into bytes."""
    return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)


def load_plain(data: bytes) -> Any:
    """Turn bytes back into the plain value that they hold.

    Raises:
        PlainError: They hold anything else.
    """
    try:
        return _Reader(io.BytesIO(data)).load()
    except PlainError:
        raise
    # Broken pickles raise about everything: UnpicklingError, EOFError, IndexError, KeyError, MemoryError ...
    except Exception as error:
        raise PlainError(f"refused: no plain value ({type(error).__name__}: {error})") from None


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # The one door by which a pickle reaches code (pickle's documentation, "Restricting Globals").
        raise PlainError(f"refused: {module}.{name} is no plain value")
