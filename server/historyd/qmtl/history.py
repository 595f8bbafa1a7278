"""The engine of this process in the face of the client's history, so that both share qmtl's provider."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import pyarrow as pa

from historyd.engine.events import ReadRequest, ReadSummary
from historyd.model.rows import SCHEMAS
from historyd.model.series import SeriesId
from historyd.model.time_range import EARLIEST, TimeRange, from_datetime, to_datetime
from markethistory import values
from markethistory.requests import warn_if_incomplete

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from historyd.coverage import Span
    from historyd.engine.history import HistoryEngine
    from historyd.qmtl.resident import ResidentEngine


class EngineHistory:
    """Reads, ensures and tells the coverage of series; raises HistoryErrors."""

    def __init__(self, resident: ResidentEngine) -> None:
        self._resident = resident

    async def read(self, series: str, start: datetime, end: datetime, *, columns: Sequence[str]) -> pa.Table:
        """Rows of `[start, end)`: `ts` and the columns, fetched first if need be. Warns of what cannot be had."""
        named = SeriesId.parse(series)
        request = ReadRequest(named, _range(start, end), ensure=True)
        batches, summary = await self._resident.call(lambda engine: _collect(engine, request))
        told = values.ReadSummary(
            values.TimeRange(start, end),
            summary.row_count,
            to_datetime(summary.closed_through),
            tuple(map(_span, summary.uncovered)),
            summary.quarantined_count,
            summary.complete,
        )
        warn_if_incomplete(series, told, stacklevel=2)
        return pa.Table.from_batches(batches, SCHEMAS[named.kind]).select(["ts", *columns])

    async def ensure(self, series: str, start: datetime, end: datetime) -> None:
        """Makes `[start, end)` covered."""
        named, window = SeriesId.parse(series), _range(start, end)
        await self._resident.call(lambda engine: _drain(engine, named, window))

    async def coverage(self, series: str) -> list[values.CoverageSpan]:
        """Spans that tile all of time up to now, ascending."""
        named = SeriesId.parse(series)

        async def ask(engine: HistoryEngine) -> list[Span]:
            return await engine.coverage(named, TimeRange(EARLIEST, engine.now()))

        return [_span(span) for span in await self._resident.call(ask)]


async def _collect(engine: HistoryEngine, request: ReadRequest) -> tuple[list[pa.RecordBatch], ReadSummary]:
    batches: list[pa.RecordBatch] = []
    summary: ReadSummary | None = None
    async with aclosing(engine.read(request)) as events:
        async for event in events:
            if isinstance(event, pa.RecordBatch):
                batches.append(event)
            elif isinstance(event, ReadSummary):
                summary = event
    assert summary is not None, "the engine's last event is the summary"
    return batches, summary


async def _drain(engine: HistoryEngine, series: SeriesId, window: TimeRange) -> None:
    async with aclosing(engine.ensure(series, window)) as events:
        async for _ in events:
            pass


def _range(start: datetime, end: datetime) -> TimeRange:
    return TimeRange(from_datetime(start), from_datetime(end))


def _span(span: Span) -> values.CoverageSpan:
    return values.CoverageSpan(
        values.TimeRange(to_datetime(span.range.start), to_datetime(span.range.end)),
        values.CoverageState(span.state.value),
        span.row_count,
        None if span.checked_at is None else to_datetime(span.checked_at),
        span.reason,
    )
