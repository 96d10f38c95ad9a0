"""The life of an agent's process: it serves, and each process that it forks becomes an engine."""

from __future__ import annotations

from pathlib import Path

__all__ = ["run_agent"]


def run_agent(
    reader: int, writer: int, *, socket_path: Path | None, log: Path | None, lease: float, tidy: bool
) -> None:
    """Be an agent; and, in each process that it forks, an engine. Whatever either needs is imported here.

    Args:
        reader: An open file that a supervisor's orders come from.
        writer: The one that it reads.
        socket_path: Where a later supervisor can attach; None: nowhere.
        log: The file that standard error goes to, to be kept short.
        lease: Seconds that it goes on without a supervisor.
        tidy: Whether the socket's directory is removed at the end.
    """
    from stoker.agent.preload import preload
    from stoker.agent.server import Agent
    from stoker.system.children import adopt_orphans
    from stoker.system.runtime import remove_runtime_directory

    adopt_orphans()
    preload()
    born = Agent(socket_path=socket_path, log=log, lease=lease).serve(reader, writer)
    if born is not None:
        from stoker.agent.engine import run_engine

        run_engine(born.order, born.page)
    elif tidy and socket_path is not None:
        remove_runtime_directory(socket_path.parent)
