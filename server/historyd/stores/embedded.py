"""The embedded store: one SQLite file, no server to start.

Rows lie in blocks of Arrow IPC, facts beside them, both written in one transaction by one thread. Reads run in
threads of their own, a few steps at a time. What is covered and how series are cut is kept in memory as of the last
commit: this process is the file's only writer, so nobody else can change it.

Promises: those of stores/base.py; other processes may read the file while this one writes; a second writer is
refused. Never does: hold a snapshot or a connection between two steps of a read.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from historyd.errors import CorruptPage, StoreUnavailable
from historyd.model.page import Pages
from historyd.model.rows import Quarantined
from historyd.model.series import Kind, SeriesId
from historyd.model.time_range import TimeRange, between
from historyd.model.venue import Origin
from historyd.stores.base import StoredSeries
from historyd.stores.block_table import Block, BlockTable, KnownSeries
from historyd.stores.blocks import BlockForm, times
from historyd.stores.lane import Lane
from historyd.stores.ledger import Ledger, all_series, covered_spans
from historyd.stores.packs import Packs
from historyd.stores.spans import UNCOUNTED, clipped
from historyd.stores.sqlite import SQL, LogBound, check, connect, give_back, prepare, sole_writer
from historyd.stores.steps import Packing, Step, last_step, packed_step, read_step, resumed
from historyd.stores.tails import MOST_ROWS, Tail, Tails

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    import pyarrow as pa

    from historyd.coverage import Covered, Fact
    from historyd.model.page import Layout
    from historyd.model.rows import RowKey
    from historyd.stores.base import Packer, Rows

T = TypeVar("T")

_READERS: Final = 4
"""Threads that read; a step takes about a millisecond, so a few serve many streams."""
_ROOM: Final = 5 / 4
"""A batch may hold so many times a full block's rows, so that a remainder travels with the block before it."""
STEPS_AHEAD: Final = 3
"""Steps that a thread does in one go while rows are handed out: to wake it costs about as much as one of them."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on the disk: the file, its write-ahead log, and what of the file is free for new rows."""

    file_bytes: int
    log_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Writing:
    """What a store that writes has besides: its one thread, what that knows, the bound of its log."""

    lane: Lane
    ledger: Ledger
    log: LogBound


@asynccontextmanager
async def open_embedded(
    path: Path, *, readonly: bool = False, form: BlockForm | None = None
) -> AsyncIterator[EmbeddedStore]:
    """Opens the store in file `path`, made if there is none unless `readonly`; its directory must exist.

    `form` is how new rows are laid down, the default being the measured best; any form can be read. Raises
    StoreUnavailable, naming the file, if it cannot be opened, is newer than this code, is no store of ours, or has
    a writer already. A readonly store refuses to write and sees what another process writes.
    """
    form = form or BlockForm()
    verified: set[tuple[int, int]] = set()
    readers = Lane("store-read", _READERS, partial(connect, path, readonly=True))
    writer = Lane("store-write", 1, partial(connect, path, readonly=False))
    with nullcontext() if readonly else sole_writer(path):
        # The writer is closed last: whoever closes last folds the log into the file, and readers may not.
        async with writer, readers:
            writing = None
            if not readonly:
                await asyncio.to_thread(prepare, path)
                ledger = await writer.run(lambda con: Ledger(con, verified, form))
                writing = Writing(writer, ledger, LogBound(path))
            uuid = await readers.run(partial(_identify, path))
            yield EmbeddedStore(path, uuid, readers, writing, form, verified)


