"""A CcxtSource in front of a loopback exchange that can be made to misbehave, for tests of the source."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from historyd.demo.exchange import LoopbackExchange, serve_exchange
from historyd.model.series import SeriesId
from historyd.model.time_range import MICROS_PER_S, TimeRange
from historyd.sources.ccxt import CcxtSource
from historyd.sources.options import ExchangeOptions
from tests.limiters import RecordingLimiter, RecordingObserver
from tests.venue_faults import VenueFaults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pyarrow as pa

    from historyd.demo.candles import Candle, Candles
    from historyd.sources.base import Answer

MINUTE: Final = 60 * MICROS_PER_S
START: Final = 1_704_067_200 * MICROS_PER_S
"""2024-01-01T00:00:00Z, long after the made-up listing."""
BTC: Final = SeriesId.parse("ohlcv:binance:BTC/USDT:1m")


def minutes(count: int, start: int = START) -> TimeRange:
    """A window of so many one-minute bars."""
    return TimeRange(start, start + count * MINUTE)


@dataclass
class Lab:
    """A source, the exchange behind it, and what stands between them."""

    exchange: LoopbackExchange
    source: CcxtSource
    klines: VenueFaults
    markets: VenueFaults
    limiters: dict[tuple[str, str], RecordingLimiter]
    observer: RecordingObserver = field(default_factory=RecordingObserver)

    @property
    def limiter(self) -> RecordingLimiter:
        """That of Binance's spot hosts."""
        return self.limiters["binance", ""]

    async def fetch(self, window: TimeRange, series: SeriesId = BTC) -> Answer:
        return await self.source.fetch_bars(series, window, self.observer)


@asynccontextmanager
async def open_lab(
    candles: Candles | None = None,
    *,
    host_clock: Callable[[], int] | None = None,
    ccxt: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Lab]:
    """Opens all of it; `ccxt` and `options` are Binance's ExchangeOptions."""
    klines, markets = VenueFaults(), VenueFaults("/exchangeInfo")
    limiters: dict[tuple[str, str], RecordingLimiter] = {}

    def limiter_for(exchange: str, group: str) -> RecordingLimiter:
        return limiters.setdefault((exchange, group), RecordingLimiter(f"{exchange}:{group}"))

    async with serve_exchange(candles, middlewares=[klines.middleware, markets.middleware]) as exchange:
        settings = {"binance": ExchangeOptions(base_url=exchange.url, ccxt=ccxt or {}, **options)}
        clock = host_clock or (lambda: time.time_ns() // 1000)
        async with CcxtSource(limiter_for, settings, clock) as source:
            yield Lab(exchange, source, klines, markets, limiters)


def candles_of(rows: pa.RecordBatch) -> list[tuple[Any, ...]]:
    """Rows as `(open time in ms, open, high, low, close, volume)` with floats."""
    columns = [rows.column(0).cast("int64").to_pylist(), *(column.to_pylist() for column in rows.columns[1:])]
    return [(None if at is None else at // 1000, *cells) for at, *cells in zip(*columns, strict=True)]


def floats(candles: list[Candle] | Any) -> list[tuple[Any, ...]]:
    """Candles with their decimals as floats, to compare with."""
    return [(at, *(None if cell is None else float(cell) for cell in cells)) for at, *cells in candles]
