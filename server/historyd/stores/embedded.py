"""The embedded store: one SQLite file, no server to start.

Rows lie in blocks of Arrow IPC, facts beside them, both written in one transaction by one thread. Reads run in
threads of their own, a few steps at a time. What is covered and how series are cut is kept in memory as of the last
commit: this process is the file's only writer, so nobody else can change it.

Promises: those of stores/base.py; other processes may read the file while this one writes; a second writer is
refused. Never does: hold a snapshot or a connection between two steps of a read.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from historyd.errors import StoreUnavailable
from historyd.model.page import Pages
from historyd.model.rows import Quarantined
from historyd.model.series import Kind, SeriesId
from historyd.model.time_range import TimeRange
from historyd.model.venue import Origin
from historyd.stores.base import StoredSeries
from historyd.stores.block_table import BlockTable, KnownSeries
from historyd.stores.blocks import BlockForm, times
from historyd.stores.embedded_reader import EmbeddedReader
from historyd.stores.lane import Lane
from historyd.stores.ledger import Ledger, covered_spans
from historyd.stores.spans import UNCOUNTED, clipped
from historyd.stores.sqlite import SQL, LogBound, check, connect, give_back, prepare, sole_writer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from historyd.coverage import Covered, Fact
    from historyd.model.page import Layout
    from historyd.model.rows import RowKey
    from historyd.stores.base import Packer, Rows

_READERS: Final = 4
"""Threads that read; a step takes about a millisecond, so a few serve many streams."""


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
        self._verified = verified
        self._reader = EmbeddedReader(readers, None if writing is None else writing.ledger, form, verified)

    @property
    def uuid(self) -> str:
        """Names this store for ever, wherever its file is moved."""
        return self._uuid

    async def layout(self, series: SeriesId) -> Layout | None:
        """How the series is cut into pages; None if it was never written."""
        known = await self._reader.find(series)
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
        known = await self._reader.find(series)
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
        return self._reader.read(series, window, after)

    def read_packed(
        self, series: SeriesId, window: TimeRange, after: RowKey | None, packer: Packer
    ) -> AsyncGenerator[Rows, None]:
        """As `read`; blocks that are read again and again come as the packer made them."""
        return self._reader.read_packed(series, window, after, packer)

    def read_last(self, series: SeriesId, count: int, before: int) -> AsyncGenerator[pa.RecordBatch, None]:
        """The last `count` rows before `before`, in ascending key order; a few steps are in memory."""
        return self._reader.read_last(series, count, before)

    async def quarantined_count(self, series: SeriesId, window: TimeRange) -> int:
        """How many rows of the window were set aside."""
        known = await self._reader.find(series)
        if known is None or (self._writing and not self._writing.ledger.quarantined.get(known.number)):
            return 0
        bounds = {"series": known.number, "since": window.start, "until": window.end}
        rows = await self._readers.run(lambda con: con.execute(SQL["count_quarantined"], bounds).fetchall())
        return int(rows[0][0])

    async def quarantined(self, series: SeriesId, window: TimeRange) -> list[Quarantined]:
        """The rows of the window that were set aside."""
        known = await self._reader.find(series)
        if known is None:
            return []
        bounds = {"series": known.number, "since": window.start, "until": window.end}
        rows = await self._readers.run(lambda con: con.execute(SQL["quarantined_in"], bounds).fetchall())
        return [Quarantined(*row) for row in rows]

    async def revised(self, series: SeriesId, window: TimeRange) -> list[int]:
        """The times of the window that a newer answer revised, ascending; noted when that was committed.

        Where the older rows were damaged, nothing is noted.
        """
        known = await self._reader.find(series)
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

    def _may_write(self) -> Writing:
        if self._writing is None:
            raise StoreUnavailable("the store was opened for reading only", cause="read-only")
        return self._writing

    async def _spans(self, known: KnownSeries) -> Sequence[Covered]:
        if self._writing is None:
            return await self._readers.run(lambda con: covered_spans(con, known))
        ledger = self._writing.ledger
        spans = ledger.spans.get(known.number)
        if spans is None:
            # On the writer's thread, so that no commit comes between reading them and keeping them.
            spans = await self._writing.lane.run(lambda _con: ledger.covered(known))
        return spans

    def _count(self, con: sqlite3.Connection, known: KnownSeries, windows: Sequence[TimeRange]) -> list[int]:
        table = BlockTable(con, self._verified)
        with table.snapshot():  # else a block may be joined with others before it is read
            return [table.count(known, window) for window in windows]


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
