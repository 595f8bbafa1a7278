"""Reads rows of the embedded store: in steps, each on a thread of its own, and from memory what was read before.

While rows of one step are handed out the next one is read. What is kept in memory is bounded and of three kinds: the
last rows of series (tails.py), what is sent of blocks that are read again and again (packs.py), and what reads of the
same window came to (outlines.py); the first and the last hold for one edition of a series.

Promises: no snapshot, connection or thread is held between two steps. Never does: write.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from historyd.errors import CorruptPage
from historyd.model.time_range import TimeRange, between
from historyd.stores.block_table import Block, BlockTable, KnownSeries
from historyd.stores.ledger import all_series
from historyd.stores.lru import Lru
from historyd.stores.outlines import MOST_BYTES, Draft, Outline
from historyd.stores.packs import Packs
from historyd.stores.steps import Packing, Step, last_step, packed_step, read_step, resumed
from historyd.stores.tails import MOST_ROWS, Tails

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Callable
    from concurrent.futures import Future

    import pyarrow as pa

    from historyd.model.rows import RowKey
    from historyd.model.series import SeriesId
    from historyd.stores.base import Packer, Rows
    from historyd.stores.blocks import BlockForm
    from historyd.stores.lane import Lane
    from historyd.stores.ledger import Edition, Ledger
    from historyd.stores.steps import Part

T = TypeVar("T")

_ROOM: Final = 5 / 4
"""A batch may hold so many times a full block's rows, so that a remainder travels with the block before it."""
STEPS_AHEAD: Final = 3
"""Steps that a thread does in one go while rows are handed out: to wake it costs about as much as one of them."""


