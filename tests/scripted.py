"""A source that plays a venue on a virtual clock, for tests of the engine: no network, no waiting, every call seen.

It answers like a venue that serves fixed windows: bars whose open time lies in the window, the open one too. Tests
script its faults: errors to raise, gates to hold calls at, a host clock that runs ahead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from historyd.errors import UnknownSymbol
from historyd.model.rows import BARS
from historyd.model.time_range import MICROS_PER_S, TimeRange
from historyd.model.venue import Market, Origin, Venue
from historyd.sources.base import Answer, Markets, RetryPolicy, TradesAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from historyd.model.series import SeriesId
    from historyd.model.timeframe import Grid
    from historyd.model.wait import Observer

MINUTE = 60 * MICROS_PER_S
START_OF_2024 = 1_704_067_200 * MICROS_PER_S


@dataclass
class VirtualClock:
    """A host clock that moves only when somebody sleeps or a test moves it."""

    now: int = START_OF_2024
    slept_s: list[float] = field(default_factory=list)

    def __call__(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now += int(seconds * MICROS_PER_S)
        await asyncio.sleep(0)


def bars_at(opens: Iterable[int]) -> pa.RecordBatch:
    """The bars that open at these instants: values that can be computed from the time alone."""
    stamps = list(opens)
    price = [1.0 + stamp // MINUTE % 997 for stamp in stamps]
    columns = [price, [p + 1 for p in price], [p - 0.5 for p in price], [p + 0.5 for p in price], price]
    return pa.RecordBatch.from_arrays(
        [pa.array(stamps, BARS.field(0).type), *(pa.array(values, pa.float64()) for values in columns)], schema=BARS
    )


class ScriptedSource:
    """A venue with all bars since its listing, but for `holes`."""

    def __init__(self, clock: VirtualClock, *, page_bars: int = 100, listed_at: int = 0) -> None:
        self.clock = clock
        self.profile = Venue("binance", page_bars=page_bars, listing_calls=1)
        self.listed_at = listed_at
        self.anchor: int | None = None
        self.holes: list[TimeRange] = []
        self.skew = 0
        self.calls: list[TimeRange] = []
        self.listing_calls = 0
        self.knows_listing = True
        self.errors: deque[Exception] = deque()
        self.answers: deque[pa.RecordBatch] = deque()
        self.gate: asyncio.Event | None = None
        self.symbols = {"BTC/USDT"}
        self.on_the_wire = 0

    def venue(self, exchange: str) -> Venue:
        return self.profile

    def origin(self, exchange: str) -> Origin:
        return Origin("scripted.test")

    def now(self, exchange: str) -> int:
        return self.clock.now + self.skew

    def retry_policy(self, exchange: str) -> RetryPolicy:
        return RetryPolicy(attempts=3, backoff_s=0.5)

    def least_duration(self, exchange: str, calls: int) -> float:
        return calls * 0.02

    async def check(self, series: SeriesId) -> None:
        await asyncio.sleep(0)
        if series.symbol not in self.symbols:
            raise UnknownSymbol(series.exchange, series.symbol, self.symbols)

    async def fetch_bars(self, series: SeriesId, window: TimeRange, observer: Observer) -> Answer:
        observer.calling()
        self.calls.append(window)
        asked_at = self.clock.now
        self.on_the_wire += 1
        try:
            await (self.gate.wait() if self.gate else asyncio.sleep(0))
        finally:
            self.on_the_wire -= 1
        if self.errors:
            raise self.errors.popleft()
        if self.answers:
            return Answer(self.answers.popleft(), asked_at)
        return Answer(self.bars(self._grid(series), window), asked_at)

    async def first_bar(self, series: SeriesId, observer: Observer, since: int) -> int | None:
        if not self.knows_listing:
            return None
        observer.calling()
        self.listing_calls += 1
        await asyncio.sleep(0)
        return self._grid(series).ceil(self.listed_at)

    async def any_bar(self, series: SeriesId, observer: Observer) -> int | None:
        observer.calling()
        await asyncio.sleep(0)
        return self._grid(series).floor(self.now(series.exchange))

    async def fetch_trades(self, series: SeriesId, window: TimeRange, observer: Observer) -> TradesAnswer:
        raise AssertionError("no test scripts trades: they are asked of venues in their own dialects")

    async def before_trades(self, series: SeriesId, observer: Observer) -> TradesAnswer | None:
        raise AssertionError("no test scripts trades: they are asked of venues in their own dialects")

    async def markets(self, exchange: str) -> Markets:
        return Markets(tuple(Market(symbol, "spot", True) for symbol in sorted(self.symbols)), ("1m", "1h"))

    def bars(self, grid: Grid, window: TimeRange) -> pa.RecordBatch:
        """What the venue has of a window, the open bar among it."""
        first = max(window.start, self.listed_at)
        until = min(window.end, self.clock.now + self.skew)
        opens = [grid.time_of(index) for index in range(grid.index_of(first - 1) + 1, grid.index_of(until - 1) + 1)]
        return bars_at(time for time in opens if not any(time in hole for hole in self.holes))

    def _grid(self, series: SeriesId) -> Grid:
        assert series.timeframe is not None
        return series.timeframe.grid(self.anchor)
