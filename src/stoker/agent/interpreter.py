"""An engine in its own interpreter, with the order on standard input."""

from __future__ import annotations

from stoker.agent.birth import read_order

__all__ = ["main"]


def main(page: str, agent: str) -> None:
    """Be an engine until it ends.

    Args:
        page: The number of an open file: the engine's page.
        agent: The process number of its agent.
    """
    order, memory = read_order(int(page), agent=int(agent))
    from stoker.agent.engine import run_engine

    run_engine(order, memory)
