"""The IPython extension: ``%load_ext stoker``, then ``%stoker`` with the words of the command line."""

from __future__ import annotations

import shlex
from types import TracebackType
from typing import Any

import typer
from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class

from stoker.cluster import Cluster, ClusterStatus, Started, Stopped
from stoker.errors import StokerError
from stoker.faces.command_line import INTERRUPTED, WrongUsage, call
from stoker.faces.screen import Collector
from stoker.faces.tables import Shown, render_html, render_text
from stoker.workloads import Report

__all__ = ["StokerMagics", "load_ipython_extension", "unload_ipython_extension"]

_TYPES = (Cluster, ClusterStatus, Report, Started, Stopped)


def load_ipython_extension(shell: Any) -> None:
    """Give a shell ``%stoker``, tables for stoker's values, and errors that are one message."""
    shell.register_magics(StokerMagics)
    shell.set_custom_exc((StokerError,), _show_error)
    formatters = shell.display_formatter.formatters
    for kind in _TYPES:
        formatters["text/html"].for_type(kind, render_html)
        formatters["text/plain"].for_type(kind, _print_pretty)


def unload_ipython_extension(shell: Any) -> None:
    """Take back what loading gave."""
    shell.magics_manager.magics["line"].pop("stoker", None)
    shell.set_custom_exc((), None)
    formatters = shell.display_formatter.formatters
    for kind in _TYPES:
        formatters["text/html"].pop(kind, None)
        formatters["text/plain"].pop(kind, None)


@magics_class
class StokerMagics(Magics):  # type: ignore[misc]
    """The magic ``%stoker``."""

    @line_magic  # type: ignore[untyped-decorator]
    def stoker(self, line: str) -> Shown | None:
        """Run a command of stoker: ``%stoker up SPEC``, ``%stoker status``, ``%stoker run sum``, ...

        ``%stoker up`` puts ``cluster``, ``rc`` (an ipyparallel Client) and ``view`` (a load-balanced one) into
        your names.
        """
        screen = Collector(lambda text: typer.echo(text, err=True))
        try:
            code = call(shlex.split(line) or ["--help"], screen)
        except WrongUsage as error:
            raise UsageError(error.format_message()) from None
        except ValueError as error:  # a quote that is not closed
            raise UsageError(str(error)) from None
        if code == INTERRUPTED:
            # Or what stands below in the cell would run.
            raise KeyboardInterrupt
        for value in screen.values:
            self._note(value)
        if not screen.values:
            return None
        return Shown(screen.values[0] if len(screen.values) == 1 else tuple(screen.values))

    def _note(self, value: object) -> None:
        names = self.shell.user_ns
        if isinstance(value, Started):
            cluster = Cluster(value.address, started=value.new, notices=value.notices)
            self.shell.push({"cluster": cluster, "rc": cluster.client, "view": cluster.view})
            return
        cluster = names.get("cluster")
        if isinstance(value, Stopped) and isinstance(cluster, Cluster) and cluster.name == value.address.name:
            cluster.close()


def _show_error(
    shell: Any, kind: type[StokerError], error: StokerError, traceback: TracebackType, tb_offset: int | None = None
) -> list[str]:
    lines = [f"{kind.__name__}: {error}"]
    shell._showtraceback(kind, error, lines)
    return lines


def _print_pretty(value: object, printer: Any, cycle: bool) -> None:
    printer.text(render_text(value))
