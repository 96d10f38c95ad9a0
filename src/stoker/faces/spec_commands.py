"""``stoker init``, ``schema`` and ``explain-setting``: what a spec can say, and what it comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stoker.faces.options import Json
from stoker.faces.screen import screen_of
from stoker.profile import ProfileDirectory
from stoker.profile.explain import read_explanation
from stoker.spec.schema import render_schema
from stoker.spec.template import render_template, write_template

__all__ = ["add_spec_commands"]


def add_spec_commands(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(init)
    app.command()(schema)
    app.command("explain-setting")(explain_setting)


def init(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The profile's name; the spec is written to NAME.toml. Or that path.")
    ],
    stdout: Annotated[bool, typer.Option("--stdout", help="Print the spec instead of writing a file.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a spec to start from: every key with its default, as a comment to take the mark from."""
    screen = screen_of(context)
    path = Path(name if name.endswith(".toml") else f"{name}.toml")
    if stdout:
        screen.show(render_template(path.stem).rstrip("\n"))
        return
    write_template(path, force=force)
    screen.show(f"wrote {path}; change what you like, then: stoker up {path}")


def schema(context: typer.Context) -> None:
    """Print the JSON Schema of specs, by which editors complete and check them."""
    screen_of(context).show(render_schema(), as_json=True)


def explain_setting(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Class.trait, a trait's name alone, or a key of the spec: controller.hwm."),
    ],
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="PROFILE", help="Also say where its value there comes from.")
    ] = None,
    ipython_dir: Annotated[
        Path | None, typer.Option("--ipython-dir", help="Where profiles are. Default: $IPYTHONDIR, else ~/.ipython.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what a setting is: type, default, allowed values, help, files, and the key of the spec that says it."""
    directory = None if profile is None else ProfileDirectory.named(profile, ipython_dir=ipython_dir)
    screen_of(context).show(read_explanation(name, directory), as_json=json)
