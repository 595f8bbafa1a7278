"""The loopback venues behave as their docstrings say, seen through ccxt as it comes, without anything of ours."""

from __future__ import annotations

import importlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from historyd.sources.ccxt_setup import rebased
from tests.source_lab import floats
from tests.venues.binance import Binance
from tests.venues.bybit import Bybit
from tests.venues.coinbase import Coinbase
from tests.venues.dialects import FIVE
from tests.venues.kraken import Kraken
from tests.venues.okx import Okx
from tests.venues.serving import serve
from tests.venues.tape import Tape, Tick, make_ticks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.venues.serving import Dialect

ccxt: Any = importlib.import_module("ccxt.async_support")

NOW_MS = 1_767_323_045_678
"""A quarter of an hour into 2026-01-02, between two bars."""
FIRST_MS = NOW_MS - 10_000_000
TICKS = make_ticks(FIRST_MS, 3000, 0.3, first_id=5000)
"""Three or four in each millisecond."""


@asynccontextmanager
async def plain_ccxt(dialect: Dialect) -> AsyncIterator[Any]:
    """ccxt without our hooks, in front of the dialect."""
    async with serve(dialect) as venue:
        exchange = getattr(ccxt, dialect.exchange)({**dialect.ccxt, "has": {"fetchCurrencies": False}})
        exchange.urls["api"] = rebased(exchange.urls["api"], venue.url)
        exchange.enableRateLimit = False
        exchange.timeout_on_exit = 0
        try:
            yield exchange
        finally:
            await exchange.close()


def made(kind: type[Dialect], *more: str) -> Dialect:
    """A dialect with the bars and trades of this module, whose clock stands still."""
    return kind(Tape((kind.spot, *more), ticks={kind.spot: TICKS}), clock=lambda: NOW_MS)


def row_of(tick: Tick, *, in_ms: bool = True) -> tuple[Any, ...]:
    return (str(tick.id), tick.at_ms if in_ms else tick.at_ns, float(tick.price), float(tick.amount), tick.side)


def rows_of(trades: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(one["id"], one["timestamp"], one["price"], one["amount"], one["side"]) for one in trades]


@pytest.mark.parametrize("kind", FIVE)
async def test_the_open_bar_is_among_the_bars(kind: type[Dialect]) -> None:
    dialect = made(kind)
    start = NOW_MS // 60_000 * 60_000 - 9 * 60_000
    async with plain_ccxt(dialect) as exchange:
        rows = await exchange.fetch_ohlcv(kind.spot, "1m", start, 10)
    expected = dialect.tape.candles.bars(kind.spot, "1m", start, NOW_MS, 10)
    assert rows == [list(row) for row in floats(expected)]
    assert rows[-1][0] < NOW_MS < rows[-1][0] + 60_000


@pytest.mark.parametrize("kind", FIVE)
async def test_the_latest_trades_are_given(kind: type[Dialect]) -> None:
    async with plain_ccxt(made(kind)) as exchange:
        trades = await exchange.fetch_trades(kind.spot, None, 50)
    expected = TICKS[:50] if kind is Kraken else TICKS[-50:]
    assert sorted(rows_of(trades)) == [row_of(tick) for tick in expected]


async def test_binance_gives_trades_by_id_and_the_last_ones_of_a_window() -> None:
    async with plain_ccxt(made(Binance)) as exchange:
        by_id = await exchange.fetch_trades("BTC/USDT", None, 10, {"fromId": 5100})
        assert rows_of(by_id) == [row_of(tick) for tick in TICKS[100:110]]
        window = {"symbol": "BTCUSDT", "startTime": FIRST_MS, "endTime": FIRST_MS + 99, "limit": 7}
        raw = await exchange.publicGetAggTrades(window)
        assert [one["a"] for one in raw] == [tick.id for tick in TICKS if tick.at_ms < FIRST_MS + 100][-7:]
        with pytest.raises(ccxt.BaseError, match="-1127"):
            await exchange.publicGetAggTrades(window | {"endTime": FIRST_MS + 3_600_001})
        with pytest.raises(ccxt.BaseError, match="-1128"):
            await exchange.publicGetAggTrades(window | {"fromId": 5100})


