"""Bybit's dialect (v5), spot and linear: instruments, klines, recent trades.

Read in ccxt: the paths, the rows (newest first), `start` and `end` in milliseconds, status 200 with an error code in
`retCode`: 10006 for who asks too often, 10001 `Not supported symbols` for an unknown one; 403 means too often as well,
unless CloudFront says that the country is blocked. There is no history of trades: `recent-trade` gives the latest 60
(spot) or 1,000 (linear).
Only believed: that both ends are inclusive, that 200 bars are the default and 1,000 the most; that `start` alone
gives the bars from it on and both ends the *newest* ones between them, where there are more than `limit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from tests import venue_faults
from tests.venues.serving import Dialect, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.venues.serving import Query, Reply
    from tests.venues.tape import Tick

_MOST_BARS: Final = 1000
_TIMEFRAMES: Final = {
    "1": "1m",
    "3": "3m",
    "5": "5m",
    "15": "15m",
    "30": "30m",
    "60": "1h",
    "120": "2h",
    "240": "4h",
    "360": "6h",
    "720": "12h",
    "D": "1d",
    "W": "1w",
    "M": "1M",
}
_SPENT: Final = '{"retCode":10006,"retMsg":"Too many visits!","result":{},"retExtInfo":{},"time":0}'


class Bybit(Dialect):
    """Symbols with a colon are of the category `linear`."""

    exchange = "bybit"
    spot = "BTC/USDT"
    bars_tail = "/market/kline"
    trades_tail = "/market/recent-trade"
    markets_tail = "/market/instruments-info"
    quota_spent: ClassVar = {
        "200 with 10006": venue_faults.answer(_SPENT),
        "403": venue_faults.answer("access too frequent", 403, kind="text/plain"),
    }
    country_blocked: ClassVar = venue_faults.answer(
        "<html><body>The Amazon CloudFront distribution is configured to block access from your country.</body></html>",
        403,
        kind="text/html",
    )
    ccxt: ClassVar = {"options": {"fetchMarkets": {"types": ["spot", "linear"]}}, "has": {"fetchCurrencies": False}}

    def routes(self) -> Mapping[str, Reply]:
        return {
            "/v5/market/instruments-info": self._instruments,
            "/v5/market/kline": self._klines,
            "/v5/market/recent-trade": self._recent_trades,
        }

    def _instruments(self, query: Query) -> Any:
        linear = query["category"] == "linear"
        wanted = query["category"] in {"spot", "linear"} and query.get("status") != "PreLaunch"
        listed = [one for one in self.tape.symbols if (":" in one) == linear] if wanted else []
        return _result({"category": query["category"], "list": [_instrument(symbol) for symbol in listed]})

    def _klines(self, query: Query) -> Any:
        symbol, interval = self._symbol(query), query.get("interval", "")
        if interval not in _TIMEFRAMES:
            raise Refusal(200, {"retCode": 10001, "retMsg": "Invalid period!", "result": {}})
        limit = min(_MOST_BARS, int(query.get("limit", 200)))
        end = min(self.clock(), int(query.get("end", self.clock())))
        candles, timeframe = self.tape.candles, _TIMEFRAMES[interval]
        if "start" in query and "end" not in query:
            rows = list(candles.bars(symbol, timeframe, int(query["start"]), end, limit))
        else:
            start = int(query.get("start", 0))
            rows = [row for row in candles.last(symbol, timeframe, end, limit) if row[0] >= start]
        cells = [[*map(str, row), str(row[5])] for row in reversed(rows)]
        return _result({"category": query["category"], "symbol": query["symbol"], "list": cells})

    def _recent_trades(self, query: Query) -> Any:
        symbol = self._symbol(query)
        most = min(self.page_trades, 60 if query["category"] == "spot" else 1000)
        latest = self.tape.trades(symbol)[-min(most, int(query.get("limit", most))) :]
        return _result({"category": query["category"], "list": [_trade(tick, query) for tick in reversed(latest)]})

    def _symbol(self, query: Query) -> str:
        for symbol in self.tape.symbols:
            if (":" in symbol) == (query.get("category") == "linear") and _market_id(symbol) == query.get("symbol"):
                return symbol
        raise Refusal(200, {"retCode": 10001, "retMsg": "Not supported symbols", "result": {}})


def _result(result: dict[str, Any]) -> dict[str, Any]:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 0}


def _market_id(symbol: str) -> str:
    return symbol.partition(":")[0].replace("/", "")


def _instrument(symbol: str) -> dict[str, Any]:
    base, _, quote = symbol.partition("/")
    quote, _, settle = quote.partition(":")
    described: dict[str, Any] = {"symbol": base + quote, "baseCoin": base, "quoteCoin": quote, "status": "Trading"}
    sizes = {"basePrecision": "0.00001", "minOrderQty": "0.00001", "maxOrderQty": "9", "minOrderAmt": "1"}
    described |= {"lotSizeFilter": sizes | {"qtyStep": "0.001"}, "priceFilter": {"tickSize": "0.01"}}
    if settle:
        described |= {"contractType": "LinearPerpetual", "settleCoin": settle, "launchTime": "1585526400000"}
    return described


def _trade(tick: Tick, query: Query) -> dict[str, str]:
    trade = {"execId": str(tick.id), "symbol": query["symbol"], "price": tick.price, "size": tick.amount}
    return trade | {"side": tick.side.capitalize(), "time": str(tick.at_ms)}
