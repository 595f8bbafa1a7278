"""The CCXT source through real ccxt against a well-behaved exchange on loopback."""

from __future__ import annotations

import asyncio
import gc

import pytest

from historyd.demo.candles import GivenRows, RandomWalk
from historyd.demo.exchange import serve_exchange
from historyd.errors import UnknownExchange, UnknownSymbol, UnknownTimeframe, VenueRefused
from historyd.model.series import SeriesId
from historyd.model.time_range import MICROS_PER_DAY, MICROS_PER_S, TimeRange, from_datetime
from historyd.model.venue import Origin
from historyd.sources.base import RetryPolicy
from historyd.sources.ccxt import CcxtSource
from historyd.sources.ccxt_rows import RAW_BARS
from historyd.sources.options import ExchangeOptions
from tests import venue_faults as fault
from tests.limiters import RecordingLimiter, RecordingObserver
from tests.source_lab import BTC, START, candles_of, floats, minutes, open_lab


async def test_a_page_is_one_call_and_its_rows_are_the_exchanges() -> None:
    async with open_lab() as lab:
        answer = await lab.fetch(minutes(1000))
        expected = RandomWalk().bars("BTCUSDT", "1m", START // 1000, minutes(1000).end // 1000 - 1, 1000)
        assert answer.rows.schema == RAW_BARS
        assert candles_of(answer.rows) == floats(expected)
        assert lab.exchange.count("/klines") == 1


async def test_the_window_is_asked_for_with_both_ends() -> None:
    async with open_lab() as lab:
        await lab.fetch(minutes(7))
        query = lab.exchange.calls[-1].query
        assert query["startTime"] == str(START // 1000)
        assert query["endTime"] == str(minutes(7).end // 1000 - 1)
        assert query["limit"] == "7"


async def test_a_window_of_months_holds_calendar_months() -> None:
    from datetime import UTC, datetime

    year = TimeRange(from_datetime(datetime(2024, 1, 1, tzinfo=UTC)), from_datetime(datetime(2025, 1, 1, tzinfo=UTC)))
    async with open_lab() as lab:
        answer = await lab.fetch(year, SeriesId.parse("ohlcv:binance:BTC/USDT:1M"))
        assert [row.month for row in answer.rows.column(0).to_pylist()] == list(range(1, 13))
        assert lab.exchange.count("/klines") == 1


async def test_a_window_wider_than_a_page_takes_as_many_calls_as_it_needs() -> None:
    async with open_lab(window_size=100) as lab:
        answer = await lab.fetch(minutes(250))
        assert lab.exchange.count("/klines") == 3
        assert [row[0] for row in candles_of(answer.rows)] == [START // 1000 + 60_000 * n for n in range(250)]


async def test_a_window_on_a_grid_of_another_anchor_is_still_one_call_per_page() -> None:
    """Weeks of this venue begin on Thursday: a page of 100 of them is one call, not two."""
    thursday, week = 1_577_923_200_000_000, 7 * MICROS_PER_DAY
    async with open_lab(window_size=100) as lab:
        await lab.fetch(TimeRange(thursday, thursday + 100 * week), SeriesId.parse("ohlcv:binance:BTC/USDT:1w"))
        assert [call.query["limit"] for call in lab.exchange.calls if call.path.endswith("/klines")] == ["100"]


async def test_an_empty_window_is_an_empty_answer() -> None:
    async with open_lab(RandomWalk(outages_ms=((START // 1000, minutes(60).end // 1000),))) as lab:
        assert (await lab.fetch(minutes(60))).rows.num_rows == 0


async def test_every_call_is_paid_for_and_told_market_loading_too() -> None:
    async with open_lab() as lab:
        await lab.fetch(minutes(10))
        assert [(cost.calls, cost.weight, cost.budget_ms) for cost in lab.limiter.costs] == [
            (1.0, 20.0, 200.0),
            (1.0, 2.0, 20.0),
        ]
        assert lab.observer.calls == len(lab.exchange.calls) == 2
        assert lab.limiter.slots_held == 0


async def test_perpetuals_are_paid_for_from_their_own_hosts_budget() -> None:
    async with open_lab() as lab:
        await lab.fetch(minutes(10), SeriesId.parse("ohlcv:binance:BTC/USDT:USDT:1m"))
        assert [call.path for call in lab.exchange.calls].count("/fapi/v1/klines") == 1
        assert len(lab.limiters["binance", "fapi"].costs) == 2  # its markets, its bars
        assert len(lab.limiters["binance", "dapi"].costs) == 1


async def test_spot_asks_for_the_spot_markets_only() -> None:
    async with open_lab() as lab:
        await lab.source.check(BTC)
        assert [call.path for call in lab.exchange.calls] == ["/api/v3/exchangeInfo"]


async def test_the_users_own_market_types_are_left_alone() -> None:
    async with open_lab(ccxt={"options": {"fetchMarkets": {"types": ["linear"]}}}) as lab:
        await lab.source.check(SeriesId.parse("ohlcv:binance:BTC/USDT:USDT:1m"))
        assert [call.path for call in lab.exchange.calls] == ["/fapi/v1/exchangeInfo"]


async def test_an_unknown_symbol_is_one_call_and_names_near_ones() -> None:
    async with open_lab() as lab:
        for _ in range(2):
            with pytest.raises(UnknownSymbol, match="ETH/USDT"):
                await lab.source.check(SeriesId.parse("ohlcv:binance:ETH/USTD:1m"))
        assert len(lab.exchange.calls) == 1


async def test_the_exchanges_own_notation_leads_to_spot_and_perpetual() -> None:
    async with open_lab() as lab:
        with pytest.raises(UnknownSymbol) as raised:
            await lab.source.check(SeriesId.parse("ohlcv:binance:BTCUSDT:1m"))
        assert raised.value.metadata["nearest"] == "BTC/USDT,BTC/USDT:USDT"


async def test_an_unknown_timeframe_is_no_call_and_lists_those_served() -> None:
    async with open_lab() as lab:
        with pytest.raises(UnknownTimeframe, match="1s, 1m, 3m"):
            await lab.source.check(SeriesId.parse("ohlcv:binance:BTC/USDT:7m"))
        assert not lab.exchange.calls


async def test_an_unknown_exchange_is_refused_with_the_nearest_names() -> None:
    async with open_lab() as lab:
        for ask in (lab.source.venue, lab.source.origin, lab.source.now):
            with pytest.raises(UnknownExchange, match="'binance'"):
                ask("binanse")
        with pytest.raises(UnknownExchange, match="'binance'"):
            await lab.source.check(SeriesId.parse("ohlcv:binanse:BTC/USDT:1m"))


async def test_an_exchange_without_bars_is_refused_without_a_call() -> None:
    async with open_lab() as lab:
        with pytest.raises(VenueRefused, match="serves no bars"):
            await lab.source.check(SeriesId.parse("ohlcv:coinmate:BTC/EUR:1m"))


async def test_a_market_listed_later_is_seen_once_the_markets_are_old() -> None:
    now = [START]
    async with open_lab(host_clock=lambda: now[0]) as lab:
        later = SeriesId.parse("ohlcv:binance:NEW/USDT:1m")
        with pytest.raises(UnknownSymbol):
            await lab.source.check(later)
        from historyd.demo.exchange import Listing

        lab.exchange.listings = (*lab.exchange.listings, Listing("NEW"))
        now[0] += 601 * MICROS_PER_S
        await lab.source.check(later)


async def test_the_first_bar_is_found_with_two_calls() -> None:
    async with open_lab() as lab:
        assert await lab.source.first_bar(BTC, lab.observer, 0) == RandomWalk().listed_ms * 1000
        assert lab.exchange.count("/klines") == 2


async def test_a_first_bar_that_has_one_before_it_is_not_believed() -> None:
    """So answers whoever takes a start of 0 for no start: with the latest bar."""
    async with open_lab() as lab:
        lab.klines.next(fault.ignoring_window())
        assert await lab.source.first_bar(BTC, lab.observer, 0) is None


async def test_a_series_without_bars_has_no_first_one() -> None:
    async with open_lab(GivenRows({})) as lab:
        assert await lab.source.first_bar(BTC, lab.observer, 0) is None


async def test_a_venue_that_cannot_tell_its_first_bar_is_not_asked() -> None:
    async with open_lab() as lab:
        assert await lab.source.first_bar(SeriesId.parse("ohlcv:gemini:BTC/USD:1m"), lab.observer, 0) is None
        assert lab.observer.calls == 0


async def test_markets_and_timeframes_are_listed_in_order() -> None:
    async with open_lab() as lab:
        listed = await lab.source.markets("binance")
        assert [market.symbol for market in listed.markets] == [
            "BTC/USDT",
            "BTC/USDT:USDT",
            "ETH/BTC",
            "ETH/USDT",
            "SOL/USDT",
        ]
        assert [market.type for market in listed.markets][:2] == ["spot", "swap"]
        assert listed.timeframes[:3] == ("1s", "1m", "3m")
        assert listed.timeframes[-2:] == ("1w", "1M")


async def test_asked_at_is_when_the_call_for_bars_was_sent() -> None:
    """Not when the markets were: the clock moves on by a second with every look at it."""
    now = [START]

    def tick() -> int:
        now[0] += MICROS_PER_S
        return now[0]

    async with open_lab(host_clock=tick) as lab:
        await lab.source.check(BTC)
        before = now[0]
        answer = await lab.fetch(minutes(10))
        assert answer.asked_at == before + MICROS_PER_S


async def test_asked_at_of_a_window_of_many_calls_is_when_the_first_was_sent() -> None:
    """A newer answer that was asked for in between must win."""
    now = [START]

    def tick() -> int:
        now[0] += MICROS_PER_S
        return now[0]

    async with open_lab(host_clock=tick, window_size=10) as lab:
        await lab.source.check(BTC)
        before = now[0]
        assert (await lab.fetch(minutes(30))).asked_at == before + MICROS_PER_S


async def test_settings_reach_venue_origin_retries_and_least_duration() -> None:
    options = ExchangeOptions(base_url="http://127.0.0.1:9", window_size=300, max_retries=5, retry_backoff_s=2.0)
    source = CcxtSource(lambda *_: RecordingLimiter(), {"binance": options})
    assert source.venue("binance").page_bars == 300
    assert source.origin("binance") == Origin("127.0.0.1:9")
    assert source.retry_policy("binance") == RetryPolicy(5, 2.0)
    assert source.retry_policy("kraken") == RetryPolicy(3, 0.5)
    assert source.least_duration("binance", 50) == pytest.approx(1.0)  # 20 ms of the budget a call
    assert source.origin("kraken") == Origin("api.kraken.com")
    sandboxed = ExchangeOptions(ccxt={"options": {"sandbox": True}})
    assert CcxtSource(lambda *_: RecordingLimiter(), {"binance": sandboxed}).origin("binance").sandbox


async def test_the_clock_is_the_exchanges_by_its_date_header() -> None:
    """The host's clock is a day fast: after one reply, `now` is behind the exchange's by a second at most."""
    async with serve_exchange() as exchange:
        fast = CcxtSource(
            lambda *_: RecordingLimiter(),
            {"binance": ExchangeOptions(base_url=exchange.url)},
            host_clock=lambda: exchange.clock() * 1000 + MICROS_PER_DAY,
        )
        async with fast:
            assert fast.now("binance") > exchange.clock() * 1000 + MICROS_PER_DAY - MICROS_PER_S
            await fast.check(BTC)
            assert fast.now("binance") <= exchange.clock() * 1000


async def test_proxies_of_the_environment_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The venue's host does not exist: only the proxy, which answers in its place, can have been asked."""
    async with serve_exchange() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        options = {"binance": ExchangeOptions(base_url="http://venue.invalid")}
        async with CcxtSource(lambda *_: RecordingLimiter(), options) as source:
            answer = await source.fetch_bars(BTC, minutes(5), RecordingObserver())
        assert answer.rows.num_rows == 5
        assert len(proxy.calls) == 2


async def test_leaving_the_source_leaves_no_task_and_no_session() -> None:
    before = asyncio.all_tasks()
    async with open_lab() as lab:
        await lab.fetch(minutes(5))
    gc.collect()  # an open session would warn here, and warnings are errors
    assert asyncio.all_tasks() == before


async def test_a_hundred_callers_share_one_instance_and_one_load() -> None:
    async with open_lab() as lab:
        answers = await asyncio.gather(*(lab.fetch(minutes(5, START + n * 5 * 60_000_000)) for n in range(100)))
        assert lab.exchange.count("/exchangeInfo") == 1
        assert [candles_of(answer.rows)[0][0] for answer in answers] == [
            START // 1000 + n * 300_000 for n in range(100)
        ]
