"""Writes pages to QuestDB: rows first, then, when they are visible, the facts that cover them.

Theory of operation. What is committed while a group is being written makes the next group: one insert per kind of
rows, one wait until they are visible, one append to the journal. So pages that are in flight together share the
waits. Every answer's rows bear a number of their own, so rows whose fact was never written, or was superseded, count
for nobody, and writing them twice changes nothing.

Promises: a fact is appended only after its rows are visible to every reader. A commit whose caller is cancelled is
carried through.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field, replace
from secrets import randbits
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from historyd.coverage import subtract
from historyd.errors import StoreUnavailable
from historyd.model.series import Kind
from historyd.stores import blocks
from historyd.stores.questdb_journal import Record
from historyd.stores.questdb_link import SUSPENDED
from historyd.stores.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from historyd.coverage import Fact
    from historyd.model.rows import Quarantined
    from historyd.model.series import SeriesId
    from historyd.model.time_range import TimeRange
    from historyd.stores.questdb_journal import Journal
    from historyd.stores.questdb_link import Link
    from historyd.stores.questdb_options import Tables

_GROUP_ROWS: Final = 16_000
"""Rows of one group, unless a single page has more."""
_GROUPS: Final = 2
"""Groups under way at once: one is written while the one before becomes visible."""
_NUMBER_BITS: Final = 53
"""Of an answer's number; every number format holds so many exactly."""
_FIRST_POLL_S: Final = 0.001
_LONGEST_POLL_S: Final = 0.05
_STANDSTILL_S: Final = 30.0
"""If QuestDB applies nothing for so long, the rows are given up."""
_NAIVE: Final = pa.timestamp("us")


@dataclass(frozen=True, slots=True)
class Page:
    """One commit on its way.

    Attributes:
        series: what it is of.
        fact: what it answers.
        rows: all rows of the answer.
        quarantined: its rows that were set aside.
        said_again: older answers of which it only says that they still hold; their rows are not written again.
    """

    series: SeriesId
    fact: Fact
    rows: pa.RecordBatch
    quarantined: Sequence[Quarantined] = ()
    said_again: Sequence[Segment] = ()
    answer: int = field(default_factory=lambda: randbits(_NUMBER_BITS))
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def fresh(self) -> pa.RecordBatch:
        """The rows to write."""
        pieces = [blocks.cut(self.rows, part.start, part.end) for part in self._fresh_parts()]
        return blocks.join(pieces, self.series.kind)

    def columns(self) -> list[Sequence[Any]]:
        """The columns of the rows to write as the table has them."""
        rows = self.fresh()
        times, *values = rows.columns
        series, answer = [str(self.series)] * rows.num_rows, [self.answer] * rows.num_rows
        return [times.cast(_NAIVE).to_pylist(), series, *(value.to_pylist() for value in values), answer]

    def records(self) -> list[Record]:
        """What the journal says of it; its parts tile the fact's range."""
        asked_at, aside = self.fact.asked_at, len(self.quarantined)
        fresh = [
            Segment(part, asked_at, blocks.cut(self.rows, part.start, part.end).num_rows, self.answer, aside)
            for part in self._fresh_parts()
        ]
        again = [replace(segment, asked_at=asked_at) for segment in self.said_again]
        return [Record.fact(self.series, segment) for segment in (*fresh, *again)]

    def _fresh_parts(self) -> list[TimeRange]:
        return subtract(self.fact.range, [segment.range for segment in self.said_again])

    def set_aside(self) -> list[tuple[object, ...]]:
        """Its rows for the table of rows set aside."""
        span = self.fact.range
        name, answer = str(self.series), self.answer
        return [
            (name, answer, bad.ts if bad.ts is not None and bad.ts in span else span.start, bad.ts, bad.reason, bad.row)
            for bad in self.quarantined
        ]


