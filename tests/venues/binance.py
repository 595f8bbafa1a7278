"""Binance's dialect, spot (`/api/v3`) and USD-margined futures (`/fapi/v1`): markets, klines, aggregated trades.

Read in ccxt and seen in the recordings: the paths, the rows, `startTime`/`endTime` inclusive, 500 by default, at most
1000 (futures 1500), from the first bar on if `startTime` is before it, the open bar among them; `aggTrades` by
`fromId` (inclusive, ascending) or within at most an hour; -1121 for a symbol that it does not list, -1003 with
`Retry-After` for who asks too often.
Said by its users (issue 10 of binance-spot-api-docs, 2021): of a time window with more trades than `limit` the *last*
ones come; `window_keeps = "first"` answers as if that had changed. Only believed: that `fromId` beside a window is
refused with -1128.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from historyd.demo.exchange import INTERVALS, Listing, describe, render
from tests import venue_faults
from tests.venues.serving import Dialect, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.venues.serving import Query, Reply
    from tests.venues.tape import Tick

_HOUR_MS: Final = 3_600_000
_BANNED: Final = '{"code":-1003,"msg":"Way too much request weight used; IP banned until %d."}'
_SPENT: Final = (
    '{"code":-1003,"msg":"Too much request weight used; current limit is 6000 request weight per 1 MINUTE."}'
)


class Binance(Dialect):
    """Symbols with a colon are perpetuals and answered under `/fapi/v1` only."""

    exchange = "binance"
    spot = "BTC/USDT"
    bars_tail = "/klines"
    trades_tail = "/aggTrades"
    markets_tail = "/exchangeInfo"
    quota_spent: ClassVar = {
        "429": venue_faults.status(429, retry_after="7", body=_SPENT),
        "418": venue_faults.status(418, retry_after="120", body=_BANNED % 4_000_000_000_000),
    }
    window_keeps: Literal["first", "last"] = "last"

    def routes(self) -> Mapping[str, Reply]:
        paths: dict[str, Reply] = {"/dapi/v1/exchangeInfo": lambda _: {"symbols": []}}
        for prefix, futures in (("/api/v3", False), ("/fapi/v1", True)):
            paths[f"{prefix}/exchangeInfo"] = self._markets(futures=futures)
            paths[f"{prefix}/klines"] = self._klines(futures=futures)
            paths[f"{prefix}/aggTrades"] = self._agg_trades(futures=futures)
        return paths

    def _markets(self, *, futures: bool) -> Reply:
        def answer(_: Query) -> Any:
            listed = [_listing(symbol) for symbol in self.tape.symbols if (":" in symbol) == futures]
            return {"timezone": "UTC", "serverTime": self.clock(), "symbols": [describe(one) for one in listed]}

        return answer

    def _klines(self, *, futures: bool) -> Reply:
        def answer(query: Query) -> Any:
            symbol, interval = self._symbol(query, futures=futures), query["interval"]
            if interval not in INTERVALS:
                raise Refusal(400, {"code": -1120, "msg": "Invalid interval."})
            limit = min(1500 if futures else 1000, int(query.get("limit", 500)))
            end = min(self.clock(), int(query.get("endTime", self.clock())))
            if "startTime" in query:
                rows = self.tape.candles.bars(symbol, interval, int(query["startTime"]), end, limit)
            else:
                rows = self.tape.candles.last(symbol, interval, end, limit)
            return json.loads(render(rows, interval))

        return answer

    def _agg_trades(self, *, futures: bool) -> Reply:
        def answer(query: Query) -> Any:
            symbol = self._symbol(query, futures=futures)
            limit = min(self.page_trades, int(query.get("limit", 500)))
            windowed = {"startTime", "endTime"} & query.keys()
            if "fromId" in query:
                if windowed:
                    raise Refusal(400, {"code": -1128, "msg": "Combination of optional parameters invalid."})
                ticks = self.tape.trades_by_id(symbol, int(query["fromId"]))[:limit]
            elif windowed:
                ticks = self._in_window(symbol, query, limit)
            else:
                ticks = self.tape.trades(symbol)[-limit:]
            return [_agg_trade(tick) for tick in ticks]

        return answer

    def _in_window(self, symbol: str, query: Query, limit: int) -> list[Tick]:
        start = int(query["startTime"]) if "startTime" in query else None
        end = int(query["endTime"]) if "endTime" in query else None
        if start is not None and end is not None and end - start > _HOUR_MS:
            raise Refusal(400, {"code": -1127, "msg": "More than 1 hours between startTime and endTime."})
        inside = self.tape.trades(
            symbol, None if start is None else start * 1_000_000, None if end is None else (end + 1) * 1_000_000
        )
        from_start = end is None or (start is not None and self.window_keeps == "first")
        return list(inside[:limit] if from_start else inside[-limit:])

    def _symbol(self, query: Query, *, futures: bool) -> str:
        for symbol in self.tape.symbols:
            if (":" in symbol) == futures and _listing(symbol).id == query.get("symbol"):
                return symbol
        raise Refusal(400, {"code": -1121, "msg": "Invalid symbol."})


def _listing(symbol: str) -> Listing:
    base, _, quote = symbol.partition("/")
    return Listing(base, quote.partition(":")[0], perpetual=":" in symbol)


def _agg_trade(tick: Tick) -> dict[str, Any]:
    trade = {"a": tick.id, "p": tick.price, "q": tick.amount, "f": tick.id, "l": tick.id, "T": tick.at_ms}
    return trade | {"m": tick.side == "sell", "M": True}
