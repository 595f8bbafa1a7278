"""The CCXT source with the real limiter, in virtual time, against an exchange that counts the weight itself."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from historyd.demo.exchange import serve_exchange
from historyd.errors import RateLimited, WaitTooLong
from historyd.model.series import SeriesId
from historyd.model.wait import WaitCause
from historyd.ratelimit.local import Timing
from historyd.ratelimit.options import LimitOptions, RateLimiterOptions
from historyd.ratelimit.process import ProcessLimiters
from historyd.sources.ccxt import CcxtSource
from historyd.sources.options import ExchangeOptions
from tests import venue_faults as fault
from tests.limiters import RecordingLimiter, RecordingObserver
from tests.source_lab import BTC, START, minutes
from tests.venue_faults import VenueFaults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from historyd.demo.exchange import LoopbackExchange


class Time:
    """Microseconds that pass only while somebody sleeps.

    With more than one call under way, one caller's sleep would pass while another's call is on its way: one at a time.
    """

    def __init__(self) -> None:
        self.now = START

    async def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1_000_000)
        await asyncio.sleep(0)


@asynccontextmanager
async def limited(
    time: Time, options: RateLimiterOptions, faults: VenueFaults, weight_limit: int | None = None
) -> AsyncIterator[tuple[LoopbackExchange, CcxtSource]]:
    limiters = ProcessLimiters(Timing(clock=lambda: time.now, wall=lambda: time.now, sleep=time.sleep))
    async with serve_exchange(
        clock=lambda: time.now // 1000, weight_limit=weight_limit, middlewares=[faults.middleware]
    ) as exchange:
        settings = {"binance": ExchangeOptions(base_url=exchange.url)}
        source = CcxtSource(lambda name, group: limiters.limiter(name, group, options), settings, lambda: time.now)
        async with source:
            yield exchange, source


@pytest.mark.parametrize("callers", [1, 7])
async def test_an_exchange_that_counts_weight_never_has_to_refuse(callers: int) -> None:
    """Markets cost 20 of the 40 a minute, each page 2: sixty pages take some minutes of virtual time."""
    time = Time()
    options = RateLimiterOptions(limits=(LimitOptions(weight=40, interval_ms=60_000),))
    observer = RecordingObserver()
    async with limited(time, options, VenueFaults(), weight_limit=40) as (exchange, source):
        pages = iter([minutes(5, START - (n + 1) * 300_000_000) for n in range(60)])

        async def caller() -> None:
            for page in pages:
                await source.fetch_bars(BTC, page, observer)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(callers):
                tasks.create_task(caller())
        assert exchange.count("/klines") == 60
    assert observer.calls == 61
    assert {wait.cause for wait in observer.waits} == {WaitCause.QUOTA}
    assert time.now - START >= 3 * 60 * 1_000_000


async def test_a_429_makes_every_caller_wait_as_long_as_the_exchange_said() -> None:
    time, faults, observer = Time(), VenueFaults(), RecordingObserver()
    async with limited(time, RateLimiterOptions(), faults) as (exchange, source):
        await source.check(BTC)
        faults.next(fault.status(429, retry_after="30"))
        with pytest.raises(RateLimited):
            await source.fetch_bars(BTC, minutes(5, START - 300_000_000), observer)
        refused_at = exchange.calls[-1].at_ms
        await source.fetch_bars(BTC, minutes(5, START - 300_000_000), observer)
        assert exchange.calls[-1].at_ms >= refused_at + 30_000
    assert observer.waits[-1].cause is WaitCause.PENALTY


async def test_by_default_ccxts_own_budget_holds() -> None:
    """A page is 20 ms of it: 101 pages after the markets' 200 ms take at least 1.2 s."""
    time, observer = Time(), RecordingObserver()
    async with limited(time, RateLimiterOptions(), VenueFaults()) as (_, source):
        for n in range(101):
            await source.fetch_bars(BTC, minutes(1, START - (n + 1) * 60_000_000), observer)
        assert source.least_duration("binance", 101) >= 1.0
    assert time.now - START >= 1_200_000


async def test_what_another_user_of_the_address_spends_is_left_to_them() -> None:
    """Somebody else takes 10 of the 40 a minute, which the replies tell: the exchange has to refuse nobody."""
    time = Time()
    options = RateLimiterOptions(limits=(LimitOptions(weight=40, interval_ms=60_000),))
    async with limited(time, options, VenueFaults(), weight_limit=40) as (exchange, source):
        await source.check(BTC)
        for n in range(30):
            if n in (0, 15):
                exchange.charge(10)
            await source.fetch_bars(BTC, minutes(5, START - (n + 1) * 300_000_000), RecordingObserver())
        assert exchange.count("/klines") == 30


async def test_the_weight_used_goes_to_the_limiter_of_the_host_that_told_it() -> None:
    """Spot and futures have budgets of their own."""
    limiters = {group: RecordingLimiter(group) for group in ("", "fapi", "dapi")}
    async with serve_exchange() as exchange:
        settings = {"binance": ExchangeOptions(base_url=exchange.url)}
        async with CcxtSource(lambda _, group: limiters[group], settings) as source:
            await source.markets("binance")
    assert [len(limiter.observed) for limiter in limiters.values()] == [1, 1, 1]
    assert limiters[""].observed == [(20.0, 60_000)]


async def test_a_load_of_markets_that_many_may_wait_for_does_not_end_for_one_callers_deadline() -> None:
    """The hasty one is refused when it comes to its own call; until then it paid for what is everybody's."""
    time = Time()
    async with limited(time, RateLimiterOptions(min_interval_s=10), VenueFaults()) as (exchange, source):
        await source.check(BTC)
        hasty = RecordingObserver()
        hasty.deadline = START + 5_000_000
        perpetual = SeriesId.parse("ohlcv:binance:BTC/USDT:USDT:1m")
        with pytest.raises(WaitTooLong):
            await source.fetch_bars(BTC, minutes(5, START - 300_000_000), hasty)
        with pytest.raises(WaitTooLong):
            await source.fetch_bars(perpetual, minutes(5, START - 300_000_000), hasty)
        assert exchange.count("/exchangeInfo") == 3
        assert exchange.count("/klines") == 0
