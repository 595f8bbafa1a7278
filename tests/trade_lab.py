"""The engine over the embedded store and real ccxt in front of a loopback venue, for tests of trades.

All clocks stand still at `NOW_MS`, so that what has settled is the same whatever the machine does meanwhile.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from historyd.engine.events import EnsureResult, ReadRequest, ReadSummary
from historyd.engine.history import HistoryEngine
from historyd.model.rows import TRADES
from historyd.model.series import SeriesId
from historyd.model.time_range import MICROS_PER_MS, MICROS_PER_S, TimeRange
from historyd.sources.ccxt import CcxtSource
from historyd.sources.options import ExchangeOptions
from historyd.stores.embedded import open_embedded
from tests.limiters import RecordingLimiter
from tests.venues.tape import Tape, Tick

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from pathlib import Path

    from historyd.coverage import State
    from tests.venues.serving import Dialect, LoopbackVenue

NOW_MS: Final = 1_767_323_045_678
NOW: Final = NOW_MS * MICROS_PER_MS
SETTLED: Final = (NOW_MS // 1000 - 60) * MICROS_PER_S
"""By the venue's clock, of which its replies tell whole seconds."""
TEN_YEARS: Final = 10 * 366 * 86_400 * MICROS_PER_S
EXACT: Final = frozenset({"coinbase", "kraken"})
"""The venues that tell microseconds; the others tell milliseconds."""

Row = tuple[int, int, str, float, float, str]


@dataclass
class TradeLab:
    """An engine, and the venue that it asks."""

    engine: HistoryEngine
    venue: LoopbackVenue
    series: SeriesId

    async def ensure(self, window: TimeRange, **options: Any) -> EnsureResult:
        events = [event async for event in self.engine.ensure(self.series, window, **options)]
        assert isinstance(events[-1], EnsureResult)
        return events[-1]

    async def read(self, window: TimeRange, **options: Any) -> tuple[list[Row], ReadSummary]:
        events = [event async for event in self.engine.read(ReadRequest(self.series, window, **options))]
        assert isinstance(events[-1], ReadSummary)
        return rows_of(event for event in events if isinstance(event, pa.RecordBatch)), events[-1]

    async def states(self, window: TimeRange) -> list[tuple[State, TimeRange, int]]:
        spans = await self.engine.coverage(self.series, window)
        return [(span.state, span.range, span.row_count) for span in spans]

    @property
    def calls(self) -> int:
        """Calls for trades so far."""
        return len(self.venue.trade_calls)


@asynccontextmanager
async def trade_lab(
    venue: LoopbackVenue, store: Path, page: int | None = None, *, now: int = NOW, spot: str | None = None
) -> AsyncIterator[TradeLab]:
    """Opens it on the store in this file; `page` is the `window_size`, `spot` the symbol if not the usual one."""
    dialect = venue.dialect
    options = ExchangeOptions(base_url=venue.url, ccxt=dict(dialect.ccxt), window_size=page, max_retries=1)
    async with (
        open_embedded(store) as opened,
        CcxtSource(lambda *_: RecordingLimiter(), {dialect.exchange: options}, host_clock=lambda: now) as source,
        HistoryEngine(opened, source, clock=lambda: now) as engine,
    ):
        yield TradeLab(engine, venue, SeriesId.parse(f"trades:{dialect.exchange}:{spot or dialect.spot}"))


def dialect_of(kind: type[Dialect], ticks: Sequence[Tick]) -> Dialect:
    """A dialect whose only market has these trades."""
    return kind(Tape((kind.spot,), ticks={kind.spot: ticks}), clock=lambda: NOW_MS)


def ticks_at(times_us: Iterable[int], first_id: int = 1) -> list[Tick]:
    """A trade at each of these microseconds; id, price and amount tell which one it is."""
    return [
        Tick(first_id + at, time * 1000, f"{60_000 + at % 97}.{at % 100:02d}", f"0.{1 + at % 999:05d}", _side(at))
        for at, time in enumerate(times_us)
    ]


def expected(ticks: Iterable[Tick], exchange: str, window: TimeRange) -> list[Row]:
    """The rows that these trades are, of those in the window."""
    rows: list[Row] = []
    for tick in ticks:
        ts = tick.at_ns // 1000 if exchange in EXACT else tick.at_ms * MICROS_PER_MS
        seq = rows[-1][1] + 1 if rows and rows[-1][0] == ts else 0
        if ts in window:
            rows.append((ts, seq, str(tick.id), float(tick.price), float(tick.amount), tick.side))
    return rows


def rows_of(batches: Iterable[pa.RecordBatch]) -> list[Row]:
    """Rows as plain values."""
    table = pa.Table.from_batches(batches, TRADES)
    columns = [table["ts"].cast(pa.int64()), *table.columns[1:]]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def _side(at: int) -> str:
    return "sell" if at % 3 == 0 else "buy"
