"""Recorded bars of real venues: through the dialect of the venue they are of, and replies as they were recorded."""

from __future__ import annotations

import importlib
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from historyd.demo.candles import GivenRows
from historyd.model.series import SeriesId
from historyd.model.time_range import TimeRange
from historyd.sources.ccxt import CcxtSource
from historyd.sources.options import ExchangeOptions
from tests import realdata
from tests.limiters import RecordingLimiter, RecordingObserver
from tests.source_lab import candles_of, floats
from tests.venues.binance import Binance
from tests.venues.bybit import Bybit
from tests.venues.coinbase import Coinbase
from tests.venues.house import NOW_MS, open_house
from tests.venues.kraken import Kraken
from tests.venues.okx import Okx
from tests.venues.others import Bitstamp
from tests.venues.tape import Tape

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from historyd.demo.candles import Candle
    from tests.venues.serving import Dialect

pytestmark = realdata.needed

importlib.import_module("ccxt.async_support")  # seconds that belong to no test

RECORDED: dict[str, tuple[type[Dialect], str, str, Callable[[], list[Candle]]]] = {
    "binance minutes": (
        Binance,
        "BTC/BUSD",
        "1m",
        lambda: realdata.lean_minutes("binance-minute-btcbusd-20221213_trade"),
    ),
    "bybit minutes": (Bybit, "BTC/USDT", "1m", lambda: realdata.lean_minutes("bybit-minute-btcusdt-20221213_trade")),
    "coinbase minutes with holes": (
        Coinbase,
        "BTC/USD",
        "1m",
        lambda: realdata.lean_minutes("coinbase-minute-btcusd-20180404_trade"),
    ),
    "coinbase hours": (Coinbase, "BTC/USD", "1h", realdata.coinbase_hours),
    "coinbase days of BTC": (
        Coinbase,
        "BTC/USD",
        "1d",
        lambda: realdata.coinbase_days("BTC-USD-PT1D-20230616_20231020"),
    ),
    "coinbase days of ETH": (
        Coinbase,
        "ETH/USD",
        "1d",
        lambda: realdata.coinbase_days("ETH-USD-PT1D-20241105_20251020"),
    ),
    "binance US, told by OKX' dialect": (Okx, "ETH/USD", "5m", realdata.binanceus_five_minutes),
}


@pytest.mark.parametrize("name", RECORDED)
async def test_recorded_bars_come_through_ccxt_engine_and_store_unchanged(name: str, tmp_path: Path) -> None:
    kind, symbol, timeframe, read = RECORDED[name]
    candles = read()
    dialect = kind(Tape((symbol,), GivenRows({(symbol, timeframe): candles})), clock=lambda: NOW_MS)
    series = SeriesId.parse(f"ohlcv:{dialect.exchange}:{symbol}:{timeframe}")
    window = TimeRange(candles[0][0] * 1000, (candles[-1][0] + 1) * 1000)
    async with open_house(tmp_path, dialect) as house:
        result = await house.ensure(series, window)
        assert await house.rows(series, window) == floats(candles)
        assert (result.uncovered, result.quarantined_count) == ((), 0)


async def test_krakens_recorded_answer_comes_through_its_dialect_without_the_open_bar(tmp_path: Path) -> None:
    raw = realdata.kraken_bars()["result"]["XXBTZUSD"]
    candles = [(row[0] * 1000, *row[1:5], row[6]) for row in raw]
    now_ms = candles[-1][0] + 30_000
    dialect = Kraken(Tape(("BTC/USD",), GivenRows({("BTC/USD", "1m"): candles})), clock=lambda: now_ms)
    series = SeriesId.parse("ohlcv:kraken:BTC/USD:1m")
    window = TimeRange(candles[0][0] * 1000, candles[-1][0] * 1000)
    async with open_house(tmp_path, dialect) as house:
        assert (await house.ensure(series, window)).uncovered == ()
        assert await house.rows(series, window) == floats(candles[:-1])


