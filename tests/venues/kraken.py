"""Kraken's dialect: asset pairs, OHLC, trades.

Read in ccxt and seen in recorded replies: the paths, the rows (ascending, times in seconds), at most the newest 720
bars of an interval whatever `since` says, the open one among them; trades after `since`, which is seconds or the
nanoseconds of `last`, ascending, at most 1,000; status 200 with texts in `error`.
Said by its users (ccxt 4165, 5614, 15827): an old `since` for bars is ignored without an error.
Only believed: that `since` is exclusive for both, that the open bar comes whatever `since` says, that no two trades of
a market have the same nanosecond, and that bars of no trade are given (the rows of the tape decide that here).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from tests import venue_faults
from tests.venues.serving import Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from historyd.demo.candles import Candle
    from tests.venues.serving import Query, Reply
    from tests.venues.tape import Tick

DEPTH: Final = 720
_TIMEFRAMES: Final = {
    "1": "1m",
    "5": "5m",
    "15": "15m",
    "30": "30m",
    "60": "1h",
    "240": "4h",
    "1440": "1d",
    "10080": "1w",
    "21600": "15d",
}
_OLDEST_NS: Final = 1_000_000_000_000
"""A `since` below this is in seconds."""


class Kraken(Dialect):
    """`BTC/USD` is `XXBTZUSD`; other pairs are their letters."""

    exchange = "kraken"
    spot = "BTC/USD"
    bars_tail = "/OHLC"
    trades_tail = "/Trades"
    markets_tail = "/AssetPairs"
    quota_spent: ClassVar = {
        "200 with EGeneral": venue_faults.answer('{"error":["EGeneral:Too many requests"]}'),
        "200 with EAPI": venue_faults.answer('{"error":["EAPI:Rate limit exceeded"]}'),
        "200 with a lockout": venue_faults.answer('{"error":["EGeneral:Temporary lockout"]}'),
    }

    def routes(self) -> Mapping[str, Reply]:
        return {"/0/public/AssetPairs": self._pairs, "/0/public/OHLC": self._ohlc, "/0/public/Trades": self._trades}

    def _pairs(self, _: Query) -> Any:
        return _result({_pair_id(symbol): _pair(symbol) for symbol in self.tape.symbols})

    def _ohlc(self, query: Query) -> Any:
        symbol, timeframe = self._symbol(query), _TIMEFRAMES.get(query.get("interval", "1"))
        if symbol is None or timeframe is None:
            return _error("EQuery:Unknown asset pair" if symbol is None else "EGeneral:Invalid arguments")
        newest = self.tape.candles.last(symbol, timeframe, self.clock(), DEPTH)
        since_ms = int(query.get("since", 0)) * 1000
        shown = [row for at, row in enumerate(newest) if row[0] > since_ms or at == len(newest) - 1]
        committed = newest[-2][0] // 1000 if len(newest) > 1 else 0
        return _result({query["pair"]: [_row(row) for row in shown], "last": committed})

    def _trades(self, query: Query) -> Any:
        symbol = self._symbol(query)
        if symbol is None:
            return _error("EQuery:Unknown asset pair")
        since = int(query.get("since", 0))
        after_ns = since * 1_000_000_000 if since < _OLDEST_NS else since
        ticks = self.tape.trades(symbol, after_ns + 1)
        shown = ticks[: min(self.page_trades, int(query.get("count", 1000)))]
        last = shown[-1].at_ns if shown else after_ns
        return _result({query["pair"]: [_trade(tick) for tick in shown], "last": str(last)})

    def _symbol(self, query: Query) -> str | None:
        asked = query.get("pair")
        return next((symbol for symbol in self.tape.symbols if _pair_id(symbol) == asked), None)


def _result(result: dict[str, Any]) -> dict[str, Any]:
    return {"error": [], "result": result}


def _error(text: str) -> dict[str, Any]:
    return {"error": [text]}


def _pair_id(symbol: str) -> str:
    return "XXBTZUSD" if symbol == "BTC/USD" else symbol.replace("/", "").replace("BTC", "XBT")


def _pair(symbol: str) -> dict[str, Any]:
    base, _, quote = symbol.partition("/")
    short = base.replace("BTC", "XBT")
    assets = ("XXBT", "ZUSD") if symbol == "BTC/USD" else (short, quote)
    pair = {"altname": f"{short}{quote}", "wsname": f"{short}/{quote}", "base": assets[0], "quote": assets[1]}
    fees = {"fees": [[0, 0.26]], "fees_maker": [[0, 0.16]], "leverage_buy": [], "leverage_sell": []}
    return pair | fees | {"pair_decimals": 1, "lot_decimals": 8, "ordermin": "0.0001", "status": "online"}


def _row(row: Candle) -> list[Any]:
    """Time in seconds, open, high, low, close, average, volume, count."""
    at, opened, high, low, close, volume = row
    return [at // 1000, opened, high, low, close, close, volume, 1]


def _trade(tick: Tick) -> list[Any]:
    side = "b" if tick.side == "buy" else "s"
    return [tick.price, tick.amount, tick.at_ns / 1_000_000_000, side, "l", "", tick.id]
