"""A line in front of a few places: first come, first served, but urgent callers before the others.

Rules:
1. Whoever finds a free place and nobody waiting has it at once. A place that is left goes straight to the next in line,
   so nobody can slip in between.
2. The next is the first urgent one, else the first. After URGENT_RUN urgent ones in a row, while others wait, one of
   those is next: neither lane starves.
3. Urgency is looked at when a place is given, not when the line is joined: work that becomes urgent while it waits
   (an interactive caller joined it) moves up.
4. A caller that is cancelled leaves no trace; a place that was being given to it goes on to the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from historyd.model.wait import Observer

URGENT_RUN: Final = 4
"""Urgent callers served in a row while others wait."""


@dataclass(eq=False, slots=True)
class _Waiter:
    observer: Observer
    given: asyncio.Future[None]


class Line:
    """Gives `places` places, on one event loop."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiters: deque[_Waiter] = deque()
        self._urgent_run = 0

    @property
    def is_open(self) -> bool:
        """Whether a caller would have a place at once."""
        return self._free > 0 and not self._waiters

    @property
    def waiting(self) -> Iterator[Observer]:
        """Those in line, in the order they came."""
        return (waiter.observer for waiter in self._waiters)

    @asynccontextmanager
    async def place(self, observer: Observer) -> AsyncIterator[None]:
        """One of the places."""
        await self.enter(observer)
        try:
            yield
        finally:
            self.leave()

    async def enter(self, observer: Observer) -> None:
        """Returns with a place; whoever has one must `leave`."""
        if self.is_open:
            self._free -= 1
            return
        waiter = _Waiter(observer, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.given
        except asyncio.CancelledError:
            if waiter.given.cancelled():
                self._waiters.remove(waiter)
            else:
                self.leave()
            raise

    def leave(self) -> None:
        """Gives a place back."""
        waiter = self._next()
        if waiter is None:
            self._free += 1
            return
        self._waiters.remove(waiter)
        waiter.given.set_result(None)

    def _next(self) -> _Waiter | None:
        waiting = [waiter for waiter in self._waiters if not waiter.given.done()]
        urgent = next((waiter for waiter in waiting if waiter.observer.urgent), None)
        patient = next((waiter for waiter in waiting if not waiter.observer.urgent), None)
        if urgent is not None and (patient is None or self._urgent_run < URGENT_RUN):
            self._urgent_run += 1
            return urgent
        self._urgent_run = 0
        return patient
