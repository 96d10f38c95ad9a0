"""Arguments and options that commands of several modules have, word for word."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["IPythonDir", "Json", "Profile"]

Profile = Annotated[
    str | None,
    typer.Argument(
        metavar="PROFILE",
        help="The profile's name, or NAME:CLUSTER_ID, or the spec's path. Without it: the only cluster that runs.",
        show_default=False,
    ),
]
IPythonDir = Annotated[
    Path | None,
    typer.Option(
        "--ipython-dir", help="Where profiles are. Default: as the spec says, else $IPYTHONDIR, else ~/.ipython."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
