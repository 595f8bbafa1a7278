"""A small exchange on loopback that speaks Binance's REST dialect: for the demo, tests and benchmarks.

Routes: `/api/v3/{ping,time,exchangeInfo,klines,aggTrades}`, the same under `/fapi/v1` (linear perpetuals), an empty
`/dapi/v1/exchangeInfo`, and `/demo/calls`, which is no part of the dialect: how often each path was asked for.
Klines as the real one: ascending, `startTime` and `endTime` inclusive, 500 by default, at most 1000, from the first
bar on if `startTime` is before it, the last ones if there is none; the bar that is open now is among them. Trades
ascending, from `fromId` on, or those of `[startTime, endTime]`, which is an hour at most, or the last ones.

`async with serve_exchange(...) as exchange` in a process that has a loop; `python -m historyd.demo.exchange` as a
process of its own, which prints its URL.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import signal
import time
from collections import Counter, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiohttp import web

from historyd.demo.candles import RandomWalk
from historyd.demo.trades import RandomTrades
from historyd.model.time_range import MICROS_PER_MS
from historyd.model.timeframe import Timeframe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from aiohttp.typedefs import Handler, Middleware

    from historyd.demo.candles import Candle, Candles
    from historyd.demo.trades import Trade, Trades

INTERVALS: Final = frozenset(
    {"1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"}
)
WEIGHTS: Final[Mapping[str, int]] = {"exchangeInfo": 20, "klines": 2, "aggTrades": 2}
"""Request weight by the path's last part; 1 for any other."""
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Listing:
    """One market: base and quote asset, and whether it is a perpetual instead of spot."""

    base: str
    quote: str = "USDT"
    perpetual: bool = False

    @property
    def id(self) -> str:
        """The exchange's own id, such as `BTCUSDT`."""
        return self.base + self.quote


DEFAULT_LISTINGS: Final = (
    Listing("BTC"),
    Listing("ETH"),
    Listing("SOL"),
    Listing("ETH", "BTC"),
    Listing("BTC", perpetual=True),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request: when (ms, the exchange's clock), the path, the query."""

    at_ms: int
    path: str
    query: Mapping[str, str]


@dataclass
class LoopbackExchange:
    """A running exchange.

    Attributes:
        candles: the bars that it serves; must not change while it runs.
        trades: the trades that it serves.
        listings: its markets.
        clock: its clock, milliseconds.
        weight_limit: request weight per minute; None: no limit.
        url: where it listens, such as `http://127.0.0.1:40123`.
        calls: its latest requests, oldest first.
    """

    candles: Candles
    trades: Trades
    listings: Sequence[Listing] = DEFAULT_LISTINGS
    clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    weight_limit: int | None = None
    url: str = ""
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=1_000_000))
    _used: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        # A benchmark asks for the same history again and again; it is not to measure how fast candles are made up.
        self._render_once = functools.lru_cache(maxsize=256)(self._render)

    def count(self, tail: str = "") -> int:
        """How many of `calls` asked for a path that ends like this."""
        return sum(call.path.endswith(tail) for call in self.calls)

    def charge(self, weight: int) -> tuple[int, float | None]:
        """Charges a call: the weight used in this minute, and for how many seconds it is refused, None if it is not."""
        now = self.clock()
        minute = now // _MINUTE_MS
        if minute not in self._used:
            self._used.clear()
        self._used[minute] += weight
        over = self.weight_limit is not None and self._used[minute] > self.weight_limit
        return self._used[minute], ((minute + 1) * _MINUTE_MS - now) / 1000 if over else None

    def klines(self, market_id: str, interval: str, start_ms: int | None, end_ms: int, limit: int) -> str:
        """Klines as JSON; `start_ms` None: the last ones. None that opens after now."""
        now = self.clock()
        if end_ms < now:
            return self._render_once(market_id, interval, start_ms, end_ms, limit)
        return self._render(market_id, interval, start_ms, now, limit)

    def _render(self, market_id: str, interval: str, start_ms: int | None, end_ms: int, limit: int) -> str:
        if start_ms is None:
            return render(self.candles.last(market_id, interval, end_ms, limit), interval)
        return render(self.candles.bars(market_id, interval, start_ms, end_ms, limit), interval)

    def find(self, market_id: str, *, perpetual: bool) -> Listing | None:
        """The market of this id."""
        return next((one for one in self.listings if one.id == market_id and one.perpetual == perpetual), None)