class EmbeddedStore:
    """A store in one file; made by `open_embedded`. Implements stores.base.Store."""

    def __init__(
        self,
        path: Path,
        uuid: str,
        readers: Lane,
        writing: Writing | None,
        form: BlockForm,
        verified: set[tuple[int, int]],
    ) -> None:
        self._path = path
        self._uuid = uuid
        self._readers = readers
        self._writing = writing
        self._most_rows = {kind: int(rows * _ROOM) for kind, rows in form.full_rows.items()}
        self._verified = verified
        self._tails = Tails()
        self._packs = Packs()

    @property
    def uuid(self) -> str:
        """Names this store for ever, wherever its file is moved."""
        return self._uuid

    async def layout(self, series: SeriesId) -> Layout | None:
        """How the series is cut into pages; None if it was never written."""
        known = await self._find(series)
        return None if known is None else known.layout

    async def open_series(self, series: SeriesId, origin: Origin, layout: Layout) -> Layout:
        """Makes ready to write a series; the first caller's layout holds. Raises OriginMismatch, StoreUnavailable."""
        writing = self._may_write()
        known = await writing.lane.run_whole(lambda _con: writing.ledger.open_series(series, origin, layout))
        return known.layout

    async def commit(
        self, series: SeriesId, fact: Fact, rows: pa.RecordBatch, quarantined: Sequence[Quarantined] = ()
    ) -> None:
        """Stores the rows of a range, its quarantined rows and its fact, on the disk when it returns.

        Once begun it is carried through even if the caller is cancelled. Raises StoreUnavailable; CorruptPage if
        it has to cut a damaged block; ValueError if the series was not opened or the rows are not the fact's.
        """
        stamps = times(rows)
        if len(stamps) != fact.row_count:
            raise ValueError(f"a fact of {fact.row_count} rows came with {len(stamps)}")
        if len(stamps) and not (stamps[0] in fact.range and stamps[-1] in fact.range):
            raise ValueError(f"rows lie outside of their fact's range {fact.range}")
        writing = self._may_write()

        def work(con: sqlite3.Connection) -> None:
            writing.ledger.commit(series, fact, rows, quarantined)
            writing.log.check(con)

        await writing.lane.run_whole(work)

    async def coverage(self, series: SeriesId, window: TimeRange) -> list[Covered]:
        """Maximal covered spans clipped to the window, ascending, each with its exact row count.

        From memory, but for the first time a series is asked for and spans with gaps that the window cuts.
        """
        known = await self._find(series)
        if known is None:
            return []
        grid = Pages.of(series, known.layout).grid if series.kind is Kind.OHLCV else None
        spans = clipped(await self._spans(known), window, grid)
        cut = [span.range for span in spans if span.row_count == UNCOUNTED]
        if not cut:
            return spans
        counts = iter(await self._readers.run(lambda con: self._count(con, known, cut)))
        return [replace(span, row_count=next(counts)) if span.row_count == UNCOUNTED else span for span in spans]

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
        async with aclosing(self._packed(series, window, after, packing)) as found:
            async for rows in found:
                packed = packing.kept(rows) if isinstance(rows, Block) else rows
                if packed is not None:
                    yield packed
                    continue
                # It was driven out since its step named it.
                assert isinstance(rows, Block)
                async with aclosing(self.read(series, TimeRange(rows.first_ts, rows.last_ts + 1))) as batches:
                    async for batch in batches:
                        yield batch

    def _packed(
        self, series: SeriesId, window: TimeRange, after: RowKey | None, packing: Packing
    ) -> AsyncGenerator[Rows | Block, None]:
        """The rows of the window; blocks whose packs are kept by name."""

        def go_on(
            rest: TimeRange, table: BlockTable, known: KnownSeries, most_loads: int = STEPS_AHEAD
        ) -> Step[Rows | Block]:
            return packed_step(table, known, rest, self._most_rows[known.id.kind], packing, most_loads)

        def begin(table: BlockTable, known: KnownSeries) -> Step[Rows | Block]:
            if after is None:
                return go_on(window, table, known, most_loads=1)
            step = self._first(window, after, table, known)
            return Step([*step.batches], step.rest)

        return self._stream(series, begin, go_on)

    async def read_last(self, series: SeriesId, count: int, before: int) -> AsyncGenerator[pa.RecordBatch, None]:
        """The last `count` rows before `before`, in ascending key order; a few steps are in memory.

        From memory if nothing was written to the series since the same was asked.
        """
        tail = self._tail_before(series, before)
        kept = None if tail is None else self._tails.get(tail, count)
        if kept is not None:
            yield kept
            return
        most_rows = self._most_rows[series.kind]
        begin = partial(last_step, count=count, end=before, most_rows=most_rows)
        steps = self._stream(series, begin, self._several)
        async with aclosing(steps) as batches:
            async for batch in batches:
                yield batch
                if tail is not None and batch.num_rows == count <= MOST_ROWS:
                    self._tails.keep(tail, batch)

    async def quarantined_count(self, series: SeriesId, window: TimeRange) -> int:
        """How many rows of the window were set aside."""
        known = await self._find(series)
        if known is None or (self._writing and not self._writing.ledger.quarantined.get(known.number)):
            return 0
        bounds = {"series": known.number, "since": window.start, "until": window.end}
        rows = await self._readers.run(lambda con: con.execute(SQL["count_quarantined"], bounds).fetchall())
        return int(rows[0][0])

    async def quarantined(self, series: SeriesId, window: TimeRange) -> list[Quarantined]:
        """The rows of the window that were set aside."""
        known = await self._find(series)
        if known is None:
            return []
        bounds = {"series": known.number, "since": window.start, "until": window.end}
        rows = await self._readers.run(lambda con: con.execute(SQL["quarantined_in"], bounds).fetchall())
        return [Quarantined(*row) for row in rows]

    async def revised(self, series: SeriesId, window: TimeRange) -> list[int]:
        """The times of the window that a newer answer revised, ascending; noted when that was committed.

        Where the older rows were damaged, nothing is noted.
        """
        known = await self._find(series)
        if known is None:
            return []
        bounds = {"series": known.number, "since": window.start, "until": window.end}
        rows = await self._readers.run(lambda con: con.execute(SQL["revised_in"], bounds).fetchall())
        return [at for (at,) in rows]

    async def origin(self, exchange: str) -> Origin | None:
        """Where the exchange's history comes from; None if nothing of it is stored."""
        named = {"exchange": exchange}
        rows = await self._readers.run(lambda con: con.execute(SQL["get_origin"], named).fetchall())
        return Origin(rows[0][0], bool(rows[0][1])) if rows else None

    async def list_series(self, pattern: str, after: str, limit: int) -> list[StoredSeries]:
        """Series whose id is greater than `after` and matches the pattern (`*`, `?`), by id, at most `limit`."""
        # GLOB knows sets in brackets too; the contract does not.
        asked = {"pattern": pattern.replace("[", "[[]"), "after": after, "limit": limit}
        rows = await self._readers.run(lambda con: con.execute(SQL["list_series"], asked).fetchall())
        return [
            StoredSeries(SeriesId.parse(name), first, last, row_count, byte_count, _range(since, until))
            for name, first, last, row_count, byte_count, since, until in rows
        ]

    async def forget(self, series: SeriesId, window: TimeRange | None = None) -> int:
        """Removes rows, quarantine and facts of the window (None: all, the layout too); returns the rows removed.

        Space that becomes free is given back to the file system.
        """
        writing = self._may_write()

        def work(con: sqlite3.Connection) -> int:
            removed = writing.ledger.forget(series, window)
            give_back(con)
            return removed

        return await writing.lane.run_whole(work)

    async def usage(self) -> Usage:
        """What the store takes on the disk."""
        return await self._readers.run(partial(_usage, self._path))

    def _tail_before(self, series: SeriesId, instant: int) -> Tail | None:
        """The tail of a series as of now, if it is known to have no row at or after the instant."""
        if self._writing is None:
            return None
        ledger = self._writing.ledger
        known = ledger.known.get(series)
        spans = ledger.spans.get(known.number) if known is not None else None
        if known is None or not spans or spans[-1].range.end > instant:
            return None
        return Tail(known.number, ledger.versions.get(known.number, 0))

    def _may_write(self) -> Writing:
        if self._writing is None:
            raise StoreUnavailable("the store was opened for reading only", cause="read-only")
        return self._writing

    async def _find(self, series: SeriesId) -> KnownSeries | None:
        if self._writing is not None:
            return self._writing.ledger.known.get(series)
        return (await self._readers.run(all_series)).get(series)

    async def _spans(self, known: KnownSeries) -> Sequence[Covered]:
        if self._writing is None:
            return await self._readers.run(lambda con: covered_spans(con, known))
        ledger = self._writing.ledger
        spans = ledger.spans.get(known.number)
        if spans is None:
            # On the writer's thread, so that no commit comes between reading them and keeping them.
            spans = await self._writing.lane.run(lambda _con: ledger.covered(known))
        return spans

    async def _stream(
        self,
        series: SeriesId,
        begin: Callable[[BlockTable, KnownSeries], Step[T]],
        go_on: Callable[[TimeRange, BlockTable, KnownSeries], Step[T]],
    ) -> AsyncGenerator[T, None]:
        """The batches of the first step and of all that follow, which are read while those before are handed out."""
        known = await self._find(series)
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
        return self._readers.submit(lambda con: work(self._table(con), known))

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

    def _count(self, con: sqlite3.Connection, known: KnownSeries, windows: Sequence[TimeRange]) -> list[int]:
        table = self._table(con)
        with table.snapshot():  # else a block may be joined with others before it is read
            return [table.count(known, window) for window in windows]

    def _table(self, con: sqlite3.Connection) -> BlockTable:
        return BlockTable(con, self._verified)


def _identify(path: Path, con: sqlite3.Connection) -> str:
    check(con, path)
    (uuid,) = con.execute(SQL["get_uuid"]).fetchone()
    return str(uuid)


def _usage(path: Path, con: sqlite3.Connection) -> Usage:
    log = path.with_name(path.name + "-wal")
    (page_bytes,) = con.execute("PRAGMA page_size").fetchone()
    (free_pages,) = con.execute("PRAGMA freelist_count").fetchone()
    log_bytes = log.stat().st_size if log.exists() else 0
    return Usage(path.stat().st_size, log_bytes, page_bytes * free_pages)


def _range(since: int | None, until: int | None) -> TimeRange | None:
    return None if since is None or until is None else TimeRange(since, until)
