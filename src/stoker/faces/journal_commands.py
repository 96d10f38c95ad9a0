"""``stoker journal``: what a map's journal says, and the results that are in it."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from stoker.compute import read_journal, read_journal_info
from stoker.faces.options import Json
from stoker.faces.screen import screen_of, until_nobody_reads

__all__ = ["journal"]

journal = typer.Typer(
    help="Journals of maps: what cluster.map(..., journal=FILE) has finished, and how far it is.",
    no_args_is_help=True,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The journal.", show_default=False)]


@journal.command()
def show(
    context: typer.Context,
    file: File,
    json: Json = False,
) -> None:
    """Show what a journal is of, how many results it has, since when, and whether that is all. Also while it runs."""
    screen_of(context).show(read_journal_info(file), as_json=json)


@journal.command()
def export(file: File) -> None:
    """Print each result of a journal as a line of JSON, in the order of the items: {"index": 0, "value": 1}.

    A result that JSON does not know is a "repr" instead of a "value"; stoker.read_journal(FILE) gives the object
    itself. Reading results runs code, as unpickling does: export no journal that you do not trust.
    """
    with until_nobody_reads():
        for index, value in read_journal(file):
            print(_render_line(index, value))  # noqa: T201


def _render_line(index: int, value: Any) -> str:
    try:
        return json_module.dumps({"index": index, "value": value}, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return json_module.dumps({"index": index, "repr": repr(value)})
