"""The life of an agent's process, of the zygotes that it forks, and of the engines that these fork."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["run_agent"]


def run_agent(
    reader: int,
    writer: int,
    *,
    socket_path: Path | None,
    log: Path | None,
    lease: float,
    tidy: bool,
    on_loaded: Callable[[Mapping[str, Any]], None] = lambda said: None,
) -> None:
    """Be an agent; and, in processes that come from it, an engine. Whatever either needs is imported here.

    Args:
        reader: An open file that a supervisor's orders come from.
        writer: The one that it reads.
        socket_path: Where a later supervisor can attach; None: nowhere.
        log: The file that standard error goes to, to be kept short.
        lease: Seconds that it goes on without a supervisor.
        tidy: Whether the socket's directory is removed at the end.
        on_loaded: Told once whether what engines need could be imported, as of ``zygote.load``.

    Raises:
        SystemExit: It could not.
    """
    from stoker.agent.server import Agent
    from stoker.system.runtime import remove_runtime_directory

    agent = Agent(socket_path=socket_path, log=log, lease=lease, on_loaded=on_loaded)
    life = agent.serve(reader, writer)
    if life is not None:
        born = life.live()
        from stoker.agent.engine import run_engine

        run_engine(born.order, born.page)
        return
    if tidy and socket_path is not None:
        remove_runtime_directory(socket_path.parent)
    if agent.has_failed:
        raise SystemExit(1)