async def test_okx_pages_trades_back_by_id_and_bars_back_from_the_end() -> None:
    async with plain_ccxt(made(Okx)) as exchange:
        params = {"method": "publicGetMarketHistoryTrades", "after": "5200"}
        older = await exchange.fetch_trades("BTC/USDT", None, 100, params)
        assert sorted(rows_of(older)) == [row_of(tick) for tick in TICKS[100:200]]
        [newest] = (await exchange.publicGetMarketCandles({"instId": "BTC-USDT", "before": "1", "limit": "1"}))["data"]
        assert int(newest[0]) == NOW_MS // 60_000 * 60_000
        assert newest[-1] == "0"
        old = {"instId": "BTC-USDT", "before": NOW_MS - 1500 * 60_000, "after": NOW_MS - 1450 * 60_000}
        assert (await exchange.publicGetMarketCandles(old))["data"] == []
        assert len((await exchange.publicGetMarketHistoryCandles(old))["data"]) == 50


async def test_bybit_has_the_latest_sixty_trades_only() -> None:
    async with plain_ccxt(made(Bybit)) as exchange:
        assert len(await exchange.fetch_trades("BTC/USDT", FIRST_MS, 1000)) == 60


async def test_coinbase_gives_the_newest_trades_of_a_window_of_seconds() -> None:
    first_s = FIRST_MS // 1000
    async with plain_ccxt(made(Coinbase)) as exchange:
        trades = await exchange.fetch_trades("BTC/USD", first_s * 1000, 20, {"until": first_s * 1000 + 1000})
    inside = [tick for tick in TICKS if tick.at_ns <= (first_s + 1) * 1_000_000_000]
    assert sorted(rows_of(trades)) == [row_of(tick) for tick in inside[-20:]]


async def test_kraken_pages_trades_by_its_cursor_of_nanoseconds() -> None:
    dialect = made(Kraken)
    dialect.page_trades = 1000
    async with plain_ccxt(dialect) as exchange:
        seen: list[Any] = []
        cursor = str(FIRST_MS // 1000)
        while page := await exchange.fetch_trades("BTC/USD", None, 1000, {"since": cursor}):
            cursor = page[-1]["info"][-1]
            seen += page
    assert [one["id"] for one in seen] == [str(tick.id) for tick in TICKS]


async def test_kraken_ignores_an_old_since() -> None:
    async with plain_ccxt(made(Kraken)) as exchange:
        raw = (await exchange.publicGetOHLC({"pair": "XXBTZUSD", "interval": 1, "since": 1}))["result"]["XXBTZUSD"]
        assert len(raw) == 720
        rows = await exchange.fetch_ohlcv("BTC/USD", "1m", 1_500_000_000_000, 720)
    assert rows[0][0] == raw[0][0] * 1000
    assert rows[-1][0] == NOW_MS // 60_000 * 60_000


@pytest.mark.parametrize("kind", FIVE)
async def test_every_way_to_say_that_the_quota_is_spent_is_an_error_to_ccxt(kind: type[Dialect]) -> None:
    async with serve(made(kind)) as venue:
        for said, fault in kind.quota_spent.items():
            exchange = getattr(ccxt, kind.exchange)({**kind.ccxt, "has": {"fetchCurrencies": False}})
            exchange.urls["api"] = rebased(exchange.urls["api"], venue.url)
            exchange.timeout_on_exit = 0
            venue.bars.next(fault)
            try:
                with pytest.raises((ccxt.RateLimitExceeded, ccxt.DDoSProtection)):
                    await exchange.fetch_ohlcv(kind.spot, "1m", NOW_MS - 600_000, 5)
            finally:
                await exchange.close()
            assert venue.bars.left == 0, said


@pytest.mark.parametrize("kind", [Binance, Okx, Bybit])
async def test_spot_and_perpetuals_are_told_apart(kind: type[Dialect]) -> None:
    async with plain_ccxt(made(kind, "BTC/USDT:USDT")) as exchange:
        spot = await exchange.fetch_ohlcv("BTC/USDT", "1m", NOW_MS - 600_000, 5)
        swap = await exchange.fetch_ohlcv("BTC/USDT:USDT", "1m", NOW_MS - 600_000, 5)
    assert len(spot) == len(swap) == 5
    assert spot != swap
