"""Eight more dialects, bars and markets only: kucoin, gate, bitget, mexc, htx, bitfinex, bitstamp, cryptocom.

Each answers as its `fetch_ohlcv` in ccxt expects, and as badly as its users say: of a window that is too long gate
refuses, kucoin's futures, bitget's history and cryptocom give one end only, htx' contracts the newest bars whatever
was asked. Everything that a dialect does not know is answered with its `nothing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from tests.venues.serving import Dialect, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from historyd.demo.candles import Candle
    from tests.venues.serving import Query, Reply

_MINUTE_MS: Final = 60_000


class Tailed(Dialect):
    """A dialect whose questions are told apart by the ends of their paths."""

    spot = "BTC/USDT"
    trades_tail = "/none"
    markets_tail = "/none"
    quota_spent: ClassVar = {}
    nothing: ClassVar[Any] = {}
    ccxt: ClassVar = {"has": {"fetchCurrencies": False}, "options": {"fetchMarkets": {"types": ["spot"]}}}

    def answers(self) -> Mapping[str, Reply]:
        raise NotImplementedError

    def routes(self) -> Mapping[str, Reply]:
        return {"/{path:.*}": self._answer}

    def _answer(self, query: Query) -> Any:
        for tail, reply in self.answers().items():
            if f"/{query['path']}".endswith(tail):
                return reply(query)
        return self.nothing

    def between(self, first_ms: int, last_ms: int, limit: int, timeframe: str = "1m") -> list[Candle]:
        """The first bars that open in `[first_ms, last_ms]`."""
        return list(self.tape.candles.bars(self.spot, timeframe, first_ms, min(last_ms, self.clock()), limit))

    def newest(self, first_ms: int, last_ms: int, limit: int, timeframe: str = "1m") -> list[Candle]:
        """The last bars that open in `[first_ms, last_ms]`."""
        rows = self.tape.candles.last(self.spot, timeframe, min(last_ms, self.clock()), limit)
        return [row for row in rows if row[0] >= first_ms]


class Kucoin(Tailed):
    exchange = "kucoin"
    bars_tail = ("/market/candles", "/kline/query")
    nothing: ClassVar = {"code": "200000", "data": []}
    ccxt: ClassVar = {"has": {"fetchCurrencies": False}, "options": {"fetchMarkets": {"fetchTickersFees": False}}}
    frames: ClassVar = {"1min": "1m", "1day": "1d", "1month": "1M", "1week": "1w"}

    def answers(self) -> Mapping[str, Reply]:
        sizes = {"baseIncrement": "0.00001", "quoteIncrement": "0.01", "priceIncrement": "0.01", "enableTrading": True}
        names = {"symbol": "BTC-USDT", "name": "BTC-USDT", "baseCurrency": "BTC", "quoteCurrency": "USDT"}
        contract: dict[str, Any] = {"symbol": "XBTUSDTM", "baseCurrency": "XBT", "quoteCurrency": "USDT"}
        contract |= {"settleCurrency": "USDT", "isInverse": False, "status": "Open", "nextFundingRateTime": 1}
        contract |= {"multiplier": 0.001, "lotSize": 1, "tickSize": 0.1}
        return {
            "/symbols": lambda _: {"code": "200000", "data": [names | sizes]},
            "/contracts/active": lambda _: {"code": "200000", "data": [contract]},
            "/market/candles": self._candles,
            "/kline/query": self._contract_candles,
        }

    def _candles(self, query: Query) -> Any:
        first, last = (int(query[name]) * 1000 for name in ("startAt", "endAt"))
        rows = self.newest(first, last, 1500, self.frames[query["type"]])
        cells = [[str(at // 1000), o, c, h, low, v, "0"] for at, o, h, low, c, v in reversed(rows)]
        return {"code": "200000", "data": cells}

    def _contract_candles(self, query: Query) -> Any:
        rows = self.between(int(query["from"]), int(query["to"]), 200)
        return {"code": "200000", "data": [[at, *(float(str(cell)) for cell in cells)] for at, *cells in rows]}


class Gate(Tailed):
    exchange = "gate"
    bars_tail = "/candlesticks"
    nothing: ClassVar = []
    ccxt: ClassVar = {"has": {"fetchCurrencies": False}, "options": {"fetchMarkets": {"types": ["spot"]}}}

    def answers(self) -> Mapping[str, Reply]:
        pair = {"id": "BTC_USDT", "base": "BTC", "quote": "USDT", "fee": "0.2", "trade_status": "tradable"}
        sizes = {"amount_precision": 4, "precision": 1}
        return {"/currency_pairs": lambda _: [pair | sizes], "/candlesticks": self._candles}

    def _candles(self, query: Query) -> Any:
        first, last = int(query["from"]) * 1000, int(query["to"]) * 1000
        if first < self.clock() - 9999 * _MINUTE_MS:
            raise _gate_refusal("Candlestick too long ago. Maximum 10000 points ago are allowed")
        if (last - first) // _MINUTE_MS + 1 > 1000:
            raise _gate_refusal("Candlestick range too broad. Maximum 1000 data points are allowed per request")
        rows = self.between(first, last, 1000)
        return [[str(at // 1000), "0", c, h, low, o, v, "true"] for at, o, h, low, c, v in rows]


def _gate_refusal(message: str) -> Refusal:
    return Refusal(400, {"label": "INVALID_PARAM_VALUE", "message": message})


class Bitget(Tailed):
    exchange = "bitget"
    bars_tail = ("/market/candles", "/market/history-candles")
    nothing: ClassVar = {"code": "00000", "data": []}
    frames: ClassVar = {"1min": "1m", "3Dutc": "3d", "1Wutc": "1w", "1Mutc": "1M", "1Dutc": "1d", "1m": "1m"}
    ccxt: ClassVar = {
        "has": {"fetchCurrencies": False},
        "options": {"fetchMarkets": {"types": ["spot", "swap"]}, "uta": False},
    }

    def answers(self) -> Mapping[str, Reply]:
        names = {"baseCoin": "BTC", "quoteCoin": "USDT", "symbol": "BTCUSDT", "status": "online"}
        sizes = {"pricePrecision": "2", "quantityPrecision": "6", "minTradeAmount": "0", "minTradeUSDT": "1"}
        swap = {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "supportMarginCoins": ["USDT"]}
        swap |= {"symbolType": "perpetual", "symbolStatus": "normal", "pricePlace": "1", "priceEndStep": "1"}
        swap |= {"volumePlace": "3", "sizeMultiplier": "0.001", "minTradeNum": "0.001"}
        listed = {"USDT-FUTURES": [swap]}
        return {
            "/spot/public/symbols": lambda _: {"code": "00000", "data": [names | sizes]},
            "/mix/market/contracts": lambda query: {"code": "00000", "data": listed.get(query["productType"], [])},
            "/market/candles": lambda query: self._candles(query, 1000),
            "/market/history-candles": lambda query: self._candles(query, 200),
        }

    def _candles(self, query: Query, most: int) -> Any:
        limit, frame = min(most, int(query["limit"])), self.frames[query["granularity"]]
        rows = self.newest(int(query["startTime"]), int(query["endTime"]) - 1, limit, frame)
        return {"code": "00000", "data": [[*map(str, row), "0", "0"] for row in rows]}


class Mexc(Tailed):
    exchange = "mexc"
    bars_tail = "/klines"

    def answers(self) -> Mapping[str, Reply]:
        names = {"symbol": "BTCUSDT", "status": "1", "baseAsset": "BTC", "quoteAsset": "USDT"}
        sizes = {"baseSizePrecision": "0.00001", "quotePrecision": 2, "baseAssetPrecision": 5, "permissions": ["SPOT"]}
        return {
            "/exchangeInfo": lambda _: {"symbols": [names | sizes | {"isSpotTradingAllowed": True}]},
            "/klines": self._klines,
            "/contract/detail": lambda _: {"success": True, "code": 0, "data": []},
        }

    def _klines(self, query: Query) -> Any:
        limit = min(500, int(query.get("limit", 500)))
        rows = self.between(int(query["startTime"]), int(query["endTime"]) - 1, limit)
        return [[*row, row[0] + _MINUTE_MS, "0"] for row in rows]


class Htx(Tailed):
    exchange = "htx"
    bars_tail = ("/market/history/candles", "/market/history/kline")
    nothing: ClassVar = {"status": "ok", "data": []}
    frames: ClassVar = {"1min": "1m", "1day": "1d"}
    ccxt: ClassVar = {
        "has": {"fetchCurrencies": False},
        "options": {"fetchMarkets": {"types": {"spot": True, "linear": True, "inverse": False}}},
    }

    def answers(self) -> Mapping[str, Reply]:
        names = {"symbol": "btcusdt", "base-currency": "btc", "quote-currency": "usdt", "state": "online"}
        sizes = {"price-precision": 2, "amount-precision": 6, "value-precision": 8, "api-trading": "enabled"}
        swap = {"symbol": "BTC", "contract_code": "BTC-USDT", "contract_size": 0.001, "price_tick": 0.1}
        swap |= {"contract_status": 1, "contract_type": "swap", "business_type": "swap", "pair": "BTC-USDT"}
        swap |= {"delivery_time": "", "trade_partition": "USDT"}
        return {
            "/common/symbols": lambda _: {"status": "ok", "data": [names | sizes]},
            "/swap_contract_info": lambda _: {"status": "ok", "data": [swap]},
            "/market/history/candles": self._candles,
            "/market/history/kline": self._contract_candles,
        }

    def _candles(self, query: Query) -> Any:
        first, last = int(query["from"]) * 1000, int(query["to"]) * 1000
        rows = self.newest(first, last, min(1000, int(query["size"])), self.frames[query["period"]])
        return {"status": "ok", "data": [_htx_row(row) for row in reversed(rows)]}

    def _contract_candles(self, query: Query) -> Any:
        return {"status": "ok", "data": [_htx_row(row) for row in self.newest(0, self.clock(), int(query["size"]))]}


def _htx_row(row: Candle) -> dict[str, Any]:
    at, o, h, low, c, v = row
    numbers = {"open": o, "high": h, "low": low, "close": c, "amount": v}
    return {"id": at // 1000} | {name: float(str(number)) for name, number in numbers.items()}


class Bitfinex(Tailed):
    exchange = "bitfinex"
    spot = "BTC/USD"
    bars_tail = "/hist"
    nothing: ClassVar = [[]]

    def answers(self) -> Mapping[str, Reply]:
        info = [None, None, None, "0.0001", "2000", None, None, None, None, None, None, None]
        return {
            ",pub:list:pair:margin": lambda _: [[["BTCUSD", info]], [], [], []],
            "/hist": self._candles,
        }

    def _candles(self, query: Query) -> Any:
        first, last = int(query["start"]), int(query.get("end", self.clock()))
        pick: Callable[..., list[Candle]] = self.between if query.get("sort") == "1" else self.newest
        return [
            [at, *map(float, (o, c, h, low, str(v)))] for at, o, h, low, c, v in pick(first, last, int(query["limit"]))
        ]


class Bitstamp(Tailed):
    exchange = "bitstamp"
    spot = "BTC/USD"
    bars_tail = "/ohlc/btcusd/"
    nothing: ClassVar = []
    frames: ClassVar = {"60": "1m", "86400": "1d"}

    def answers(self) -> Mapping[str, Reply]:
        names = {"name": "BTC/USD", "url_symbol": "btcusd", "market_symbol": "btcusd", "trading": "Enabled"}
        names |= {"base_currency": "BTC", "counter_currency": "USD", "market_type": "SPOT"}
        sizes = {"base_decimals": 8, "counter_decimals": 2, "minimum_order": "10.0 USD", "minimum_order_value": "10"}
        return {
            "/trading-pairs-info/": lambda _: [names | sizes],
            "/markets/": lambda _: [names | sizes],
            "/ohlc/btcusd/": self._candles,
        }

    def _candles(self, query: Query) -> Any:
        first, last = int(query["start"]) * 1000, int(query["end"]) * 1000
        rows = self.newest(first, last, min(1000, int(query["limit"])), self.frames[query["step"]])
        names = ("timestamp", "open", "high", "low", "close", "volume")
        cells = [dict(zip(names, (str(at // 1000), *cells), strict=True)) for at, *cells in rows]
        return {"data": {"pair": "BTC/USD", "ohlc": cells}}


class Cryptocom(Tailed):
    exchange = "cryptocom"
    spot = "BTC/USD"
    bars_tail = "/get-candlestick"

    def answers(self) -> Mapping[str, Reply]:
        names = {"symbol": "BTC_USD", "inst_type": "CCY_PAIR", "base_ccy": "BTC", "quote_ccy": "USD", "tradable": True}
        sizes = {"price_tick_size": "0.01", "qty_tick_size": "0.00001", "quote_decimals": 2, "quantity_decimals": 5}
        instruments = {"code": 0, "result": {"data": [names | sizes]}}
        return {"/get-instruments": lambda _: instruments, "/get-candlestick": self._candles}

    def _candles(self, query: Query) -> Any:
        rows = self.newest(int(query["start_ts"]), int(query["end_ts"]), int(query["count"]))
        cells = [{"t": at, "o": o, "h": h, "l": low, "c": c, "v": v} for at, o, h, low, c, v in rows]
        return {"code": 0, "result": {"data": cells}}


EIGHT: Final[tuple[type[Tailed], ...]] = (Kucoin, Gate, Bitget, Mexc, Htx, Bitfinex, Bitstamp, Cryptocom)