@asynccontextmanager
async def serve_exchange(
    candles: Candles | None = None,
    *,
    trades: Trades | None = None,
    listings: Sequence[Listing] = DEFAULT_LISTINGS,
    clock: Callable[[], int] | None = None,
    weight_limit: int | None = None,
    port: int = 0,
    middlewares: Iterable[Middleware] = (),
) -> AsyncIterator[LoopbackExchange]:
    """Serves an exchange on 127.0.0.1 while the context is open; `middlewares` may answer in its place (faults)."""
    exchange = LoopbackExchange(candles or RandomWalk(), trades or RandomTrades(), listings, weight_limit=weight_limit)
    if clock is not None:
        exchange.clock = clock
    runner = web.AppRunner(_application(exchange, middlewares), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        exchange.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield exchange
    finally:
        await runner.cleanup()


_EXCHANGE: Final = web.AppKey("exchange", LoopbackExchange)


def _application(exchange: LoopbackExchange, middlewares: Iterable[Middleware]) -> web.Application:
    app = web.Application(middlewares=[_account, *middlewares])
    app[_EXCHANGE] = exchange
    for prefix in ("/api/v3", "/fapi/v1"):
        app.router.add_get(f"{prefix}/ping", _ping)
        app.router.add_get(f"{prefix}/time", _time)
        app.router.add_get(f"{prefix}/exchangeInfo", _exchange_info)
        app.router.add_get(f"{prefix}/klines", _klines)
        app.router.add_get(f"{prefix}/aggTrades", _agg_trades)
    app.router.add_get("/dapi/v1/exchangeInfo", _exchange_info)
    app.router.add_get("/demo/calls", _calls)
    return app


@web.middleware
async def _account(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Notes the call, charges its weight, refuses it when the minute's is spent."""
    if request.path.startswith("/demo/"):
        return await handler(request)
    exchange = request.app[_EXCHANGE]
    exchange.calls.append(Call(exchange.clock(), request.path, dict(request.query)))
    used, refused_s = exchange.charge(WEIGHTS.get(request.path.rpartition("/")[2], 1))
    if refused_s is None:
        response = await handler(request)
    else:
        response = _error(429, -1003, "Too much request weight used; please use WebSocket Streams for live updates.")
        response.headers["Retry-After"] = str(int(refused_s) + 1)
    response.headers["X-MBX-USED-WEIGHT-1M"] = str(used)
    return response


async def _ping(_: web.Request) -> web.Response:
    return web.json_response({})


async def _time(request: web.Request) -> web.Response:
    return web.json_response({"serverTime": request.app[_EXCHANGE].clock()})


async def _calls(request: web.Request) -> web.Response:
    return web.json_response(Counter(call.path for call in request.app[_EXCHANGE].calls))


async def _exchange_info(request: web.Request) -> web.Response:
    exchange, futures = request.app[_EXCHANGE], request.path.startswith("/fapi")
    shown = [] if request.path.startswith("/dapi") else [one for one in exchange.listings if one.perpetual == futures]
    body = {"timezone": "UTC", "serverTime": exchange.clock(), "rateLimits": [], "exchangeFilters": []}
    return web.json_response({**body, "symbols": [describe(listing) for listing in shown]})


def describe(listing: Listing) -> dict[str, object]:
    """As much of the dialect's description of a market as ccxt reads."""
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
        {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.00000", "stepSize": "0.00001"},
    ]
    market: dict[str, object] = {
        "symbol": listing.id,
        "status": "TRADING",
        "baseAsset": listing.base,
        "baseAssetPrecision": 8,
        "quoteAsset": listing.quote,
        "quotePrecision": 8,
        "isSpotTradingAllowed": not listing.perpetual,
        "permissions": ["SPOT"],
        "filters": filters,
    }
    if listing.perpetual:
        market |= {"pair": listing.id, "contractType": "PERPETUAL", "marginAsset": listing.quote, "onboardDate": 0}
    return market


async def _klines(request: web.Request) -> web.Response:
    exchange, query = request.app[_EXCHANGE], request.query
    interval = query.get("interval", "")
    listing = exchange.find(query.get("symbol", ""), perpetual=request.path.startswith("/fapi"))
    if listing is None:
        return _error(400, -1121, "Invalid symbol.")
    if interval not in INTERVALS:
        return _error(400, -1120, "Invalid interval.")
    try:
        limit = min(1000, int(query.get("limit", "500")))
        end = int(query.get("endTime", exchange.clock()))
        start = int(query["startTime"]) if "startTime" in query else None
    except ValueError:
        return _error(400, -1100, "Illegal characters found in a parameter.")
    return web.Response(text=exchange.klines(listing.id, interval, start, end, limit), content_type="application/json")


async def _agg_trades(request: web.Request) -> web.Response:
    exchange, query = request.app[_EXCHANGE], request.query
    listing = exchange.find(query.get("symbol", ""), perpetual=request.path.startswith("/fapi"))
    if listing is None:
        return _error(400, -1121, "Invalid symbol.")
    try:
        limit, now = min(1000, int(query.get("limit", "500"))), exchange.clock()
        if "fromId" in query:
            rows = exchange.trades.from_id(listing.id, int(query["fromId"]), now, limit)
        elif "startTime" in query:
            start, end = int(query["startTime"]), int(query.get("endTime", now))
            if end - start > _HOUR_MS:
                return _error(400, -1127, "More than 1 hours between startTime and endTime.")
            rows = exchange.trades.between(listing.id, start, min(end, now), limit)
        else:
            rows = exchange.trades.last(listing.id, now, limit)
    except ValueError:
        return _error(400, -1100, "Illegal characters found in a parameter.")
    return web.json_response([_agg_trade(trade) for trade in rows])


def _agg_trade(trade: Trade) -> dict[str, object]:
    number, at, price, amount, buyer_is_maker = trade
    return {"a": number, "p": price, "q": amount, "f": number, "l": number, "T": at, "m": buyer_is_maker, "M": True}


def render(rows: Iterable[Candle], interval: str) -> str:
    """Rows as the dialect's klines, in JSON; the columns behind the volume are made up."""
    grid = Timeframe.parse(interval).grid()
    width_ms = Timeframe.parse(interval).nominal_width // MICROS_PER_MS
    monthly = interval.endswith("M")
    lines = []
    for at, o, h, low, c, volume in rows:
        next_at = grid.time_of(grid.index_of(at * MICROS_PER_MS) + 1) // MICROS_PER_MS if monthly else at + width_ms
        amount = "null" if volume is None else f'"{volume}"'
        lines.append(f'[{at},"{o}","{h}","{low}","{c}",{amount},{next_at - 1},"0",1,"0","0","0"]')
    return f"[{','.join(lines)}]"


def _error(status: int, code: int, message: str) -> web.Response:
    return web.json_response({"code": code, "msg": message}, status=status)


async def _serve_until_stopped(port: int, weight_limit: int | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serve_exchange(port=port, weight_limit=weight_limit) as exchange:
        print(exchange.url, flush=True)  # noqa: T201 - whoever started this process reads where it listens
        await stop.wait()


def main() -> None:
    """Serves made-up candles until SIGINT or SIGTERM; prints the URL first."""
    parser = argparse.ArgumentParser(prog="python -m historyd.demo.exchange", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--weight-limit", type=int, default=None, help="request weight per minute")
    arguments = parser.parse_args()
    asyncio.run(_serve_until_stopped(arguments.port, arguments.weight_limit))


if __name__ == "__main__":
    main()
