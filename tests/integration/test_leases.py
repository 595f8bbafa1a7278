"""Servers that share a store: each page is fetched by one of them, whatever happens to it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from benchmarks.rig.redis_server import RedisServer, redis_server
from historyd.engine.backfill import URGENT_PAGES
from historyd.engine.events import EnsureResult, ReadRequest
from historyd.engine.history import HistoryEngine
from historyd.engine.singleflight import Flight
from historyd.errors import ExchangeUnavailable, VenueRefused
from historyd.model.page import Layout, Pages
from historyd.model.rows import BARS
from historyd.model.time_range import TimeRange
from historyd.model.wait import Wait, WaitCause
from historyd.stores.embedded import open_embedded
from tests.cluster_limiters import redis_leases
from tests.integration.test_engine import NOW, SERIES, expected, minutes
from tests.scripted import ScriptedSource, VirtualClock, bars_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from historyd.model.series import SeriesId
    from historyd.model.wait import Observer
    from historyd.sources.base import Answer

PAGE_BARS = 50


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@asynccontextmanager
async def servers(
    folder: Path,
    dsn: str,
    count: int,
    source: ScriptedSource,
    clock: VirtualClock,
    ttl_s: float = 6.0,
    answer_s: float = 10.0,
) -> AsyncIterator[list[HistoryEngine]]:
    """Engines on one store, each with leases of its own; on one source, which counts the calls of all."""
    bars_at([0])  # pyarrow imports pandas at its first array, which may take longer than a lease lives
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_embedded(folder / "history.db"))
        engines = []
        for _ in range(count):
            leases = await stack.enter_async_context(redis_leases(dsn, store.uuid, ttl_s=ttl_s, answer_s=answer_s))
            engine = HistoryEngine(store, source, leases=leases, clock=clock, sleep=clock.sleep)
            engines.append(await stack.enter_async_context(engine))
        yield engines


async def ensure(engine: HistoryEngine, window: TimeRange) -> EnsureResult:
    events = [event async for event in engine.ensure(SERIES, window)]
    assert isinstance(events[-1], EnsureResult)
    return events[-1]


async def ensure_all(engines: Sequence[HistoryEngine], windows: Sequence[TimeRange]) -> list[EnsureResult]:
    return list(await asyncio.gather(*map(ensure, engines, windows)))


async def rows_are_exact(engine: HistoryEngine, window: TimeRange) -> None:
    events = [event async for event in engine.read(ReadRequest(SERIES, window))]
    table = pa.Table.from_batches([event for event in events if isinstance(event, pa.RecordBatch)], BARS)
    assert table.equals(expected(window))


def lease_keys(redis: RedisServer) -> list[Any]:
    with redis.client() as client:
        return list(client.keys("lease:*"))


def new_source() -> tuple[VirtualClock, ScriptedSource]:
    clock = VirtualClock(NOW)
    return clock, ScriptedSource(clock, page_bars=PAGE_BARS)


@pytest.mark.parametrize("count", [2, 4, 16])
async def test_one_range_asked_of_many_servers_is_fetched_once(tmp_path: Path, redis: RedisServer, count: int) -> None:
    clock, source = new_source()
    window = minutes(-1000, -100)
    async with servers(tmp_path, redis.dsn, count, source, clock) as engines:
        results = await ensure_all(engines, [window] * count)
        assert all(result.uncovered == () for result in results)
        assert len(source.calls) == len(set(source.calls)), "a page was fetched twice"
        assert sum(result.row_count for result in results) >= 900
        await rows_are_exact(engines[-1], window)
    assert lease_keys(redis) == []


async def test_overlapping_ranges_share_their_pages(tmp_path: Path, redis: RedisServer) -> None:
    clock, source = new_source()
    windows = [minutes(-1000 + 130 * number, -500 + 130 * number) for number in range(4)]
    async with servers(tmp_path, redis.dsn, 4, source, clock) as engines:
        results = await ensure_all(engines, windows)
        assert all(result.uncovered == () for result in results)
        assert len(source.calls) == len(set(source.calls)), "a page was fetched twice"
        await rows_are_exact(engines[0], minutes(-1000, -110))


async def test_a_page_leased_by_a_dead_server_is_fetched_after_its_time(tmp_path: Path, redis: RedisServer) -> None:
    """Its lease is never given back: the others wait until it runs out, then one of them fetches the page."""
    clock, source = new_source()
    window = minutes(-100, -60)
    page = Pages.of(SERIES, Layout(PAGE_BARS))
    starts = {page.at(page.number_of(window.start)).start, page.at(page.number_of(window.end - 1)).start}
    async with servers(tmp_path, redis.dsn, 3, source, clock) as engines:
        uuid = engines[0]._store.uuid
        with redis.client() as client:
            for start in starts:
                client.set(f"lease:{{{uuid}}}:{SERIES}@{start}", "of a dead server", px=700)
        ensuring = asyncio.create_task(ensure_all(engines, [window] * 3))
        await asyncio.sleep(0.2)
        assert source.calls == []
        assert not ensuring.done()
        await ensuring
        assert sorted(call.start for call in source.calls) == sorted(starts)


async def test_a_lease_outlives_a_long_fetch(tmp_path: Path, redis: RedisServer) -> None:
    """The holder's call lasts for several times to live: nobody else fetches the page meanwhile."""
    clock, source = new_source()
    source.gate = asyncio.Event()
    window = minutes(-60, -50)
    async with servers(tmp_path, redis.dsn, 2, source, clock, ttl_s=0.3) as engines:
        ensuring = asyncio.create_task(ensure_all(engines, [window] * 2))
        await asyncio.sleep(1.2)
        calls_meanwhile = len(source.calls)
        source.gate.set()
        await ensuring
        assert calls_meanwhile == len(source.calls) == len(set(source.calls))


