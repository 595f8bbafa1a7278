"""Gathers from the store what a report on the quality of a range takes, one day after the other.

Memory is bounded by a day's bars, the quarantined rows of the range and the times at which it was revised.
Never does: ask an exchange, or judge (quality/report.py does).
"""

from __future__ import annotations

from bisect import bisect_left
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from historyd.coverage import tile
from historyd.engine.events import QualityReport
from historyd.model.series import Kind
from historyd.quality.report import BASE_ROWS, Bars, day_of_bars, day_of_trades, days_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from numpy.typing import NDArray

    from historyd.coverage import Span
    from historyd.engine.backfiller import View
    from historyd.model.rows import Quarantined
    from historyd.model.series import SeriesId
    from historyd.model.time_range import TimeRange
    from historyd.quality.report import Day
    from historyd.stores.base import Store


async def report_on(store: Store, view: View, window: TimeRange) -> QualityReport:
    """Reports on the days of a window; see HistoryEngine.quality."""
    covered = await store.coverage(view.series, window)
    spans = tile(window, covered, view.horizon.closed_through, view.unreachable)
    set_aside = await store.quarantined(view.series, window)
    noted = _Noted(set_aside, await store.revised(view.series, window))
    report = _bars if view.series.kind is Kind.OHLCV else _trades
    return QualityReport(tuple(await report(store, view, window, spans, noted)), tuple(set_aside))


@dataclass(frozen=True, slots=True)
class _Noted:
    """What the store has noted of the window beside its rows, both ascending."""

    set_aside: Sequence[Quarantined]
    revised: Sequence[int]

    def set_aside_in(self, day: TimeRange) -> Sequence[Quarantined]:
        """The quarantined rows that are counted in a day."""
        first = bisect_left(self.set_aside, day.start, key=_place)
        return self.set_aside[first : bisect_left(self.set_aside, day.end, key=_place)]

    def revised_in(self, day: TimeRange) -> int:
        """How many times of a day were revised."""
        return bisect_left(self.revised, day.end) - bisect_left(self.revised, day.start)


def _place(bad: Quarantined) -> int:
    assert bad.at is not None
    return bad.at


async def _trades(store: Store, view: View, window: TimeRange, spans: Sequence[Span], noted: _Noted) -> list[Day]:
    days: list[Day] = []
    for day in days_of(window):
        rows = sum(span.row_count for span in await store.coverage(view.series, day))
        days.append(day_of_trades(day, _within(spans, day), rows, noted.set_aside_in(day), noted.revised_in(day)))
    return days


async def _bars(store: Store, view: View, window: TimeRange, spans: Sequence[Span], noted: _Noted) -> list[Day]:
    days: list[Day] = []
    async with aclosing(_bars_by_day(store, view.series, window)) as read:
        async for day, bars in read:
            told = (noted.set_aside_in(day), noted.revised_in(day))
            days.append(day_of_bars(day, view.pages.grid, _within(spans, day), bars, *told))
    return days


def _within(spans: Sequence[Span], day: TimeRange) -> Sequence[Span]:
    first = bisect_left(spans, day.start + 1, key=lambda span: span.range.end)
    return spans[first : bisect_left(spans, day.end, key=lambda span: span.range.start)]


async def _bars_by_day(
    store: Store, series: SeriesId, window: TimeRange
) -> AsyncGenerator[tuple[TimeRange, Bars], None]:
    """Each day of the window with its bars, and the closes that came before them."""
    before = [batch async for batch in store.read_last(series, BASE_ROWS + 1, window.start)]
    base = _joined(before)[1]
    async with aclosing(store.read(series, window)) as batches:
        held: list[pa.RecordBatch] = []
        until = window.start
        for day in days_of(window):
            while until < day.end and (batch := await anext(batches, None)) is not None:
                held.append(batch)
                until = batch.column(0)[-1].value + 1
            times, closes, volumes = _joined(held)
            count = int(np.searchsorted(times, day.end))
            yield day, Bars(times[:count], closes[:count], volumes[:count], base)
            base = np.concatenate((base, closes[:count]))[-BASE_ROWS - 1 :]
            held = _after(held, day.end)


def _joined(batches: Sequence[pa.RecordBatch]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Times, closes and volumes of all batches; NaN where there is no value."""
    if not batches:
        return np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
    times = [batch.column(0).cast(pa.int64()).to_numpy() for batch in batches]
    closes, volumes = (
        [batch.column(name).to_numpy(zero_copy_only=False) for batch in batches] for name in ("close", "volume")
    )
    return np.concatenate(times), np.concatenate(closes), np.concatenate(volumes)


def _after(batches: Sequence[pa.RecordBatch], instant: int) -> list[pa.RecordBatch]:
    """What of the batches is not before an instant."""
    left: list[pa.RecordBatch] = []
    for batch in batches:
        times = batch.column(0).cast(pa.int64()).to_numpy()
        rest = batch.slice(int(np.searchsorted(times, instant)))
        if rest.num_rows:
            left.append(rest)
    return left
