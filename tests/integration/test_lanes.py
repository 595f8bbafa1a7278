"""Long backfills and short questions under one quota: the short ones go first, the long ones still end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from benchmarks.rig.redis_server import redis_server
from historyd.engine.backfill import URGENT_PAGES
from historyd.engine.events import EnsureResult
from historyd.engine.history import HistoryEngine
from historyd.ratelimit.base import Cost
from historyd.ratelimit.local import LocalLimiter
from historyd.ratelimit.options import RateLimiterOptions
from historyd.stores.embedded import open_embedded
from tests.cluster_limiters import cluster_limiters
from tests.integration.test_engine import NOW, SERIES, minutes
from tests.scripted import ScriptedSource, VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from historyd.model.series import SeriesId
    from historyd.model.time_range import TimeRange
    from historyd.model.wait import Observer
    from historyd.ratelimit.base import Limiter
    from historyd.sources.base import Answer

PAGE_BARS = 10
PER_WINDOW = 10
BULKS = 10
BULK_PAGES = 12


class PaidSource(ScriptedSource):
    """Pays for its calls as a real source does."""

    def __init__(self, clock: VirtualClock, limiter: Limiter) -> None:
        super().__init__(clock, page_bars=PAGE_BARS)
        self._limiter = limiter
        self.enough = asyncio.Event()
        self.enough_calls = 1 << 30

    async def fetch_bars(self, series: SeriesId, window: TimeRange, observer: Observer) -> Answer:
        async with self._limiter.slot(observer):
            await self._limiter.acquire(Cost(), observer)
            answer = await super().fetch_bars(series, window, observer)
        if len(self.calls) >= self.enough_calls:
            self.enough.set()
        return answer


@asynccontextmanager
async def limiter_of(scope: str) -> AsyncIterator[Limiter]:
    budget = RateLimiterOptions(tokens_per_interval=PER_WINDOW, interval_ms=200).budget()
    if scope == "process":
        yield LocalLimiter("k", budget)
        return
    with redis_server() as redis:
        async with cluster_limiters(answer_s=10) as limiters:
            yield limiters.limiter("k", budget, redis.dsn)


async def ensure(engine: HistoryEngine, window: TimeRange) -> None:
    events = [event async for event in engine.ensure(SERIES, window)]
    assert isinstance(events[-1], EnsureResult)
    assert events[-1].uncovered == ()


@pytest.mark.parametrize("scope", ["process", "cluster"])
async def test_a_short_question_is_served_within_two_windows_of_long_backfills(tmp_path: Path, scope: str) -> None:
    """Forty pages of long backfills stand in line: the short question's two pages are called before nearly all."""
    assert BULK_PAGES > URGENT_PAGES
    clock = VirtualClock(NOW)
    async with limiter_of(scope) as limiter, open_embedded(tmp_path / "history.db") as store:
        source = PaidSource(clock, limiter)
        async with HistoryEngine(store, source, clock=clock, sleep=clock.sleep) as engine:
            await ensure(engine, minutes(-20, -10))  # the series is open
            begun = len(source.calls)
            source.enough_calls = begun + PER_WINDOW
            spans = [minutes(-2000 + 120 * number, -1880 + 120 * number) for number in range(BULKS)]
            async with asyncio.TaskGroup() as tasks:
                for span in spans:
                    tasks.create_task(ensure(engine, span))
                await source.enough.wait()
                asked_at = len(source.calls)
                await ensure(engine, minutes(-500, -480))
                served_at = len(source.calls)
            assert served_at - asked_at <= 2 * PER_WINDOW
            assert len(source.calls) == begun + BULKS * BULK_PAGES + 2
            assert len(source.calls) == len(set(source.calls))