@pytest.mark.parametrize(("step", "timeframe"), [("60", "1m"), ("86400", "1d")])
async def test_bitstamps_recorded_bars_come_through_its_dialect(step: str, timeframe: str, tmp_path: Path) -> None:
    rows: dict[int, Candle] = {}
    for query, body in realdata.recorded_replies("bitstamp")["/api/v2/ohlc/btcusd/"]:
        if query["step"] == step:
            names = ("open", "high", "low", "close", "volume")
            found = body["data"]["ohlc"]
            rows |= {
                int(one["timestamp"]) * 1000: (int(one["timestamp"]) * 1000, *(one[n] for n in names)) for one in found
            }
    candles = [rows[at] for at in sorted(rows)]
    dialect = Bitstamp(Tape(("BTC/USD",), GivenRows({("BTC/USD", timeframe): candles})), clock=lambda: NOW_MS)
    series = SeriesId.parse(f"ohlcv:bitstamp:BTC/USD:{timeframe}")
    window = TimeRange(candles[0][0] * 1000, (candles[-1][0] + 1) * 1000)
    async with open_house(tmp_path, dialect, ccxt=Bitstamp.ccxt) as house:
        assert (await house.ensure(series, window)).uncovered == ()
        assert await house.rows(series, window) == floats(candles)


@asynccontextmanager
async def replaying(exchange: str, replies: Mapping[str, Any], **ccxt: Any) -> AsyncIterator[CcxtSource]:
    """A source in front of a server that says what was recorded, by the end of the path."""

    async def answer(request: web.Request) -> web.Response:
        for tail, body in replies.items():
            if request.path.endswith(tail):
                return web.json_response(body)
        return web.json_response([])

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        options = {exchange: ExchangeOptions(base_url=url, ccxt={"has": {"fetchCurrencies": False}, **ccxt})}
        async with CcxtSource(lambda *_: RecordingLimiter(), options) as source:
            yield source
    finally:
        await runner.cleanup()


async def said(source: CcxtSource, series: str, first_ms: int, last_ms: int) -> list[tuple[Any, ...]]:
    """What the source makes of the answer for the bars that open in `[first_ms, last_ms]`, by time."""
    window = TimeRange(first_ms * 1000, last_ms * 1000 + 1000)
    answer = await source.fetch_bars(SeriesId.parse(series), window, RecordingObserver())
    return sorted(candles_of(answer.rows))


@pytest.mark.parametrize("at", range(8))
async def test_poloniex_recorded_candles_as_they_are(at: int) -> None:
    replies = realdata.recorded_replies("poloniex")
    query, body = replies["/markets/BTC_USDT/candles"][at]
    [(_, markets)] = replies["/markets/BTC_USDT"]
    timeframe = {"MINUTE_5": "5m", "HOUR_1": "1h"}[query["interval"]]
    recorded = {"/markets": markets, "/candles": body, "/allInstruments": {"code": 200, "data": []}}
    async with replaying("poloniex", recorded) as source:
        rows = await said(source, f"ohlcv:poloniex:BTC/USDT:{timeframe}", body[0][12], body[-1][12])
    # Its columns: low, high, open, close, amount, quantity ... start time.
    assert rows == sorted((row[12], *(float(row[cell]) for cell in (2, 1, 0, 3, 5))) for row in body)


async def test_hitbtcs_recorded_candles_as_they_are() -> None:
    candles = realdata.xchange("hitbtc-example-candles-data")
    market = {"type": "spot", "base_currency": "BTC", "quote_currency": "USD", "status": "working"}
    sizes = {"quantity_increment": "0.01", "tick_size": "0.01", "take_rate": "0.001", "make_rate": "0.001"}
    recorded = {"/public/symbol": {"BTCUSD": market | sizes | {"fee_currency": "USD"}}, "/BTCUSD": candles}
    stamps = [int(datetime.fromisoformat(one["timestamp"]).timestamp()) * 1000 for one in candles]
    async with replaying("hitbtc", recorded) as source:
        rows = await said(source, "ohlcv:hitbtc:BTC/USD:30m", min(stamps), min(stamps) + 199 * 1_800_000)
    names = ("open", "max", "min", "close", "volume")
    assert rows == sorted((at, *(float(one[n]) for n in names)) for at, one in zip(stamps, candles, strict=True))


async def test_coinbase_pros_recorded_candles_as_they_are() -> None:
    candles = realdata.xchange("coinbasepro-example-historical-candles")
    [products] = realdata.instruments("COINBASE").values()
    async with replaying("coinbaseexchange", {"/products": products, "/candles": candles}) as source:
        rows = await said(source, "ohlcv:coinbaseexchange:BTC/USD:1m", candles[-1][0] * 1000, candles[0][0] * 1000)
    # Its columns: time in s, low, high, open, close, volume.
    assert rows == sorted((row[0] * 1000, *(float(row[cell]) for cell in (3, 2, 1, 4, 5))) for row in candles)
