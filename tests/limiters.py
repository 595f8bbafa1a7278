"""A limiter that lets everything pass and writes down what it was asked, for tests of those who use one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from historyd.model.wait import Observer, Wait
    from historyd.ratelimit.base import Cost


class RecordingLimiter:
    """Records costs and penalties, and how many slots are held."""

    def __init__(self, key: str = "recording") -> None:
        self.key = key
        self.costs: list[Cost] = []
        self.penalties: list[float | None] = []
        self.observed: list[tuple[float, int]] = []
        self.slots_held = 0

    @asynccontextmanager
    async def slot(self, observer: Observer) -> AsyncIterator[None]:
        self.slots_held += 1
        try:
            yield
        finally:
            self.slots_held -= 1

    async def acquire(self, cost: Cost, observer: Observer) -> None:
        assert self.slots_held > 0, "quota is asked for inside a slot"
        self.costs.append(cost)

    def penalise(self, seconds: float | None) -> None:
        self.penalties.append(seconds)

    def observe(self, used: float, interval_ms: int) -> None:
        self.observed.append((used, interval_ms))

    def least_duration(self, cost: Cost, calls: int) -> float:
        return cost.budget_ms * calls / 1000


class RecordingObserver:
    """Counts calls and keeps waits."""

    urgent = True
    deadline: int | None = None

    def __init__(self) -> None:
        self.calls = 0
        self.waits: list[Wait] = []

    def waiting(self, wait: Wait) -> None:
        self.waits.append(wait)

    def calling(self) -> None:
        self.calls += 1
