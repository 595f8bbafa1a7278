"""Reads the embedded store's file a step at a time, each step one short snapshot of about one frame's rows.

No snapshot outlives its step, so a reader that stalls for minutes keeps nothing from being written or checkpointed.
Between two steps rows may be replaced by a newer answer: each step is true of its own moment, and no row comes twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from historyd.errors import CorruptPage
from historyd.model.time_range import between
from historyd.stores import blocks

if TYPE_CHECKING:
    import pyarrow as pa

    from historyd.model.rows import RowKey
    from historyd.model.time_range import TimeRange
    from historyd.stores.block_table import BlockTable, KnownSeries


@dataclass(frozen=True, slots=True)
class Step:
    """Batches of one step, and the window that is left; None at the end."""

    batches: list[pa.RecordBatch]
    rest: TimeRange | None


def read_step(table: BlockTable, series: KnownSeries, window: TimeRange, most_rows: int) -> Step:
    """The first rows of the window: one block, or several small ones of at most `most_rows`. Raises CorruptPage."""
    with table.snapshot():
        return _gather(table, series, window, most_rows)


def last_step(table: BlockTable, series: KnownSeries, count: int, end: int, most_rows: int) -> Step:
    """The first step of the last `count` rows before `end`. Raises CorruptPage."""
    with table.snapshot():
        start, skipped = _start_of_last(table, series, count, end)
        window = between(start, end)
        return Step([], None) if window is None else _gather(table, series, window, most_rows, skipped)


def _start_of_last(table: BlockTable, series: KnownSeries, count: int, end: int) -> tuple[int, int]:
    """Where the last `count` rows before `end` begin: the first instant of a block, and the rows to skip in it."""
    start, found = end, 0
    for block in table.before(series, end):
        rows = block.row_count
        if block.last_ts >= end:
            rows = blocks.before(table.load(series, block), end)
        start, found = block.first_ts, found + rows
        if found >= count:
            return start, found - count
    return start, 0


def _gather(table: BlockTable, series: KnownSeries, window: TimeRange, most_rows: int, skipped: int = 0) -> Step:
    """Loads blocks until the next one would make too many rows; a damaged one only ends a step that has rows."""
    batches: list[pa.RecordBatch] = []
    rows = 0
    rest = None
    for block in table.touching(series, window):
        if batches and rows + block.row_count > most_rows:
            rest = between(block.first_ts, window.end)
            break
        try:
            batch = table.load(series, block)
        except CorruptPage:
            if not batches:
                raise
            rest = between(block.first_ts, window.end)
            break
        if block.first_ts < window.start or block.last_ts >= window.end:
            batch = blocks.cut(batch, window.start, window.end)
        if batch.num_rows:
            batches.append(batch)
            rows += batch.num_rows
    whole = blocks.join(batches, series.id.kind).slice(skipped)
    return Step([whole.slice(at, most_rows) for at in range(0, whole.num_rows, most_rows)], rest)


def resumed(batches: list[pa.RecordBatch], after: RowKey) -> list[pa.RecordBatch]:
    """The rows after `after`; batches that have none are left out."""
    kept = [blocks.drop_through(batch, after) for batch in batches]
    return [batch for batch in kept if batch.num_rows]
