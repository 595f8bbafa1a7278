"""The blocks of the embedded store's file: found by time, loaded and verified, counted, cut.

One table serves one connection and is used inside a transaction, so that all it says is of one moment.
Promises: bytes that are not what was written are never decoded: CorruptPage names the series and the range.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from historyd.errors import CorruptPage
from historyd.model.series import Kind
from historyd.model.time_range import TimeRange
from historyd.stores import blocks
from historyd.stores.flat import FlatBlock, open_flat
from historyd.stores.sqlite import SQL, primary_code, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    import pyarrow as pa

    from historyd.model.page import Layout
    from historyd.model.series import SeriesId
    from historyd.stores.blocks import BlockForm

_FEW: Final = 4
"""Rows up to this part of a block are read one by one; more are read with the whole block."""


@dataclass(frozen=True, slots=True)
class KnownSeries:
    """A series that the file knows, and its number there."""

    number: int
    id: SeriesId
    layout: Layout


class Block(NamedTuple):
    """Where a block is and what it holds; both times are inclusive."""

    number: int
    first_ts: int
    last_ts: int
    row_count: int
    checksum: int


class BlockTable:
    """The blocks as one connection sees them.

    `verified` holds (number, checksum) of blocks whose bytes were checked by this process: they are checked once.
    Blocks are never changed in place, and a number that is used again comes with another checksum or the same bytes.
    """

    def __init__(self, con: sqlite3.Connection, verified: set[tuple[int, int]]) -> None:
        self._con = con
        self._verified = verified

    def snapshot(self) -> AbstractContextManager[None]:
        """Within it all reads are of one moment."""
        return transaction(self._con, "DEFERRED")

    def touching(self, series: KnownSeries, window: TimeRange) -> Iterator[Block]:
        """Blocks with an instant of the window between their first and last row, ascending."""
        bounds = {"series": series.number, "since": window.start, "until": window.end}
        return map(Block._make, self._con.execute(SQL["blocks_touching"], bounds))

    def before(self, series: KnownSeries, end: int) -> Iterator[Block]:
        """Blocks that begin before `end`, descending."""
        return map(Block._make, self._con.execute(SQL["blocks_before"], {"series": series.number, "until": end}))

    def since(self, series: KnownSeries, start: int) -> Iterator[Block]:
        """Blocks that begin at or after `start`, ascending."""
        return map(Block._make, self._con.execute(SQL["blocks_from"], {"series": series.number, "since": start}))

    def load(self, series: KnownSeries, block: Block) -> pa.RecordBatch:
        """The block's rows, lying over the bytes read. Raises CorruptPage."""
        try:
            content = self._content(block)
            batch = blocks.decode(content, series.id.kind)
        except ValueError as cause:
            raise self._corrupt(series, block) from cause
        except sqlite3.Error as cause:
            if primary_code(cause) != sqlite3.SQLITE_CORRUPT:
                raise
            raise self._corrupt(series, block) from cause
        return batch

    def load_between(self, series: KnownSeries, block: Block, start: int, end: int) -> pa.RecordBatch:
        """The block's rows in `[start, end)`; few rows of a block verified before cost little. Raises CorruptPage."""
        with self._flat(series, block) as flat:
            if flat is not None:
                first = flat.before(start)
                count = flat.before(end) - first
                if count * _FEW <= block.row_count:
                    return flat.batch(first, count)
        return blocks.cut(self.load(series, block), start, end)

    def tail(self, series: KnownSeries, block: Block, count: int, end: int) -> tuple[int, int]:
        """When the last `count` of the block's rows before `end` begin, and how many before them share that instant.

        The block has that many. Raises CorruptPage.
        """
        with self._flat(series, block) as flat:
            if flat is not None:  # bars: one row an instant
                return flat.time(flat.before(end) - count), 0
        times = blocks.times(self.load(series, block))
        first = bisect_left(times, end) - count
        return times[first], first - bisect_left(times, times[first])

    def count_before(self, series: KnownSeries, block: Block, end: int) -> int:
        """How many of the block's rows are earlier than `end`. Raises CorruptPage."""
        with self._flat(series, block) as flat:
            if flat is not None:
                return flat.before(end)
        return blocks.before(self.load(series, block), end)

    @contextmanager
    def _flat(self, series: KnownSeries, block: Block) -> Iterator[FlatBlock | None]:
        """The block, opened for single rows; None if its bytes were not verified yet or it does not lie flat."""
        if series.id.kind is not Kind.OHLCV or (block.number, block.checksum) not in self._verified:
            yield None
            return
        with self._con.blobopen("block", "content", block.number, readonly=True) as blob:
            yield open_flat(blob, block.row_count)

    def _content(self, block: Block) -> bytes:
        """The bytes of a block. Raises ValueError if they are not those that were written."""
        # Unlike a column of a SELECT, this reads straight into the bytes and lets other threads run meanwhile.
        with self._con.blobopen("block", "content", block.number, readonly=True) as blob:
            content = blob.read()
        if (block.number, block.checksum) not in self._verified:
            if blocks.checksum(content) != block.checksum:
                raise ValueError("checksum differs")
            self._verified.add((block.number, block.checksum))
        return content

    def count(self, series: KnownSeries, window: TimeRange) -> int:
        """Rows in the window; loads only the blocks that reach over its edges. Raises CorruptPage."""
        total = 0
        for block in self.touching(series, window):
            if window.start <= block.first_ts and block.last_ts < window.end:
                total += block.row_count
            else:
                total += self.count_before(series, block, window.end) - self.count_before(series, block, window.start)
        return total

    def rows(self, series: KnownSeries, window: TimeRange) -> pa.RecordBatch:
        """All rows of the window. Raises CorruptPage."""
        found = [self.load_between(series, block, window.start, window.end) for block in self.touching(series, window)]
        return blocks.join(found, series.id.kind)

    def put(self, series: KnownSeries, batch: pa.RecordBatch, form: BlockForm) -> None:
        """Writes rows as new blocks; no block may touch their range."""
        for piece in blocks.split(batch, form.full_rows[series.id.kind]):
            content = blocks.encode(piece)
            stamps = blocks.times(piece)
            self._con.execute(
                SQL["put_block"],
                {
                    "series": series.number,
                    "first_ts": stamps[0],
                    "last_ts": stamps[-1],
                    "row_count": piece.num_rows,
                    "byte_count": content.size,
                    "checksum": blocks.checksum(content),
                    "content": content,
                },
            )

    def delete(self, block: Block) -> None:
        """Removes a block and its rows."""
        self._con.execute(SQL["delete_block"], {"id": block.number})

    def clear(self, series: KnownSeries, window: TimeRange, form: BlockForm) -> int:
        """Removes the rows of the window and returns how many they were; what was beside them stays.

        A damaged block that lies in the window as a whole is removed like any other; raises CorruptPage for one
        that reaches over its edges.
        """
        removed = 0
        for block in list(self.touching(series, window)):
            kept = 0
            if block.first_ts < window.start or block.last_ts >= window.end:
                batch = self.load(series, block)
                left = batch.slice(0, blocks.before(batch, window.start))
                right = batch.slice(blocks.before(batch, window.end))
                self.delete(block)
                self.put(series, left, form)
                self.put(series, right, form)
                kept = left.num_rows + right.num_rows
            else:
                self.delete(block)
            removed += block.row_count - kept
        return removed

    def _corrupt(self, series: KnownSeries, block: Block) -> CorruptPage:
        """Names the whole facts around the block: forgetting these removes it without reading it."""
        bounds = {"series": series.number, "since": block.first_ts, "until": block.last_ts + 1}
        facts = self._con.execute(SQL["facts_touching"], bounds).fetchall()
        start = min((block.first_ts, *(since for since, *_ in facts)))
        end = max((block.last_ts + 1, *(until for _, until, *_ in facts)))
        return CorruptPage(str(series.id), str(TimeRange(start, end)))
