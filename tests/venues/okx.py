"""OKX's dialect, spot and swaps: instruments, candles, history candles, trades, history trades.

Read in ccxt: the paths, the rows (newest first), `before` and `after` (both exclusive), status 200 with an error code
in `code`: 51001 for an unknown instrument, 50011 for who asks too often (with status 429 or 200).
Said in OKX's documentation as ccxt's users quote it: at most 300 candles at once, `candles` reaches back 1,440 bars
only (what is older is not there, without an error), `before` alone gives the *newest* ones after it and not those
next to it; `trades` are the latest 500, `history-trades` go back three months in pages of 100, older than the trade
id `after` (type 1) or than the time `after` (type 2).
Only believed: that history candles have the open bar too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from tests import venue_faults
from tests.venues.serving import Dialect, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from historyd.demo.candles import Candle
    from tests.venues.serving import Query, Reply
    from tests.venues.tape import Tick

_SPENT: Final = '{"code":"50011","msg":"Too Many Requests","data":[]}'
_RECENT_BARS: Final = 1440
_MOST_BARS: Final = 300
_LATEST_TRADES: Final = 500
_HISTORY_MS: Final = 90 * 86_400_000
_BARS: Final = {"1m", "3m", "5m", "15m", "30m", "1H", "2H", "4H"}
_UTC_BARS: Final = {"6Hutc", "12Hutc", "1Dutc", "1Wutc", "1Mutc", "3Mutc"}


class Okx(Dialect):
    """`BTC/USDT` is `BTC-USDT`, `BTC/USDT:USDT` is `BTC-USDT-SWAP`."""

    exchange = "okx"
    spot = "BTC/USDT"
    bars_tail = ("/market/candles", "/market/history-candles")
    trades_tail = ("/market/trades", "/market/history-trades")
    markets_tail = "/public/instruments"
    quota_spent: ClassVar = {
        "429": venue_faults.status(429, body=_SPENT),
        "200 with 50011": venue_faults.answer(_SPENT),
    }
    ccxt: ClassVar = {"options": {"fetchMarkets": {"types": ["spot", "swap"]}}, "has": {"fetchCurrencies": False}}
    page_trades = 100

    def routes(self) -> Mapping[str, Reply]:
        return {
            "/api/v5/public/instruments": self._instruments,
            "/api/v5/market/candles": self._candles,
            "/api/v5/market/history-candles": self._history_candles,
            "/api/v5/market/trades": self._trades,
            "/api/v5/market/history-trades": self._history_trades,
        }

    def _instruments(self, query: Query) -> Any:
        swaps = query["instType"] == "SWAP"
        listed = [one for one in self.tape.symbols if (":" in one) == swaps] if query["instType"] != "OPTION" else []
        return _data([_instrument(symbol) for symbol in listed])

    def _candles(self, query: Query) -> Any:
        bar = _timeframe(query)
        recent = self.tape.candles.last(self._symbol(query), bar, self.clock(), _RECENT_BARS)
        oldest_ms = recent[0][0] if recent else self.clock()
        return self._page(query, bar, oldest_ms)

    def _history_candles(self, query: Query) -> Any:
        return self._page(query, _timeframe(query), 0)

    def _page(self, query: Query, bar: str, oldest_ms: int) -> Any:
        """The newest of the bars between `before` and `after`."""
        symbol, limit = self._symbol(query), min(_MOST_BARS, int(query.get("limit", 100)))
        end_ms = min(self.clock(), int(query["after"]) - 1 if "after" in query else self.clock())
        start_ms = max(oldest_ms, int(query.get("before", -1)) + 1)
        rows = [row for row in self.tape.candles.last(symbol, bar, end_ms, limit) if row[0] >= start_ms]
        newest = self.tape.candles.last(symbol, bar, self.clock(), 1)
        return _data([_row(row, closed=row[0] < newest[0][0]) for row in reversed(rows)])

    def _trades(self, query: Query) -> Any:
        ticks = self.tape.trades(self._symbol(query))
        latest = ticks[-min(_LATEST_TRADES, int(query.get("limit", 100))) :]
        return _data([self._trade(tick, query) for tick in reversed(latest)])

    def _history_trades(self, query: Query) -> Any:
        symbol, limit = self._symbol(query), min(self.page_trades, int(query.get("limit", 100)))
        after = int(query["after"]) if "after" in query else None
        ticks: Sequence[Tick]
        if query.get("type", "1") == "2":
            ticks = self.tape.trades(symbol, None, None if after is None else after * 1_000_000)
        else:
            before = int(query["before"]) + 1 if "before" in query else None
            ticks = self.tape.trades_by_id(symbol, before, after)
        kept = [tick for tick in ticks[-limit:] if tick.at_ms >= self.clock() - _HISTORY_MS]
        return _data([self._trade(tick, query) for tick in reversed(kept)])

    def _trade(self, tick: Tick, query: Query) -> dict[str, str]:
        trade = {"instId": query["instId"], "side": tick.side, "sz": tick.amount, "px": tick.price}
        return trade | {"tradeId": str(tick.id), "ts": str(tick.at_ms)}

    def _symbol(self, query: Query) -> str:
        for symbol in self.tape.symbols:
            if _instrument_id(symbol) == query.get("instId"):
                return symbol
        raise Refusal(200, {"code": "51001", "msg": "Instrument ID doesn't exist", "data": []})


def _data(rows: list[Any]) -> dict[str, Any]:
    return {"code": "0", "msg": "", "data": rows}


def _timeframe(query: Query) -> str:
    """The bar in ccxt's notation; only those that open by UTC are served here."""
    bar = query.get("bar", "1m")
    if bar not in _BARS | _UTC_BARS:
        raise Refusal(200, {"code": "51000", "msg": "Parameter bar error", "data": []})
    plain = bar.removesuffix("utc")
    return plain if plain.endswith("M") else plain.lower()


def _instrument_id(symbol: str) -> str:
    base, _, quote = symbol.partition("/")
    return f"{base}-{quote}" if ":" not in quote else f"{base}-{quote.partition(':')[0]}-SWAP"


def _instrument(symbol: str) -> dict[str, str]:
    base, _, quote = symbol.partition("/")
    quote, _, settle = quote.partition(":")
    described = {"instId": _instrument_id(symbol), "state": "live", "listTime": "1548133413000"}
    sizes = {"tickSz": "0.01", "lotSz": "0.00001", "minSz": "0.00001"}
    if not settle:
        return described | sizes | {"instType": "SPOT", "baseCcy": base, "quoteCcy": quote}
    contract = {"instType": "SWAP", "uly": f"{base}-{quote}", "settleCcy": settle, "ctVal": "0.01", "ctType": "linear"}
    return described | sizes | contract


def _row(row: Candle, *, closed: bool) -> list[str]:
    """For spot the volume is the sixth cell, for swaps (in base currency) the seventh: both say the same here."""
    at, opened, high, low, close, volume = row
    return [str(at), opened, high, low, close, str(volume), str(volume), "0", "1" if closed else "0"]
