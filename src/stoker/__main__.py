"""``stoker``, and ``python -m stoker``: the command line."""

from __future__ import annotations

import sys

from stoker.faces.shortcut import take_shortcut

__all__ = ["main"]


def main() -> None:
    """Run the command line; exit with 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    code = take_shortcut(sys.argv[1:])
    if code is not None:
        sys.exit(code)
    from stoker.faces.command_line import main as run

    run()


if __name__ == "__main__":
    main()
