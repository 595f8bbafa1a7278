"""Rows for tests: bars and trades made of plain numbers, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from historyd.coverage import Fact
from historyd.model.rows import BARS, TRADES
from historyd.model.series import SeriesId
from historyd.model.time_range import MICROS_PER_MS, MICROS_PER_S, TimeRange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

MINUTE = 60 * MICROS_PER_S
BTC = SeriesId.parse("ohlcv:binance:BTC/USDT:1m")
BTC_TRADES = SeriesId.parse("trades:binance:BTC/USDT")


def minutes(start: int, end: int) -> TimeRange:
    """The range between two minutes, counted from 1970."""
    return TimeRange(start * MINUTE, end * MINUTE)


def bars(at: Iterable[int], price: float = 1.0) -> pa.RecordBatch:
    """Bars that open at these minutes; the open tells the bar, the close the answer that it came with."""
    slots = list(at)
    columns = [
        pa.array([slot * MINUTE for slot in slots], pa.int64()).cast(BARS.field("ts").type),
        pa.array([float(slot) for slot in slots]),
        *(pa.array([price] * len(slots), pa.float64()) for _ in range(4)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=BARS)


def trades(at: Iterable[tuple[int, int]], price: float = 1.0) -> pa.RecordBatch:
    """Trades at these (millisecond, ordinal)."""
    keys = list(at)
    columns = [
        pa.array([ms * MICROS_PER_MS for ms, _ in keys], pa.int64()).cast(TRADES.field("ts").type),
        pa.array([seq for _, seq in keys], pa.int32()),
        pa.array([f"{ms}-{seq}" for ms, seq in keys], pa.string()),
        pa.array([price] * len(keys), pa.float64()),
        pa.array([1.0] * len(keys), pa.float64()),
        pa.array(["buy"] * len(keys), pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=TRADES)


def answer(window: TimeRange, rows: pa.RecordBatch, asked_at: int = 10**15) -> Fact:
    """The fact that these rows are the answer for the window."""
    return Fact(window, asked_at, rows.num_rows)


async def all_rows(batches: AsyncIterator[pa.RecordBatch], schema: pa.Schema = BARS) -> pa.Table:
    """Every row of a read."""
    return pa.Table.from_batches([batch async for batch in batches], schema)


async def slots(batches: AsyncIterator[pa.RecordBatch]) -> list[tuple[int, float]]:
    """Minute and close of every bar of a read."""
    table = await all_rows(batches)
    stamps = table["ts"].cast(pa.int64()).to_pylist()
    return [(ts // MINUTE, close) for ts, close in zip(stamps, table["close"].to_pylist(), strict=True)]
