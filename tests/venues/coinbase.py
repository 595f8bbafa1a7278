"""Coinbase's dialect (advanced trade, public): products, candles, ticker.

Read in ccxt: the paths, the rows (newest first, as objects), `start` and `end` in seconds, trades from `ticker` within
`start` and `end`, at most 1,000, with microseconds; 429 for who asks too often.
Said by its users: both ends of candles are inclusive, minutes in which nobody traded are left out. Only believed:
that a window of more than 350 candles is refused with 400; that of a window with more trades than `limit` the newest
come, that both of its ends are inclusive, and 404 for an unknown product.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from tests import venue_faults
from tests.venues.serving import Dialect, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.venues.serving import Query, Reply
    from tests.venues.tape import Tick

_MOST_BARS: Final = 350
_TIMEFRAMES: Final = {
    "ONE_MINUTE": ("1m", 60),
    "FIVE_MINUTE": ("5m", 300),
    "FIFTEEN_MINUTE": ("15m", 900),
    "THIRTY_MINUTE": ("30m", 1800),
    "ONE_HOUR": ("1h", 3600),
    "TWO_HOUR": ("2h", 7200),
    "SIX_HOUR": ("6h", 21_600),
    "ONE_DAY": ("1d", 86_400),
}
_SPENT: Final = '{"error":"rate_limit_exceeded","error_details":"Too many requests","message":"Too many requests"}'


class Coinbase(Dialect):
    """`BTC/USD` is `BTC-USD`."""

    exchange = "coinbase"
    spot = "BTC/USD"
    bars_tail = "/candles"
    trades_tail = "/ticker"
    markets_tail = "/market/products"
    quota_spent: ClassVar = {"429": venue_faults.status(429, body=_SPENT)}

    def routes(self) -> Mapping[str, Reply]:
        return {
            "/api/v3/brokerage/market/products": self._products,
            "/api/v3/brokerage/market/products/{product}/candles": self._candles,
            "/api/v3/brokerage/market/products/{product}/ticker": self._ticker,
        }

    def _products(self, query: Query) -> Any:
        listed = [] if query.get("product_type") == "FUTURE" else [_product(symbol) for symbol in self.tape.symbols]
        return {"products": listed, "num_products": len(listed)}

    def _candles(self, query: Query) -> Any:
        symbol = self._symbol(query)
        timeframe, width_s = _TIMEFRAMES.get(query.get("granularity", ""), ("", 1))
        start_s, end_s = int(query["start"]), int(query["end"])
        if not timeframe or (end_s - start_s) // width_s + 1 > _MOST_BARS:
            raise _invalid("start and end argument is invalid - number of candles requested should be less than 350")
        end_ms = min(self.clock(), end_s * 1000)
        rows = self.tape.candles.bars(symbol, timeframe, start_s * 1000, end_ms, _MOST_BARS)
        names = ("start", "open", "high", "low", "close", "volume")
        cells = [(str(row[0] // 1000), *row[1:]) for row in reversed(rows)]
        return {"candles": [dict(zip(names, row, strict=True)) for row in cells]}

    def _ticker(self, query: Query) -> Any:
        start = int(query["start"]) * 1_000_000_000 if "start" in query else None
        end = int(query["end"]) * 1_000_000_000 + 1 if "end" in query else None
        limit = min(self.page_trades, int(query.get("limit", 100)))
        newest = self.tape.trades(self._symbol(query), start, end)[-limit:]
        return {"trades": [_trade(tick, query) for tick in reversed(newest)], "best_bid": "", "best_ask": ""}

    def _symbol(self, query: Query) -> str:
        for symbol in self.tape.symbols:
            if symbol.replace("/", "-") == query["product"]:
                return symbol
        details = "valid product_id is required"
        raise Refusal(404, {"error": "NOT_FOUND", "error_details": details, "message": details})


def _invalid(details: str) -> Refusal:
    return Refusal(400, {"error": "INVALID_ARGUMENT", "error_details": details, "message": details})


def _product(symbol: str) -> dict[str, Any]:
    base, _, quote = symbol.partition("/")
    product = {"product_id": f"{base}-{quote}", "base_currency_id": base, "quote_currency_id": quote}
    sizes = {"base_increment": "0.00000001", "quote_increment": "0.01", "price_increment": "0.01"}
    return product | sizes | {"product_type": "SPOT", "status": "online", "trading_disabled": False, "alias_to": []}


def _trade(tick: Tick, query: Query) -> dict[str, str]:
    at = datetime.fromtimestamp(tick.at_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    trade = {"trade_id": str(tick.id), "product_id": query["product"], "price": tick.price, "size": tick.amount}
    return trade | {"time": f"{at}.{tick.at_ns // 1000 % 1_000_000:06d}Z", "side": tick.side.upper()}
