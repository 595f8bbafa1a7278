"""Several series at once: patterns of series ids, and what became of each series. No I/O.

A pattern is a series id whose symbol has `*` (any text) or `?` (one character): `ohlcv:binance:*/USDT:1m`. It stands
for the active markets of the exchange that match, by symbol.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from markethistory.errors import MarketHistoryError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from markethistory.values import Markets

_BARS: Final = re.compile(r"(ohlcv):([^:*?]+):(.+):([^:*?]+)")
_TRADES: Final = re.compile(r"(trades):([^:*?]+):(.+)()")
_SIGNS: Final = re.compile(r"[*?]")


@dataclass(frozen=True, slots=True)
class SeriesResult:
    """What became of one of several series: a table, or the error that stands in its place."""

    series: str
    table: pa.Table | None = None
    error: MarketHistoryError | None = None

    def unwrap(self) -> pa.Table:
        """The table. Raises the error if there is none."""
        if self.error is not None:
            raise self.error
        return self.table


@dataclass(frozen=True, slots=True)
class SeriesPattern:
    """A pattern of series ids; `timeframe` is empty for trades."""

    kind: str
    exchange: str
    symbols: str
    timeframe: str

    def __str__(self) -> str:
        return ":".join(filter(None, (self.kind, self.exchange, self.symbols, self.timeframe)))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Reads a pattern; None if the text has none of its signs. Raises ValueError if they are not in the symbol."""
        if not is_pattern(text):
            return None
        match = _BARS.fullmatch(text) or _TRADES.fullmatch(text)
        if match is None:
            raise ValueError(f"series: {text!r} must have * and ? in its symbol only, as in 'ohlcv:binance:*/USDT:1m'")
        return cls(*match.groups(default=""))

    def ids(self, markets: Markets) -> list[str]:
        """The series of the active ones among markets that match already. Raises NotFound if there are none."""
        if self.timeframe and markets.timeframes and self.timeframe not in markets.timeframes:
            served = ", ".join(markets.timeframes)
            raise NotFound(f"{self}: {self.exchange} does not serve {self.timeframe!r}; it serves {served}")
        tail = f":{self.timeframe}" if self.timeframe else ""
        found = [f"{self.kind}:{self.exchange}:{one.symbol}{tail}" for one in markets.markets if one.active]
        if not found:
            raise NotFound(f"{self}: no active market of {self.exchange} matches {self.symbols!r}")
        return found


def is_pattern(text: str) -> bool:
    """Whether a text has the signs of a pattern."""
    return _SIGNS.search(text) is not None


def as_many(series: str | Iterable[str]) -> list[str | SeriesPattern]:
    """Ids and patterns, in the order given, each once. Raises ValueError for a pattern that is none."""
    names = [series] if isinstance(series, str) else list(series)
    return [SeriesPattern.parse(name) or name for name in dict.fromkeys(names)]


def check_jobs(jobs: int) -> None:
    """Raises ValueError unless so many reads may be under way at once."""
    if jobs < 1:
        raise ValueError(f"jobs: must be at least 1, got {jobs}")
