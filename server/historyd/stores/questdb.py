"""The QuestDB store: where several servers share one history.

Bars and trades lie in one table each, what is known of them in a journal that all servers replay in one order (see
questdb_journal.py). Every question looks first whether others have appended, so a server knows all that was covered
before it was asked.

Promises: those of stores/base.py; any number of servers write at once. Never does: delete rows from the disk, which
QuestDB cannot: what is superseded or forgotten is gone for readers at once, its space is not given back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from historyd.errors import CorruptPage, OriginMismatch, StoreUnavailable
from historyd.model.page import Pages
from historyd.model.rows import Quarantined
from historyd.model.series import Kind
from historyd.model.time_range import EARLIEST, LATEST, TimeRange, between, to_datetime
from historyd.stores.base import StoredSeries
from historyd.stores.blocks import drop_through, join, times
from historyd.stores.questdb_journal import Journal, Record
from historyd.stores.questdb_link import open_link
from historyd.stores.questdb_reader import BATCH_ROWS, FEW_ROWS, WINDOW_ROWS, Reader, Window, open_reader, windows
from historyd.stores.questdb_repeats import comparable, said_again
from historyd.stores.questdb_revisions import find_revised, replacements
from historyd.stores.questdb_tables import prepare, statements
from historyd.stores.questdb_writer import Page, Writer
from historyd.stores.segments import part_count
from historyd.stores.spans import UNCOUNTED, clipped

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence

    import pyarrow as pa

    from historyd.coverage import Covered, Fact
    from historyd.model.page import Layout
    from historyd.model.rows import RowKey
    from historyd.model.series import SeriesId
    from historyd.model.venue import Origin
    from historyd.stores.base import Packer, Rows
    from historyd.stores.questdb_link import Link
    from historyd.stores.questdb_options import QuestDbOptions
    from historyd.stores.segments import Segment, Segments

_ROW_BYTES: Final[Mapping[Kind, int]] = {Kind.OHLCV: 60, Kind.TRADES: 80}
"""What a row takes in its table, about; the files belong to all series together."""
_AHEAD: Final = 2
"""Windows fetched at once by one read."""
_WRITES: Final = 3
"""A page is written again if its series was forgotten meanwhile."""
_ALWAYS: Final = TimeRange(EARLIEST, LATEST)


@asynccontextmanager
async def open_questdb(options: QuestDbOptions) -> AsyncIterator[QuestDbStore]:
    """Opens the store, making its tables if there are none.

    Raises StoreUnavailable, naming address or table, if QuestDB is away, refuses the login, or has a table of that
    name and another shape.
    """
    sql = statements(options.tables)
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(open_link(options))
        await prepare(link, sql, options.tables)
        journal = Journal(link, sql, str(uuid4()))
        await journal.begin()
        reader = await stack.enter_async_context(open_reader(options, link, sql, options.tables))
        writer = Writer(link, sql, options.tables, journal)
        await stack.enter_async_context(_running(writer))
        yield QuestDbStore(link, sql, journal, reader, writer)


@asynccontextmanager
async def _running(writer: Writer) -> AsyncIterator[None]:
    task = asyncio.create_task(writer.run())
    try:
        yield
    finally:
        writer.close()
        await task


class QuestDbStore:
    """A store in a QuestDB; made by `open_questdb`. Implements stores.base.Store."""

    def __init__(self, link: Link, sql: Mapping[str, str], journal: Journal, reader: Reader, writer: Writer) -> None:
        self._link = link
        self._sql = sql
        self._journal = journal
        self._reader = reader
        self._writer = writer
        self._opened: dict[SeriesId, tuple[Origin, Layout]] = {}

    @property
    def uuid(self) -> str:
        """Names this store for ever, to all its servers."""
        return self._journal.openings.uuid

    async def layout(self, series: SeriesId) -> Layout | None:
        """How the series is cut into pages; None if it was never written."""
        await self._journal.sync()
        return self._journal.openings.layouts.get(series)

    async def open_series(self, series: SeriesId, origin: Origin, layout: Layout) -> Layout:
        """Makes ready to write a series; the first opening in the journal's order holds, whoever wrote it.

        Raises OriginMismatch, StoreUnavailable.
        """
        openings = self._journal.openings
        await self._journal.sync()
        self._match_origin(series, origin)
        if series not in openings.layouts:
            await self._journal.append([Record.opening(series, origin, layout)])
            self._match_origin(series, origin)
        if series not in openings.layouts:
            raise StoreUnavailable("the series was forgotten while it was opened", cause="forgotten")
        self._opened[series] = (origin, layout)
        return openings.layouts[series]

    async def commit(
        self, series: SeriesId, fact: Fact, rows: pa.RecordBatch, quarantined: Sequence[Quarantined] = ()
    ) -> None:
        """Stores the rows of a range, its quarantined rows and its fact: visible to all servers when it returns.

        Once begun it is carried through even if the caller is cancelled. Raises StoreUnavailable; ValueError if the
        series was not opened or the rows are not the fact's.
        """
        stamps = times(rows)
        if len(stamps) != fact.row_count:
            raise ValueError(f"a fact of {fact.row_count} rows came with {len(stamps)}")
        if len(stamps) and not (stamps[0] in fact.range and stamps[-1] in fact.range):
            raise ValueError(f"rows lie outside of their fact's range {fact.range}")
        if series not in self._opened:
            raise ValueError(f"open_series comes before the first commit of {series}")
        for _ in range(_WRITES):
            if series not in self._journal.openings.layouts:
                # Another server has forgotten the series; for this one it goes on.
                await self.open_series(series, *self._opened[series])
            again = [] if quarantined else await self._said_again(series, fact, rows)
            await self._writer.commit(Page(series, fact, rows, quarantined, again))
            if series in self._journal.openings.layouts:
                return
        raise StoreUnavailable("the series is being forgotten while it is written", cause="forgotten")

    async def coverage(self, series: SeriesId, window: TimeRange) -> list[Covered]:
        """Maximal covered spans clipped to the window, ascending, each with its exact row count.

        All that was covered, by any server, before the call. Costs one small question to QuestDB, and more only for
        what is new and for spans with gaps that the window cuts.
        """
        segments = await self._settled(series)
        if segments is None:
            return []
        spans = clipped(segments.spans(), window, segments.grid)
        kept = {span.range: segments.touching(span.range) for span in spans if span.row_count == UNCOUNTED}
        counts = {span: await self._count(series, segments, span, parts) for span, parts in kept.items()}
        return [replace(span, row_count=counts.get(span.range, span.row_count)) for span in spans]

    async def read(
        self, series: SeriesId, window: TimeRange, after: RowKey | None = None
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """Rows of the window in key order, only those after `after`; all of one moment, however long it takes."""
        wanted = window if after is None else between(max(window.start, after.ts), window.end)
        segments = await self._journal.segments(series)
        if segments is None or wanted is None:
            return
        steps = windows(segments.touching(wanted), wanted, WINDOW_ROWS[series.kind])
        async for batch in self._stream(series, steps):
            kept = batch if after is None else drop_through(batch, after)
            if kept.num_rows:
                yield kept

    def read_packed(
        self,
        series: SeriesId,
        window: TimeRange,
        after: RowKey | None,
        packer: Packer,  # noqa: ARG002 -- what to fetch rows costs hides what to pack them does
    ) -> AsyncGenerator[Rows, None]:
        """As `read`; nothing is kept, so nothing comes packed."""
        return self.read(series, window, after)

    async def read_last(self, series: SeriesId, count: int, before: int) -> AsyncGenerator[pa.RecordBatch, None]:
        """The last `count` rows before `before`, in ascending key order, all of one moment."""
        segments = await self._settled(series)
        if segments is None:
            return
        found, have = await self._last_segments(series, segments, count, before)
        if not found:
            return
        span = TimeRange(found[0].range.start, min(found[-1].range.end, before))
        if series.kind is Kind.OHLCV and count <= FEW_ROWS:
            table = await self._reader.last(series, found, span, count)
            if table is not None:
                for batch in table.combine_chunks().to_batches(BATCH_ROWS[series.kind]):
                    yield batch
                return
        skip = have - min(count, have)
        async for batch in self._stream(series, windows(found, span, WINDOW_ROWS[series.kind])):
            kept = batch.slice(min(skip, batch.num_rows))
            skip -= batch.num_rows - kept.num_rows
            if kept.num_rows:
                yield kept

    async def quarantined_count(self, series: SeriesId, window: TimeRange) -> int:
        """How many rows of the window were set aside."""
        return len(await self.quarantined(series, window))

    async def quarantined(self, series: SeriesId, window: TimeRange) -> list[Quarantined]:
        """The rows of the window that were set aside."""
        segments = await self._journal.segments(series)
        counting = [segment for segment in segments.touching(window) if segment.set_aside] if segments else []
        if not counting:
            return []
        rows = await self._link.fetch(self._sql["set_aside_in"], str(series), window.start, window.end)
        found = [
            Quarantined(ts, reason, content, at)
            for at, answer, ts, reason, content in rows
            if any(at in segment.range and answer == segment.answer for segment in counting)
        ]
        return sorted(found, key=lambda bad: bad.at or 0)

    async def revised(self, series: SeriesId, window: TimeRange) -> list[int]:
        """The times of the window that a newer answer revised, ascending; found anew each time that it is asked."""
        records = await self._journal.records(series, window)
        layout = self._journal.openings.layouts.get(series)
        if layout is None:
            return []
        replaced = replacements(records, series, layout)
        return await find_revised(self._link, self._sql, series, replaced, window)

    async def origin(self, exchange: str) -> Origin | None:
        """Where the exchange's history comes from; None if nothing of it is stored."""
        await self._journal.sync()
        return self._journal.openings.origins.get(exchange)

    async def list_series(self, pattern: str, after: str, limit: int) -> list[StoredSeries]:
        """Series whose id is greater than `after` and matches the pattern (`*`, `?`), by id, at most `limit`."""
        await self._journal.sync()
        # fnmatch knows sets in brackets too; the contract does not.
        glob = pattern.replace("[", "[[]")
        names = {str(series): series for series in self._journal.openings.layouts}
        chosen = sorted(name for name in names if name > after and fnmatchcase(name, glob))[:limit]
        return [await self._describe(names[name]) for name in chosen]

    async def forget(self, series: SeriesId, window: TimeRange | None = None) -> int:
        """Makes rows, quarantine and facts of the window (None: all, the layout too) as if they had never been.

        Returns how many rows that were; they stay on the disk, where nobody reads them.
        """
        segments = await self._settled(series)
        if segments is None:
            return 0
        span = window or _ALWAYS
        removed = await self._count(series, segments, span, segments.touching(span))
        await self._journal.append([Record.forgetting(series, window)])
        if window is None:
            self._opened.pop(series, None)
        return removed

    def _match_origin(self, series: SeriesId, origin: Origin) -> None:
        stored = self._journal.openings.origins.get(series.exchange)
        if stored is not None and stored != origin:
            raise OriginMismatch(series.exchange, str(stored), str(origin))

    async def _said_again(self, series: SeriesId, fact: Fact, rows: pa.RecordBatch) -> list[Segment]:
        """What counts already and is in this answer too. Only known to spare room: if it cannot be read, nothing."""
        known, layout = self._journal.known(series), self._journal.openings.layouts.get(series)
        if known is None or layout is None or series.kind is not Kind.OHLCV:
            return []
        segments = comparable(known.touching(fact.range), fact.range)
        if not segments:
            return []
        extent = TimeRange(segments[0].range.start, segments[-1].range.end)
        try:
            stored = await self._reader.fetch(series, Window(tuple(segments), extent))
        except (StoreUnavailable, CorruptPage):
            return []
        kept = said_again(segments, join(stored, series.kind), rows)
        pages = Pages.of(series, layout)
        is_full = pages.at(pages.number_of(fact.range.start)) == fact.range
        # A page that grows no more is written as one, lest its parts be remembered for ever.
        return kept if not is_full or [segment.range for segment in kept] == [fact.range] else []

    async def _settled(self, series: SeriesId) -> Segments | None:
        """The answers of a series, up to date and all counted; None if it is not open."""
        segments = await self._journal.segments(series)
        while segments is not None and (unknown := segments.uncounted()):
            for segment in unknown:
                segments.counted(segment, await self._look(series, segment, segment.range))
            segments = self._journal.known(series)
        return segments

    async def _look(self, series: SeriesId, segment: Segment, span: TimeRange) -> int:
        """How many rows of an answer lie in a span."""
        statement = self._sql["count_bars" if series.kind is Kind.OHLCV else "count_trades"]
        bounds = (_naive(span.start), _naive(span.end))
        ((count,),) = await self._link.fetch(statement, str(series), *bounds, segment.answer)
        return int(count)

    async def _count(self, series: SeriesId, segments: Segments, window: TimeRange, parts: Sequence[Segment]) -> int:
        total = 0
        for segment in parts:
            part = segment.range.intersect(window)
            assert part is not None
            count = part_count(segment, part, segments.grid)
            total += await self._look(series, segment, part) if count == UNCOUNTED else count
        return total

    async def _last_segments(
        self, series: SeriesId, segments: Segments, count: int, before: int
    ) -> tuple[list[Segment], int]:
        """The last segments with rows that hold `count` rows before `before`, ascending, and how many they hold."""
        span = between(EARLIEST, before)
        found: list[Segment] = []
        have = 0
        for segment in reversed(segments.touching(span) if span is not None else []):
            if have >= count:
                break
            rows = await self._count(series, segments, TimeRange(EARLIEST, before), [segment])
            if rows:
                found.append(segment)
                have += rows
        return found[::-1], have

    async def _stream(self, series: SeriesId, steps: Iterator[Window]) -> AsyncGenerator[pa.RecordBatch, None]:
        """The batches of all windows; the next ones are fetched while one is handed out."""
        ahead: deque[asyncio.Task[list[pa.RecordBatch]]] = deque()
        try:
            while self._fill(ahead, series, steps):
                batches = await ahead[0]
                ahead.popleft()
                self._fill(ahead, series, steps)
                for batch in batches:
                    yield batch
        finally:
            for task in ahead:
                task.cancel()
            # What went wrong with those that nobody waits for any more is of no interest.
            await asyncio.gather(*ahead, return_exceptions=True)

    def _fill(
        self, ahead: deque[asyncio.Task[list[pa.RecordBatch]]], series: SeriesId, steps: Iterator[Window]
    ) -> bool:
        """Has as many windows fetched as may be under way; whether there are any."""
        while len(ahead) < _AHEAD and (window := next(steps, None)) is not None:
            ahead.append(asyncio.create_task(self._reader.fetch(series, window)))
        return bool(ahead)

    async def _describe(self, series: SeriesId) -> StoredSeries:
        segments = await self._settled(series)
        kept = segments.all() if segments is not None else []
        filled = [segment for segment in kept if segment.row_count]
        rows = sum(segment.row_count for segment in filled)
        first = last = None
        if filled:
            first, _ = await self._ends(series, filled[0])
            _, last = await self._ends(series, filled[-1])
        covered = TimeRange(kept[0].range.start, kept[-1].range.end) if kept else None
        return StoredSeries(series, first, last, rows, rows * _ROW_BYTES[series.kind], covered)

    async def _ends(self, series: SeriesId, segment: Segment) -> tuple[int, int]:
        statement = self._sql["ends_bars" if series.kind is Kind.OHLCV else "ends_trades"]
        bounds = (_naive(segment.range.start), _naive(segment.range.end))
        ((first, last),) = await self._link.fetch(statement, str(series), *bounds, segment.answer)
        return first, last


def _naive(instant: int) -> Any:
    return to_datetime(instant).replace(tzinfo=None)
