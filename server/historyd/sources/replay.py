"""A source that replays given bars and trades: the engine without a network, for tests, examples and recorded data.

Promises those of sources/base.py, as the best-behaved venue there could be: it answers at once, with exactly the
rows of the window. Never does: I/O.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from historyd.errors import UnknownExchange, UnknownSymbol, UnknownTimeframe
from historyd.model.rows import NO_TRADES, RAW_TRADES, SCHEMAS
from historyd.model.series import SeriesId
from historyd.model.time_range import EARLIEST, between
from historyd.model.venue import Market, Origin, Venue
from historyd.sources.base import Answer, Markets, RetryPolicy, TradesAnswer
from historyd.sources.nearest import nearest_names, nearest_symbols

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from historyd.model.time_range import TimeRange
    from historyd.model.wait import Observer


class ReplaySource:
    """Replays rows by series.

    Args:
        bars: rows in the schema `BARS` by series id, ascending and unique by `ts`; of trades in the schema `TRADES`.
        page_bars: most bars of one page.
        clock: the exchanges' clock, microseconds since 1970; the host's by default.

    Raises ValueError for another schema.
    """

    def __init__(
        self,
        bars: Mapping[str, pa.RecordBatch],
        *,
        page_bars: int = 1000,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._bars = {SeriesId.parse(name): rows for name, rows in bars.items()}
        for series, rows in self._bars.items():
            if rows.schema != SCHEMAS[series.kind]:
                raise ValueError(f"replayed rows of {series} must have the schema {SCHEMAS[series.kind]}")
        self._page_bars = page_bars
        self._clock = clock

    def venue(self, exchange: str) -> Venue:
        """What the exchange can do. Raises UnknownExchange."""
        self._of(exchange)
        return Venue(exchange, page_bars=self._page_bars, listing_calls=1)

    def origin(self, exchange: str) -> Origin:
        """A replay is a host of its own, so that its rows never mix with a venue's. Raises UnknownExchange."""
        self._of(exchange)
        return Origin("replay")

    def now(self, exchange: str) -> int:
        """The exchange's clock in microseconds. Raises UnknownExchange."""
        self._of(exchange)
        return self._clock()

    def retry_policy(self, exchange: str) -> RetryPolicy:
        """A replay does not fail. Raises UnknownExchange."""
        self._of(exchange)
        return RetryPolicy(attempts=1)

    def least_duration(self, exchange: str, calls: int) -> float:
        """There is no quota: 0 for any number of calls. Raises UnknownExchange."""
        self._of(exchange)
        return 0.0 * calls

    async def check(self, series: SeriesId) -> None:
        """Raises UnknownExchange, UnknownSymbol or UnknownTimeframe if the series is not replayed."""
        served = self._of(series.exchange)
        symbols = {one.symbol for one in served}
        if series.symbol not in symbols:
            raise UnknownSymbol(series.exchange, series.symbol, nearest_symbols(series.symbol, symbols))
        if series not in self._bars:
            frames = (str(one.timeframe) for one in served if one.symbol == series.symbol)
            raise UnknownTimeframe(series.exchange, str(series.timeframe), frames)

    async def fetch_bars(self, series: SeriesId, window: TimeRange, observer: Observer) -> Answer:
        """The rows of the window."""
        await self.check(series)
        observer.calling()
        return Answer(self._inside(series, window), self._clock())

    async def fetch_trades(self, series: SeriesId, window: TimeRange, observer: Observer) -> TradesAnswer:
        """The trades of the window."""
        await self.check(series)
        observer.calling()
        rows = self._inside(series, window).select(RAW_TRADES.names)
        return TradesAnswer(rows.cast(RAW_TRADES), self._clock(), window)

    async def before_trades(self, series: SeriesId, observer: Observer) -> TradesAnswer | None:
        """That there is nothing before the first trade; None if there is none."""
        first = await self.first_bar(series, observer)
        return None if first is None else TradesAnswer(NO_TRADES, self._clock(), between(EARLIEST, first))

    async def first_bar(
        self,
        series: SeriesId,
        observer: Observer,
        since: int = 0,  # noqa: ARG002 - to look costs nothing here
    ) -> int | None:
        """Time of the first row, None if there is none."""
        await self.check(series)
        observer.calling()
        stamps = self._bars[series].column(0).cast(pa.int64())
        return stamps[0].as_py() if len(stamps) else None

    async def any_bar(self, series: SeriesId, observer: Observer) -> int | None:
        """Open time of the first bar, None if there is none."""
        return await self.first_bar(series, observer)

    async def markets(self, exchange: str) -> Markets:
        """All symbols and timeframes that are replayed. Raises UnknownExchange."""
        served = self._of(exchange)
        frames = {one.timeframe for one in served if one.timeframe is not None}
        ordered = sorted(frames, key=lambda frame: frame.nominal_width)
        markets = (Market(symbol, "spot", active=True) for symbol in sorted({one.symbol for one in served}))
        return Markets(tuple(markets), tuple(str(frame) for frame in ordered))

    def _inside(self, series: SeriesId, window: TimeRange) -> pa.RecordBatch:
        rows = self._bars[series]
        stamps = rows.column(0).cast(pa.int64())
        return rows.filter(pc.and_(pc.greater_equal(stamps, window.start), pc.less(stamps, window.end)))

    def _of(self, exchange: str) -> list[SeriesId]:
        served = [series for series in self._bars if series.exchange == exchange]
        if not served:
            raise UnknownExchange(exchange, nearest_names(exchange, {series.exchange for series in self._bars}))
        return served
