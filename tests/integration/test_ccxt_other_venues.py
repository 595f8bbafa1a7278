"""Venues other than Binance go through the same path: their dialects on loopback, asked through real ccxt."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from historyd.demo.candles import RandomWalk
from historyd.errors import ExchangeUnavailable, RateLimited
from historyd.model.page import Layout, Pages
from historyd.model.series import SeriesId
from historyd.model.time_range import TimeRange
from historyd.sources.ccxt import CcxtSource
from historyd.sources.options import ExchangeOptions
from tests.limiters import RecordingLimiter, RecordingObserver
from tests.source_lab import START, candles_of, floats, minutes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from historyd.demo.candles import Candle

    Query = Mapping[str, str]

FAR_MS = 4_000_000_000_000
HOLE = (minutes(300).end // 1000, minutes(1600).end // 1000)
"""Nobody traded for 1,300 minutes: more than a page of any of these venues."""
WALK = RandomWalk(outages_ms=(HOLE,))


def bars(first_ms: int, last_ms: int, limit: int) -> list[Candle]:
    """The first bars that open in `[first_ms, last_ms]`."""
    return WALK.bars("BTCUSDT", "1m", first_ms, last_ms, limit)


def okx_instruments(query: Query) -> Any:
    spot = {"instType": "SPOT", "instId": "BTC-USDT", "baseCcy": "BTC", "quoteCcy": "USDT", "state": "live"}
    sizes = {"tickSz": "0.01", "lotSz": "0.00001", "minSz": "0.00001", "listTime": "1502942400000"}
    return {"code": "0", "msg": "", "data": [spot | sizes] if query["instType"] == "SPOT" else []}


def okx_bars(query: Query) -> Any:
    """Both ends exclusive, newest first, the newest `limit` of them."""
    found = WALK.last("BTCUSDT", "1m", int(query["after"]) - 1, int(query["limit"]))
    rows = [[*map(str, bar), "0", "0", "1"] for bar in found if bar[0] > int(query["before"])]
    return {"code": "0", "msg": "", "data": rows[::-1]}


def bybit_instruments(query: Query) -> Any:
    sizes = {"basePrecision": "0.00001", "minOrderQty": "0.00001", "maxOrderQty": "9", "minOrderAmt": "1"}
    spot = {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading"}
    spot_market = spot | {"lotSizeFilter": sizes, "priceFilter": {"tickSize": "0.01"}}
    listed = [spot_market] if query["category"] == "spot" else []
    return {"retCode": 0, "result": {"category": query["category"], "list": listed}, "time": 0}


def bybit_bars(query: Query) -> Any:
    """Both ends inclusive, newest first."""
    found = bars(int(query["start"]), int(query["end"]), int(query["limit"]))
    rows = [[*map(str, bar), "0"] for bar in found]
    return {"retCode": 0, "result": {"list": rows[::-1]}, "time": 0}


def whitebit_markets(_: Query) -> Any:
    market = {"name": "BTC_USDT", "stock": "BTC", "money": "USDT", "type": "spot", "tradesEnabled": True}
    return [market | {"stockPrec": "6", "moneyPrec": "2", "minAmount": "0.001", "minTotal": "5"}]


def whitebit_bars(query: Query) -> Any:
    """Only a start, in seconds; open, close, high, low; a venue that the table does not know."""
    found = bars(int(query["start"]) * 1000, FAR_MS, int(query["limit"]))
    rows = [[at // 1000, opened, closed, high, low, volume, "0"] for at, opened, high, low, closed, volume in found]
    return {"success": True, "message": "", "result": rows}


@dataclass
class Dialect:
    """What an exchange answers, by the end of the path."""

    exchange: str
    routes: dict[str, Callable[[Query], Any]]
    ccxt: dict[str, Any] = field(default_factory=dict)


SPOT_ONLY = {"options": {"fetchMarkets": {"types": ["spot"]}}, "has": {"fetchCurrencies": False}}
DIALECTS = [
    Dialect("okx", {"/instruments": okx_instruments, "candles": okx_bars}, SPOT_ONLY),
    Dialect("bybit", {"/instruments-info": bybit_instruments, "/kline": bybit_bars}, SPOT_ONLY),
    Dialect("whitebit", {"/markets": whitebit_markets, "/kline": whitebit_bars}, SPOT_ONLY),
]


@asynccontextmanager
async def speaking(dialect: Dialect, **instead: Any) -> AsyncIterator[CcxtSource]:
    """A source in front of this dialect; `instead` replaces the answer for bars."""

    async def answer(request: web.Request) -> web.Response:
        for tail, reply in dialect.routes.items():
            if request.path.endswith(tail):
                about_bars = tail == list(dialect.routes)[-1]
                return web.json_response(instead["bars"] if about_bars and instead else reply(request.query))
        return web.json_response({}, status=404)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        options = {dialect.exchange: ExchangeOptions(base_url=url, ccxt=dialect.ccxt)}
        async with CcxtSource(lambda *_: RecordingLimiter(), options) as source:
            yield source
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.exchange)
async def test_pages_of_fixed_windows_find_all_rows_across_a_hole_wider_than_a_page(dialect: Dialect) -> None:
    series = SeriesId.parse(f"ohlcv:{dialect.exchange}:BTC/USDT:1m")
    window = minutes(2500)
    async with speaking(dialect) as source:
        rows: dict[int, tuple[Any, ...]] = {}
        for page in Pages.of(series, Layout(source.venue(dialect.exchange).page_bars)).touching(window):
            answer = await source.fetch_bars(series, page, RecordingObserver())
            rows |= {row[0]: row for row in candles_of(answer.rows) if row[0] * 1000 in page}
        inside = [rows[at] for at in sorted(rows) if at * 1000 in window]
    assert inside == floats(bars(START // 1000, window.end // 1000 - 1, 2500))
    assert len(inside) == 1200


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.exchange)
@pytest.mark.parametrize("answer", [{}, {"error": "maintenance"}, {"result": None}, {"data": {}}, "busy"])
async def test_an_answer_that_says_nothing_is_not_an_empty_one(dialect: Dialect, answer: Any) -> None:
    series = SeriesId.parse(f"ohlcv:{dialect.exchange}:BTC/USDT:1m")
    async with speaking(dialect, bars=answer) as source:
        with pytest.raises(ExchangeUnavailable):  # a BadAnswer is one
            await source.fetch_bars(series, minutes(10), RecordingObserver())


@pytest.mark.parametrize(
    ("dialect", "answer"),
    [
        (DIALECTS[0], {"code": "50011", "msg": "Too Many Requests", "data": []}),
        (DIALECTS[1], {"retCode": 10006, "retMsg": "Too many visits!", "result": {}}),
    ],
    ids=["okx", "bybit"],
)
async def test_a_spent_quota_behind_status_200_is_rate_limited(dialect: Dialect, answer: Any) -> None:
    series = SeriesId.parse(f"ohlcv:{dialect.exchange}:BTC/USDT:1m")
    async with speaking(dialect, bars=answer) as source:
        with pytest.raises(RateLimited):
            await source.fetch_bars(series, minutes(10), RecordingObserver())


async def test_a_venue_outside_of_the_table_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "historyd")
    series = SeriesId.parse("ohlcv:whitebit:BTC/USDT:1m")
    async with speaking(DIALECTS[2]) as source:
        for start in (START, START + 600_000_000):
            await source.fetch_bars(series, TimeRange(start, start + 600_000_000), RecordingObserver())
    assert [record.message for record in caplog.records if "whitebit" in record.message] == [
        "whitebit is not in the venue table: small pages and the safest rules apply"
    ]