class Writer:
    """Groups commits; `run` has to go on for as long as any are made."""

    def __init__(self, link: Link, sql: Mapping[str, str], tables: Tables, journal: Journal) -> None:
        self._link = link
        self._sql = sql
        self._names = {Kind.OHLCV: tables.bars, Kind.TRADES: tables.trades}
        self._journal = journal
        self._waiting: deque[Page] = deque()
        self._arrived = asyncio.Event()
        self._closed = False
        self._suspended: set[str] = set()

    async def commit(self, page: Page) -> None:
        """Returns when the page is visible and covered. Raises StoreUnavailable."""
        if self._closed:
            raise _closed()
        self._waiting.append(page)
        self._arrived.set()
        await asyncio.shield(page.done)

    async def run(self) -> None:
        """Writes what is committed until `close`; ends when what was begun has ended."""
        room = asyncio.Semaphore(_GROUPS)
        async with asyncio.TaskGroup() as groups:
            while True:
                await self._arrived.wait()
                await room.acquire()
                if self._closed:
                    return
                groups.create_task(self._write_one(self._take(), room))

    def close(self) -> None:
        """Refuses what waits and what comes."""
        self._closed = True
        while self._waiting:
            _fail(self._waiting.popleft(), _closed())
        self._arrived.set()

    def _take(self) -> list[Page]:
        group: list[Page] = []
        rows = 0
        while self._waiting and (not group or rows + self._waiting[0].rows.num_rows <= _GROUP_ROWS):
            group.append(self._waiting.popleft())
            rows += group[-1].rows.num_rows
        if not self._waiting:
            self._arrived.clear()
        return group

    async def _write_one(self, group: Sequence[Page], room: asyncio.Semaphore) -> None:
        try:
            await self._write(group)
        except Exception as error:  # noqa: BLE001 -- it is raised where the pages were committed
            for page in group:
                _fail(page, error)
        else:
            for page in group:
                if not page.done.done():
                    page.done.set_result(None)
        finally:
            room.release()

    async def _write(self, group: Sequence[Page]) -> None:
        aside = [row for page in group for row in page.set_aside()]
        if aside:
            await self._link.insert_in_turn(self._sql["put_set_aside"], aside)
        for kind, statement in ((Kind.OHLCV, "put_bars"), (Kind.TRADES, "put_trades")):
            pages = [page for page in group if page.series.kind is kind and page.fresh().num_rows]
            if pages:
                rows = await asyncio.to_thread(_table_rows, pages)
                await self._refuse_if_suspended(self._names[kind])
                await self._link.insert(self._sql[statement], rows)
                await self._visible(self._names[kind])
        await self._journal.append([record for page in group for record in page.records()])

    async def _refuse_if_suspended(self, table: str) -> None:
        """Asks only if it was suspended: such a table keeps what it is given, unseen, until its disk is full."""
        if table in self._suspended:
            await self._progress(table)
            self._suspended.discard(table)

    async def _visible(self, table: str) -> None:
        """Waits until all that was acknowledged can be read. Raises StoreUnavailable if it never will."""
        target, applied = await self._progress(table)
        pause = _FIRST_POLL_S
        clock = asyncio.get_running_loop().time
        moved_at, last = clock(), applied
        while applied < target:
            if clock() - moved_at > _STANDSTILL_S:
                raise StoreUnavailable("the store does not keep up with what is written", cause="too slow")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_POLL_S)
            _, applied = await self._progress(table)
            if applied != last:
                moved_at, last = clock(), applied

    async def _progress(self, table: str) -> tuple[int, int]:
        """The number of the last transaction acknowledged, and of the last one to be seen."""
        ((target, applied, suspended),) = await self._link.fetch(self._sql["progress"], table)
        if suspended:
            self._suspended.add(table)
            raise StoreUnavailable("the store's table is suspended: ask its operator", cause=SUSPENDED)
        return target, applied


def _table_rows(pages: Sequence[Page]) -> list[tuple[Any, ...]]:
    return [row for page in pages for row in zip(*page.columns(), strict=True)]


def _closed() -> StoreUnavailable:
    return StoreUnavailable("the store is closed", cause="closed")


def _fail(page: Page, error: Exception) -> None:
    if not page.done.done():
        page.done.set_exception(error)
        # Its caller may be gone; then nobody takes note of it.
        page.done.exception()
