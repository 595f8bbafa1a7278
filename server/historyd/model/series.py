"""Series ids: the name of one time series.

`ohlcv:{exchange}:{symbol}:{timeframe}` or `trades:{exchange}:{symbol}`. The exchange is the CCXT id in lower
case. The symbol is CCXT's and may hold colons (`BTC/USDT:USDT`), so an id is cut at its first two colons and,
for ohlcv, at its last.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from historyd.errors import InvalidSeries
from historyd.model.timeframe import Timeframe

MAX_LENGTH: Final = 200
"""Most characters of a series id."""
_EXCHANGE: Final = re.compile(r"[a-z0-9_]{1,40}")
_SYMBOL: Final = re.compile(r"[^\s\x00-\x1f\x7f*?]{1,120}")
_SHAPES: Final = "be ohlcv:{exchange}:{symbol}:{timeframe} or trades:{exchange}:{symbol}"


class Kind(StrEnum):
    """What the rows of a series are."""

    OHLCV = "ohlcv"
    TRADES = "trades"


@dataclass(frozen=True, slots=True)
class SeriesId:
    """The parts of a series id; `str()` gives the id back."""

    kind: Kind
    exchange: str
    symbol: str
    timeframe: Timeframe | None = None

    def __str__(self) -> str:
        tail = "" if self.timeframe is None else f":{self.timeframe}"
        return f"{self.kind}:{self.exchange}:{self.symbol}{tail}"

    @classmethod
    def parse(cls, text: str) -> SeriesId:
        """Reads a series id. Raises InvalidSeries, naming what is wrong, if it is none."""
        kind, _, rest = text.partition(":")
        exchange, _, symbol = rest.partition(":")
        if len(text) > MAX_LENGTH or kind not in (Kind.OHLCV, Kind.TRADES) or not symbol:
            raise InvalidSeries(text[: MAX_LENGTH + 1], f"must {_SHAPES}, at most {MAX_LENGTH} characters")
        timeframe = None
        if kind == Kind.OHLCV:
            symbol, _, width = symbol.rpartition(":")
            timeframe = _timeframe(text, width)
        if _EXCHANGE.fullmatch(exchange) is None:
            raise InvalidSeries(text, f"exchange {exchange!r} must be a CCXT id in lower case")
        if _SYMBOL.fullmatch(symbol) is None:
            raise InvalidSeries(text, f"symbol {symbol!r} must be a CCXT symbol such as BTC/USDT")
        return cls(Kind(kind), exchange, symbol, timeframe)


def _timeframe(text: str, width: str) -> Timeframe:
    try:
        return Timeframe.parse(width)
    except ValueError:
        raise InvalidSeries(text, f"timeframe {width!r} must be like 1m, 4h, 1d, 1w or 1M") from None