async def test_a_page_done_between_the_look_and_the_claim_is_not_done_again(redis: RedisServer) -> None:
    looks = iter([False, True])

    async def is_done() -> bool:
        return next(looks)

    async with redis_leases(redis.dsn, "store") as leases, leases.page("page", Flight("page"), is_done) as is_ours:
        assert not is_ours
        assert len(lease_keys(redis)) == 1
    assert lease_keys(redis) == []


async def test_where_one_server_fails_another_takes_over(tmp_path: Path, redis: RedisServer) -> None:
    """An error for good comes out at the caller whose server met it; the page is fetched by the other."""
    clock, source = new_source()
    window = minutes(-60, -55)
    async with servers(tmp_path, redis.dsn, 2, source, clock) as engines:
        await ensure(engines[0], minutes(-400, -399))  # the series is open
        calls = len(source.calls)
        source.errors.append(VenueRefused("no"))
        results = await asyncio.gather(*(ensure(engine, window) for engine in engines), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["EnsureResult", "VenueRefused"]
        assert len(source.calls) - calls == 2
    assert lease_keys(redis) == []


async def test_a_caller_that_goes_away_leaves_no_lease(tmp_path: Path, redis: RedisServer) -> None:
    """Neither one who waits for another server's page, nor one whose server held it and was still waiting."""
    clock, source = new_source()
    source.gate = asyncio.Event()
    window = minutes(-60, -55)
    async with servers(tmp_path, redis.dsn, 2, source, clock) as engines:
        tasks = [asyncio.create_task(ensure(engine, window)) for engine in engines]
        await asyncio.sleep(0.3)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        source.gate.set()
        result = await ensure(engines[0], window)
        assert result.uncovered == ()
    assert lease_keys(redis) == []


async def test_without_redis_every_server_goes_on_alone(tmp_path: Path, redis: RedisServer) -> None:
    """Pages may then be fetched once by each, which harms nothing but the quota."""
    clock, source = new_source()
    window = minutes(-200, -100)
    redis.stop()
    async with servers(tmp_path, redis.dsn, 2, source, clock, answer_s=0.2) as engines:
        results = await ensure_all(engines, [window] * 2)
        assert all(result.uncovered == () for result in results)
        assert max(source.calls.count(call) for call in source.calls) <= 2
        await rows_are_exact(engines[0], window)


async def test_servers_with_other_stores_do_not_wait_for_each_other(tmp_path: Path, redis: RedisServer) -> None:
    clock, source = new_source()
    source.errors.append(ExchangeUnavailable("once"))
    window = minutes(-200, -100)
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    async with (
        servers(tmp_path / "one", redis.dsn, 1, source, clock) as (one,),
        servers(tmp_path / "other", redis.dsn, 1, source, clock) as (other,),
    ):
        results = await ensure_all([one, other], [window] * 2)
        assert all(result.uncovered == () for result in results)
        await rows_are_exact(one, window)
        await rows_are_exact(other, window)


class WaitingSource(ScriptedSource):
    """Holds its calls back, as one that waits for quota, until `quota` is set; tells that one has come that far."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock, page_bars=PAGE_BARS)
        self.quota = asyncio.Event()
        self.came = asyncio.Event()
        self.observers: list[Observer] = []

    async def fetch_bars(self, series: SeriesId, window: TimeRange, observer: Observer) -> Answer:
        self.observers.append(observer)
        observer.waiting(Wait(WaitCause.QUOTA, 0, "k"))
        self.came.set()
        await self.quota.wait()
        return await super().fetch_bars(series, window, observer)


async def test_one_who_waits_at_another_server_makes_the_page_urgent_where_it_is_leased(
    tmp_path: Path, redis: RedisServer
) -> None:
    """A long backfill at one server holds the lease; a short question at the other promotes just that page."""
    clock = VirtualClock(NOW)
    source = WaitingSource(clock)
    pages = Pages.of(SERIES, Layout(PAGE_BARS))
    first = pages.at(pages.number_of(minutes(-600, -599).start))
    bulk = TimeRange(first.start, pages.at(pages.number_of(first.start) + URGENT_PAGES).end)
    async with servers(tmp_path, redis.dsn, 2, source, clock) as (one, other):
        long = asyncio.create_task(ensure(one, bulk))
        await source.came.wait()
        held = source.observers[0]
        assert [observer.urgent for observer in source.observers].count(True) == 0
        short = asyncio.create_task(ensure(other, first))
        async with asyncio.timeout(20):
            while not held.urgent:  # noqa: ASYNC110 -- a flight tells nobody
                await asyncio.sleep(0.01)
        assert [observer.urgent for observer in source.observers].count(True) == 1
        source.quota.set()
        assert (await short).uncovered == ()
        assert (await long).uncovered == ()
        assert len(source.calls) == len(set(source.calls))


async def test_a_server_that_lost_a_lease_makes_no_call_for_the_page(tmp_path: Path, redis: RedisServer) -> None:
    """While it waited for quota its lease ran out, and another server did the page: it finds that."""
    clock = VirtualClock(NOW)
    source = WaitingSource(clock)
    pages = Pages.of(SERIES, Layout(PAGE_BARS))
    page = pages.at(pages.number_of(minutes(-600, -599).start))
    async with servers(tmp_path, redis.dsn, 2, source, clock, ttl_s=0.6) as (one, other):
        slow = asyncio.create_task(ensure(one, page))
        await source.came.wait()
        (lost,) = lease_keys(redis)
        with redis.client() as client:
            client.set(lost, "of another", px=1_000)
        await asyncio.sleep(0.7)  # its own clock says now that the lease may have run out
        source.quota.set()
        quick = await ensure(other, page)
        assert quick.uncovered == (await slow).uncovered == ()
        assert source.calls == [page]


async def test_without_redis_a_lost_lease_is_gone_without(tmp_path: Path, redis: RedisServer) -> None:
    """Redis goes away while a page waits for quota, for longer than a lease lives: the page is fetched all the same."""
    clock = VirtualClock(NOW)
    source = WaitingSource(clock)
    async with servers(tmp_path, redis.dsn, 1, source, clock, ttl_s=0.5, answer_s=0.2) as (one,):
        ensuring = asyncio.create_task(ensure(one, minutes(-600, -599)))
        await source.came.wait()
        redis.stop()
        await asyncio.sleep(0.6)
        source.quota.set()
        async with asyncio.timeout(20):
            assert (await ensuring).uncovered == ()
        assert len(source.calls) == 1
