"""Recorded data of real exchanges, served over HTTP in the venue's dialect, comes through real ccxt row by row."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from historyd.demo.candles import GivenRows
from historyd.errors import BadAnswer, UnknownSymbol
from historyd.model.page import Layout, Pages
from historyd.model.series import SeriesId
from historyd.model.time_range import MICROS_PER_MS, TimeRange
from historyd.sources.ccxt import CcxtSource
from historyd.sources.options import ExchangeOptions
from tests import realdata, venue_faults
from tests.limiters import RecordingLimiter, RecordingObserver
from tests.source_lab import candles_of, floats, open_lab

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from historyd.demo.candles import Candle
    from tests.source_lab import Lab

pytestmark = realdata.needed

LEAN = [
    "binance-minute-btcbusd-20221213_trade",
    "bybit-minute-btcusdt-20221213_trade",
    "coinbase-minute-btcusd-20180404_trade",
    "coinbase-minute-btcusd-20180405_trade",
    "coinbase-minute-btcusd-20171217_trade",
]


async def all_pages(lab: Lab, series: SeriesId, candles: list[Candle]) -> list[tuple[Any, ...]]:
    """What the source says of every page that the candles touch, page by page."""
    first, last = candles[0][0] * MICROS_PER_MS, candles[-1][0] * MICROS_PER_MS
    rows: list[tuple[Any, ...]] = []
    for page in Pages.of(series, Layout(1000)).touching(TimeRange(first, last + 1)):
        rows += candles_of((await lab.fetch(page, series)).rows)
    return rows


@pytest.mark.parametrize("name", LEAN)
async def test_a_day_of_minutes_comes_through_unchanged(name: str) -> None:
    candles = realdata.lean_minutes(name)
    async with open_lab(GivenRows({("BTCUSDT", "1m"): candles})) as lab:
        assert await all_pages(lab, SeriesId.parse("ohlcv:binance:BTC/USDT:1m"), candles) == floats(candles)


async def test_nine_years_of_four_hour_bars_come_through_unchanged() -> None:
    candles = realdata.coinbase_four_hours()
    assert len(candles) == 20_695
    async with open_lab(GivenRows({("BTCUSDT", "4h"): candles})) as lab:
        assert await all_pages(lab, SeriesId.parse("ohlcv:binance:BTC/USDT:4h"), candles) == floats(candles)


async def test_binances_recorded_klines_and_markets_come_through_unchanged() -> None:
    replies = realdata.recorded_replies("binance")
    rows: dict[tuple[str, str], dict[int, Candle]] = defaultdict(dict)
    for query, body in replies["/api/v3/klines"]:
        rows[query["symbol"], query["interval"]] |= {row[0]: tuple(row[:6]) for row in body}
    async with open_lab(GivenRows({key: kept.values() for key, kept in rows.items()})) as lab:
        [(_, markets)] = replies["/api/v3/exchangeInfo"]
        lab.markets.next(venue_faults.answer(json.dumps(markets)))
        symbols = {"BTCUSDT": "BTC/USDT", "ETHBTC": "ETH/BTC"}
        for (market_id, interval), kept in rows.items():
            candles = sorted(kept.values())
            series = SeriesId.parse(f"ohlcv:binance:{symbols[market_id]}:{interval}")
            assert await all_pages(lab, series, candles) == floats(candles)
        with pytest.raises(UnknownSymbol):
            await lab.source.check(SeriesId.parse("ohlcv:binance:SOL/USDT:1m"))  # the recording lists a few only


@asynccontextmanager
async def kraken(bars: Any) -> AsyncIterator[CcxtSource]:
    """A source in front of Kraken's recorded instrument list and this answer for bars."""
    [pairs] = realdata.instruments("KRAKEN").values()
    # The recording is of 2021 and still has the dark pools, which ccxt takes for the markets they belonged to.
    pairs["result"] = {name: pair for name, pair in pairs["result"].items() if not name.endswith(".d")}

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(pairs if request.path.endswith("AssetPairs") else bars)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with CcxtSource(lambda *_: RecordingLimiter(), {"kraken": ExchangeOptions(base_url=url)}) as source:
            yield source
    finally:
        await runner.cleanup()


KRAKEN_BTC = SeriesId.parse("ohlcv:kraken:BTC/USD:1m")


@pytest.mark.parametrize("start_s", [1_400_000_040, 1_700_000_040], ids=["older", "newer"])
async def test_krakens_720_bars_come_whole_whatever_window_was_asked_for(start_s: int) -> None:
    """Asked for older ones it answers with the newest: the source hands them on, so that the engine can tell."""
    reply = realdata.kraken_bars()
    raw = reply["result"]["XXBTZUSD"]
    observer = RecordingObserver()
    async with kraken(reply) as source:
        window = TimeRange(start_s * 1_000_000, (start_s + 720 * 60) * 1_000_000)
        answer = await source.fetch_bars(KRAKEN_BTC, window, observer)
    # Kraken's columns: time in s, open, high, low, close, vwap, volume, count.
    assert candles_of(answer.rows) == [(row[0] * 1000, *(float(row[at]) for at in (1, 2, 3, 4, 6))) for row in raw]
    assert len(raw) == 720
    assert observer.calls == 2  # its instruments, its bars


OTHER_MARKET = {"error": [], "result": {"XETHZUSD": [[1_400_000_000, "1", "1", "1", "1", "1", "1", 1]], "last": 1}}


@pytest.mark.parametrize(
    "answer", [OTHER_MARKET, {}, {"error": []}, {"error": [], "result": {}}, {"result": {"last": 1}}, []]
)
async def test_a_kraken_answer_without_its_keys_is_a_bad_answer(answer: Any) -> None:
    """ccxt makes an empty list of bars of each of these."""
    async with kraken(answer) as source:
        window = TimeRange(1_400_000_000_000_000, 1_400_000_000_000_000 + 60_000_000)
        with pytest.raises(BadAnswer):
            await source.fetch_bars(KRAKEN_BTC, window, RecordingObserver())
