"""A whole house in front of a loopback venue: real ccxt, the engine, an embedded store; clocks stand still."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import pyarrow as pa

from historyd.engine.events import EnsureResult, ReadRequest, ReadSummary
from historyd.engine.history import HistoryEngine
from historyd.model.series import SeriesId
from historyd.model.time_range import MICROS_PER_MS, TimeRange
from historyd.sources.ccxt import CcxtSource
from historyd.sources.options import ExchangeOptions
from historyd.stores.embedded import open_embedded
from tests.limiters import RecordingLimiter
from tests.source_lab import candles_of, floats
from tests.venues.serving import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from historyd.coverage import State
    from tests.venues.serving import Dialect, LoopbackVenue

MINUTE_MS: Final = 60_000
NOW_MS: Final = 1_795_959_870_000
"""Where the clocks stand, 2026-11-29T13:44:30Z: half a minute into a minute."""
TIMES_OF_DAY_MS: Final = tuple(NOW_MS - minutes * MINUTE_MS for minutes in (0, 273, 457, 913, 1171))
"""Times at which the edges of pages lie elsewhere in what happened before."""


@dataclass
class House:
    """An engine in front of a venue."""

    venue: LoopbackVenue
    source: CcxtSource
    engine: HistoryEngine
    limiters: dict[tuple[str, str], RecordingLimiter]

    @property
    def penalties(self) -> list[float | None]:
        return [seconds for limiter in self.limiters.values() for seconds in limiter.penalties]

    async def ensure(self, series: SeriesId, window: TimeRange) -> EnsureResult:
        events: list[Any] = [event async for event in self.engine.ensure(series, window)]
        assert isinstance(events[-1], EnsureResult)
        return events[-1]

    async def rows(self, series: SeriesId, window: TimeRange) -> list[tuple[Any, ...]]:
        """What is stored of a window, as `(open time in ms, open, high, low, close, volume)`."""
        events = [event async for event in self.engine.read(ReadRequest(series, window))]
        assert isinstance(events[-1], ReadSummary)
        batches = [event for event in events if isinstance(event, pa.RecordBatch)]
        return [row for batch in batches for row in candles_of(batch)]

    async def states(self, series: SeriesId, window: TimeRange) -> list[tuple[State, TimeRange]]:
        return [(span.state, span.range) for span in await self.engine.coverage(series, window)]

    def expected(self, series: SeriesId, start_ms: int, end_ms: int) -> list[tuple[Any, ...]]:
        """What the venue has of `[start_ms, end_ms)`."""
        candles = self.venue.dialect.tape.candles
        return floats(candles.bars(series.symbol, str(series.timeframe), start_ms, end_ms - 1, 1_000_000))


@asynccontextmanager
async def open_house(path: Path, dialect: Dialect, **options: Any) -> AsyncIterator[House]:
    """Opens all of it; `options` are the venue's ExchangeOptions."""
    async with serve(dialect) as venue, house_at(path, venue, **options) as house:
        yield house


@asynccontextmanager
async def house_at(path: Path, venue: LoopbackVenue, **options: Any) -> AsyncIterator[House]:
    """Opens a house in front of a venue that runs."""
    dialect = venue.dialect
    limiters: dict[tuple[str, str], RecordingLimiter] = {}

    def limiter_for(exchange: str, group: str) -> RecordingLimiter:
        return limiters.setdefault((exchange, group), RecordingLimiter(f"{exchange}:{group}"))

    def clock() -> int:
        return dialect.clock() * MICROS_PER_MS

    settings = {dialect.exchange: ExchangeOptions(base_url=venue.url, retry_backoff_s=0.0, **options)}
    async with (
        CcxtSource(limiter_for, settings, host_clock=clock) as source,
        open_embedded(path / "history.db") as store,
        HistoryEngine(store, source, clock=clock) as engine,
    ):
        with ccxt_clock(dialect.clock):
            yield House(venue, source, engine, limiters)


@contextmanager
def ccxt_clock(clock: Callable[[], int]) -> Iterator[None]:
    """Sets ccxt's own clock, by which it bounds some windows; in milliseconds."""
    from ccxt.base.exchange import Exchange

    seconds = staticmethod(lambda: clock() // 1000)
    with mock.patch.multiple(Exchange, milliseconds=staticmethod(clock), seconds=seconds):
        yield


def bars_of(dialect: type[Dialect], timeframe: str = "1m") -> SeriesId:
    """The bars of the dialect's spot symbol."""
    return SeriesId.parse(f"ohlcv:{dialect.exchange}:{dialect.spot}:{timeframe}")


def window_of(start_ms: int, end_ms: int) -> TimeRange:
    return TimeRange(start_ms * MICROS_PER_MS, end_ms * MICROS_PER_MS)
