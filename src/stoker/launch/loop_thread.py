"""An asyncio loop in a thread of its own, for programs that have none or leave theirs."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, ClassVar, TypeVar

__all__ = ["LoopThread"]

T = TypeVar("T")


class LoopThread:
    """One loop, which ends with the process."""

    _shared: ClassVar[dict[int, LoopThread]] = {}

    @classmethod
    def shared(cls) -> LoopThread:
        """Give the one that all of this process use; a thread does not come along through a fork."""
        if os.getpid() not in cls._shared:
            cls._shared[os.getpid()] = cls("stoker")
        return cls._shared[os.getpid()]

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name=name, daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T], *, timeout: float) -> T:
        """Do something there and wait for what it gives.

        Raises:
            TimeoutError: It takes longer than ``timeout`` seconds.
        """
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    async def run_async(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something there, and let the caller's own loop go on meanwhile."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))
