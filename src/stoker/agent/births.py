"""Births: the orders for engines on their way to become processes, one after the other. Waits for nothing."""

from __future__ import annotations

import collections
import contextlib
import gc
import os
import selectors
from collections.abc import Callable, Mapping
from typing import Any

from stoker.agent.birth import spawn_interpreter
from stoker.agent.engines import EngineSet
from stoker.agent.order import EngineOrder, EngineReport
from stoker.agent.page import EnginePage, Pages, open_page
from stoker.agent.preload import find_hindrance
from stoker.agent.zygote import Zygote, ZygoteLife, fork_zygote, load
from stoker.system.orphans import adopt_orphans

__all__ = ["Births"]

_PATIENCE = 30.0
"""Seconds of the agent's running time in which a zygote answers."""


class Births:
    """The orders of one agent. Engines are forked by a zygote, which lives while there are engines to start."""

    def __init__(
        self,
        engines: EngineSet,
        selector: selectors.BaseSelector,
        *,
        on_born: Callable[[EngineOrder, EngineReport], None],
        on_refused: Callable[[EngineOrder, str], None],
        on_loaded: Callable[[Mapping[str, Any]], None],
        on_hindrance: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            engines: Gets the engines.
            selector: Waits for what the zygote says, too.
            on_born: Told each engine that was started.
            on_refused: Told each that could not be, and why.
            on_loaded: Told what a zygote says when it has imported what engines need, or could not: as of ``load``.
            on_hindrance: Told why engines cannot be forked, when that is found.
        """
        self.hindrance = find_hindrance()
        """Why engines are interpreters of their own; empty: they are forked."""
        self._engines = engines
        self._selector = selector
        self._on_born, self._on_refused, self._on_loaded, self._on_hindrance = (
            on_born,
            on_refused,
            on_loaded,
            on_hindrance,
        )
        self._pages = Pages()
        self._orders: collections.deque[EngineOrder] = collections.deque()
        self._zygote: Zygote | None = None
        self._under_way: tuple[EngineOrder, EnginePage] | None = None
        self._asked = 0.0
        self._had_orders = False
        self._failure = ""

    @property
    def is_waiting(self) -> bool:
        """Whether a zygote is there until engines are ready."""
        return self._zygote is not None and self._had_orders

    def add(self, order: EngineOrder) -> None:
        """Take an order; ``go_on`` carries it out."""
        self._orders.append(order)

    def prepare(self) -> ZygoteLife | None:
        """Have a zygote import what engines need before there is an order. Returns twice, as ``go_on`` does."""
        if not self.hindrance and not adopt_orphans():
            self.hindrance = "on this system no process can adopt another"
        if self.hindrance:
            self._note_loaded(load())
            return None
        # What is there now is never looked through again, and so not copied.
        gc.collect()
        gc.freeze()
        return self._fork()

    def go_on(self, clock: float) -> ZygoteLife | None:
        """Carry out what can be. This function returns twice where it forks: in the child, what that is to live.

        Args:
            clock: Seconds of this process's running time.
        """
        while self._under_way is None and (order := self._take()) is not None:
            self._had_orders = True
            try:
                if problem := self._engines.find_problem(order):
                    self._on_refused(order, problem)
                elif not order.fork or self.hindrance:
                    self._spawn(order)
                elif self._zygote is None and (life := self._fork()) is not None:
                    return life
                else:
                    self._send(order, clock)
            except (OSError, TypeError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                self._on_refused(order, f"no process could be started: {reason}")
        if self._zygote is not None:
            if self._under_way is not None and clock - self._asked > _PATIENCE:
                self._zygote.kill()
            if self._had_orders and self._under_way is None and not self._orders and not self._engines.are_starting:
                self._part()
        return None

    def stop(self) -> None:
        """Carry out nothing more; what is under way will not be."""
        self._orders.clear()
        if self._zygote is not None:
            self._zygote.kill()
            self._part()

    def _take(self) -> EngineOrder | None:
        for place, order in enumerate(self._orders):
            if not self._engines.must_wait(order):
                del self._orders[place]
                return order
        return None

    def _spawn(self, order: EngineOrder) -> None:
        handle = open_page()
        try:
            page = EnginePage.map(handle)
            pid = spawn_interpreter(order, handle, agent=os.getpid())
        finally:
            os.close(handle)
        self._on_born(order, self._engines.add(order, pid, page))

    def _fork(self) -> ZygoteLife | None:
        zygote = fork_zygote(self._pages)
        if isinstance(zygote, ZygoteLife):
            return zygote
        self._zygote = zygote
        self._selector.register(zygote, selectors.EVENT_READ, self._hear)
        return None

    def _send(self, order: EngineOrder, clock: float) -> None:
        assert self._zygote is not None
        place, page = self._pages.take()
        try:
            # Where it has ended, that is heard of.
            with contextlib.suppress(ConnectionError):
                self._zygote.send(order, place)
        except BaseException:
            page.close()
            raise
        self._under_way, self._asked = (order, page), clock

    def _hear(self, mask: int) -> None:
        assert self._zygote is not None
        said = self._zygote.hear()
        if said is None:
            self._part()
            self._refuse(self._failure or "the process that forks engines has ended")
        elif "loaded" in said or "failed" in said:
            self._note_loaded(said)
        elif "hindrance" in said:
            self._give_up_forking(said["hindrance"])
        elif "problem" in said:
            self._refuse(said["problem"])
        elif self._under_way is not None:
            (order, page), self._under_way = self._under_way, None
            self._on_born(order, self._engines.add(order, said["pid"], page))

    def _note_loaded(self, said: Mapping[str, Any]) -> None:
        failed = said.get("failed")
        self._failure = f"what engines need cannot be imported: {failed['problem']}" if failed else ""
        if said.get("hindrance") and not self.hindrance:
            self._give_up_forking(said["hindrance"])
        self._on_loaded(said)

    def _refuse(self, problem: str) -> None:
        if self._under_way is not None:
            (order, page), self._under_way = self._under_way, None
            page.close()
            self._on_refused(order, problem)

    def _give_up_forking(self, hindrance: str) -> None:
        self.hindrance = hindrance
        self._on_hindrance(hindrance)
        self._part()
        if self._under_way is not None:
            (order, page), self._under_way = self._under_way, None
            page.close()
            self._orders.appendleft(order)

    def _part(self) -> None:
        if self._zygote is not None:
            self._selector.unregister(self._zygote)
            self._zygote.close()
            self._zygote = None