class EmbeddedReader:
    """Reads one open file. `ledger` is the writer's, None if the file was opened for reading only.

    `verified`: see BlockTable.
    """

    def __init__(self, lane: Lane, ledger: Ledger | None, form: BlockForm, verified: set[tuple[int, int]]) -> None:
        self._lane = lane
        self._ledger = ledger
        self._most_rows = {kind: int(rows * _ROOM) for kind, rows in form.full_rows.items()}
        self._verified = verified
        self._tails = Tails()
        self._packs = Packs()
        self._outlines = Lru[Outline](MOST_BYTES)

    async def find(self, series: SeriesId) -> KnownSeries | None:
        """The series in the file; None if it was never written."""
        if self._ledger is not None:
            return self._ledger.known.get(series)
        return (await self._lane.run(all_series)).get(series)

    def read(
        self, series: SeriesId, window: TimeRange, after: RowKey | None = None
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """Rows of the window in key order, only those after `after`; a few steps are in memory."""
        return self._stream(series, partial(self._first, window, after), self._several)

    async def read_packed(
        self, series: SeriesId, window: TimeRange, after: RowKey | None, packer: Packer
    ) -> AsyncGenerator[Rows, None]:
        """As `read`; blocks that are read again and again come as the packer made them."""
        packing = Packing(packer, self._packs)
        async with aclosing(self._outlined(series, window, after, packing)) as found:
            async for part in found:
                rows = packing.rows_of(part)
                if rows is not None:
                    yield rows
                    continue
                # It was driven out since it was named.
                assert isinstance(part, Block)
                async with aclosing(self.read(series, TimeRange(part.first_ts, part.last_ts + 1))) as batches:
                    async for batch in batches:
                        yield batch

    async def _outlined(
        self, series: SeriesId, window: TimeRange, after: RowKey | None, packing: Packing
    ) -> AsyncGenerator[Part, None]:
        """The rows of the window; from memory if nothing was written to the series since the same was read."""
        edition = None if self._ledger is None else self._ledger.edition(series)
        name = (edition, window, after)
        outline = None if edition is None else self._outlines.get(name)
        # Blocks that were driven out are loaded by steps, which pack them again.
        if outline is not None and packing.keeps(outline):
            for part in outline:
                yield part
            return
        draft = Draft()
        async with aclosing(self._packed(series, window, after, packing)) as found:
            async for part in found:
                draft.add(part)
                yield part
        if edition is not None and draft.outline is not None:
            self._outlines.put(name, draft.outline, draft.nbytes)

    def _packed(
        self, series: SeriesId, window: TimeRange, after: RowKey | None, packing: Packing
    ) -> AsyncGenerator[Part, None]:
        """The rows of the window; blocks whose packs are kept by name."""

        def go_on(rest: TimeRange, table: BlockTable, known: KnownSeries, most_loads: int = STEPS_AHEAD) -> Step[Part]:
            return packed_step(table, known, rest, self._most_rows[known.id.kind], packing, most_loads)

        def begin(table: BlockTable, known: KnownSeries) -> Step[Part]:
            if after is None:
                return go_on(window, table, known, most_loads=1)
            step = self._first(window, after, table, known)
            return Step([*step.batches], step.rest)

        return self._stream(series, begin, go_on)

    async def read_last(self, series: SeriesId, count: int, before: int) -> AsyncGenerator[pa.RecordBatch, None]:
        """The last `count` rows before `before`, in ascending key order; a few steps are in memory.

        From memory if nothing was written to the series since the same was asked.
        """
        ended = self._ended_before(series, before)
        kept = None if ended is None else self._tails.get(ended, count)
        if kept is not None:
            yield kept
            return
        most_rows = self._most_rows[series.kind]
        begin = partial(last_step, count=count, end=before, most_rows=most_rows)
        steps = self._stream(series, begin, self._several)
        async with aclosing(steps) as batches:
            async for batch in batches:
                yield batch
                if ended is not None and batch.num_rows == count <= MOST_ROWS:
                    self._tails.keep(ended, batch)

    def _ended_before(self, series: SeriesId, instant: int) -> Edition | None:
        """The edition of a series now, if it is known to have no row at or after the instant."""
        if self._ledger is None:
            return None
        edition = self._ledger.edition(series)
        spans = None if edition is None else self._ledger.spans.get(edition.series)
        return edition if spans and spans[-1].range.end <= instant else None

    async def _stream(
        self,
        series: SeriesId,
        begin: Callable[[BlockTable, KnownSeries], Step[T]],
        go_on: Callable[[TimeRange, BlockTable, KnownSeries], Step[T]],
    ) -> AsyncGenerator[T, None]:
        """The batches of the first step and of all that follow, which are read while those before are handed out."""
        known = await self.find(series)
        if known is None:
            return
        ahead: Future[Step[T]] | None = self._submit(known, begin)
        try:
            while ahead is not None:
                step = await asyncio.wrap_future(ahead)
                ahead = None if step.rest is None else self._submit(known, partial(go_on, step.rest))
                for batch in step.batches:
                    yield batch
        finally:
            if ahead is not None:
                ahead.cancel()

    def _submit(self, known: KnownSeries, work: Callable[[BlockTable, KnownSeries], Step[T]]) -> Future[Step[T]]:
        return self._lane.submit(lambda con: work(self._table(con), known))

    def _first(
        self, window: TimeRange, after: RowKey | None, table: BlockTable, known: KnownSeries
    ) -> Step[pa.RecordBatch]:
        wanted = window if after is None else between(max(window.start, after.ts), window.end)
        if wanted is None:
            return Step([], None)
        step = self._next(wanted, table, known)
        return step if after is None else Step(resumed(step.batches, after), step.rest)

    def _next(self, window: TimeRange, table: BlockTable, known: KnownSeries) -> Step[pa.RecordBatch]:
        return read_step(table, known, window, self._most_rows[known.id.kind])

    def _several(self, window: TimeRange, table: BlockTable, known: KnownSeries) -> Step[pa.RecordBatch]:
        """Some steps as one; damage ends them, and is told by the next one if there are rows before it."""
        batches: list[pa.RecordBatch] = []
        rest: TimeRange | None = window
        for _ in range(STEPS_AHEAD):
            if rest is None:
                break
            try:
                step = self._next(rest, table, known)
            except CorruptPage:
                if not batches:
                    raise
                break
            batches += step.batches
            rest = step.rest
        return Step(batches, rest)

    def _table(self, con: sqlite3.Connection) -> BlockTable:
        return BlockTable(con, self._verified)
