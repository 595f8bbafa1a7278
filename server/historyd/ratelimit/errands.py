"""Tasks that nobody awaits to their end, with an owner who does: handing a booking back, telling of a penalty.

Promises: when the block is left, tasks have a moment to end, the rest are cancelled, and none is left behind. What a
task raised is given to whoever awaits it, and else dropped.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

PATIENCE_S: Final = 0.5
"""How long tasks may go on after their owner is closed."""
_CANCEL_AGAIN_S: Final = 0.05


class Errands:
    """Runs tasks and remembers them until they end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._endless: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if errands := self._tasks - self._endless:
            await asyncio.wait(errands, timeout=PATIENCE_S)
        # More than once, as redis-py may swallow a cancel that comes just as an answer does.
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=_CANCEL_AGAIN_S)

    def run(self, work: Coroutine[Any, Any, T], *, endless: bool = False) -> asyncio.Task[T]:
        """Starts a task; an `endless` one is cancelled without waiting when the block is left."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        if endless:
            self._endless.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._endless.discard(task)
        if not task.cancelled():
            task.exception()
