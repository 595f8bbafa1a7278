"""Bars of one market, asked of a ccxt instance in the way that its venue needs.

Owns how a question for a window is put: how it is cut, how its start and end are told, which endpoint has bars so
old; and what of the window the answer speaks of. A venue that was asked for a window and gives its newest bars
instead (Kraken, Bithumb, HTX' contracts) says nothing of what is before the first of them.

Promises: no row is dropped; rows come in the schema `RAW_BARS`. Never does: retry, judge, or know of listings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from historyd.errors import BadAnswer
from historyd.model.time_range import EARLIEST, MICROS_PER_DAY, MICROS_PER_MS
from historyd.sources.ccxt_exchange import asked
from historyd.sources.ccxt_rows import to_bars
from historyd.sources.windows import bars_to_ask_for, parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from historyd.model.series import SeriesId
    from historyd.model.time_range import TimeRange
    from historyd.model.timeframe import Timeframe
    from historyd.sources.ccxt_session import Session
    from historyd.sources.venues import VenueTraits

_RECENT_BARS: Final = 1000
"""Bars that every endpoint for recent ones has."""


@dataclass(frozen=True, slots=True)
class Said:
    """What came for a window, and from when on it speaks of it, if that is not plain; see sources.base.Answer."""

    rows: pa.RecordBatch
    speaks_from: int | None = None


async def bars_of(session: Session, series: SeriesId, page_bars: int) -> Bars:
    """The bars of a series; raises UnknownSymbol, UnknownTimeframe, or what loading the markets raises.

    `page_bars`: most bars that one call is to ask for.
    """
    await session.check_timeframe(series)
    market = await session.market(series.symbol)
    assert series.timeframe is not None
    return Bars(session, series.symbol, series.timeframe, market, page_bars)


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of one market and timeframe."""

    session: Session
    symbol: str
    timeframe: Timeframe
    market: Any
    page_bars: int

    @property
    def traits(self) -> VenueTraits:
        """The venue's entry in the table."""
        return self.session.desk.traits

    @property
    def inverse(self) -> bool:
        """Whether it is a coin-margined contract."""
        return bool(self.market.get("inverse"))

    def of(self, timeframe: Timeframe) -> Bars:
        """The same market's bars of another timeframe."""
        return replace(self, timeframe=timeframe)

    def now(self) -> int:
        """The venue's clock, microseconds."""
        return self.session.desk.clock.now()

    def parts(self, window: TimeRange) -> Iterator[TimeRange]:
        """The window in ascending parts that one call each can answer."""
        contract = bool(self.market.get("contract"))
        wide = self.timeframe.nominal_width > MICROS_PER_DAY
        most = min(self.page_bars, self.traits.most_bars(contract=contract, wider_than_a_day=wide))
        longest = self.traits.longest_window(contract=contract, inverse=self.inverse)
        return parts(window, self.timeframe, most, longest)

    async def fetch(self, window: TimeRange) -> Said:
        """Asks for a window, with one call for each part of it."""
        said = [await self.fetch_part(part) for part in self.parts(window)]
        starts = [one.speaks_from for one in said if one.speaks_from is not None]
        rows = said[0].rows if len(said) == 1 else pa.concat_batches([one.rows for one in said])
        return Said(rows, max(starts, default=None))

    async def fetch_part(self, part: TimeRange) -> Said:
        """One call for a window of at most one page of the venue."""
        until_ms = (part.end - 1) // MICROS_PER_MS
        limit = bars_to_ask_for(part, self.timeframe)
        rows = await self.ask(-(-part.start // MICROS_PER_MS), limit, until_ms)
        return Said(rows, self._speaks_from(rows, part, limit))

    async def ask(self, since_ms: int, limit: int, until_ms: int | None = None) -> pa.RecordBatch:
        """One call; both ends inclusive. The end is told only to a venue that takes one."""
        if self.traits.newest_only and self.traits.depth_bars is not None:
            limit = self.traits.depth_bars
        ccxt, question = await self.session.ccxt(), asked()
        seen_before = question.rows_seen
        params = self._params(since_ms, until_ms)
        rows: Any = await self.session.call(
            lambda: ccxt.fetch_ohlcv(self.symbol, str(self.timeframe), since_ms, limit, params)
        )
        exchange = self.session.desk.exchange
        if not isinstance(rows, list) or (not rows and question.rows_seen > seen_before):
            # There were rows, but not where ccxt looks for this market's.
            raise BadAnswer(f"{exchange} answered in a shape that is not its own", exchange=exchange)
        return to_bars(rows, exchange)

    def _params(self, since_ms: int, until_ms: int | None) -> dict[str, Any]:
        params: dict[str, Any] = {}
        if self.traits.start_param:
            params[self.traits.start_param] = since_ms
        if self.traits.end_param and until_ms is not None:
            params[self.traits.end_param] = until_ms
        if self.traits.old_bars is not None and self._is_old(since_ms * MICROS_PER_MS):
            name, value = self.traits.old_bars
            params[name] = value
        return params

    def _is_old(self, start: int) -> bool:
        return start < self.timeframe.grid().back(self.now(), _RECENT_BARS)

    def _speaks_from(self, rows: pa.RecordBatch, part: TimeRange, limit: int) -> int | None:
        stamps = rows.column(0).cast(pa.int64()).drop_null().to_pylist()
        if not stamps or min(stamps) <= part.start:
            return None
        if self.traits.newest_only:
            return min(stamps) if rows.num_rows >= (self.traits.depth_bars or 0) else EARLIEST
        latest = max(stamps)
        beyond = latest > part.end or (latest == part.end and rows.num_rows >= limit)
        # Whoever heeds the start but knows no end goes on from there, and reaches the present only from near it.
        return min(stamps) if beyond and self._is_open_or_last(latest) else None

    def _is_open_or_last(self, opened: int) -> bool:
        return opened >= self.timeframe.grid().back(self.now(), 2)
