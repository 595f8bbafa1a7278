"""Reads rows from QuestDB: large ranges as Parquet over HTTP, a window at a time, small ones over PostgreSQL's wire.

Theory of operation. Tables hold the rows of all answers, also of those that count no more. Which one counts where is
known from the journal, with the number of its rows. A bulk read asks for whole segments and compares the counts: equal
means that nothing else lies there. Only where they differ, or a segment was cut, are the rows asked for again with the
answers' numbers, and those that do not count are left out.

Promises: no connection is held between two windows, so a reader that stalls for minutes holds memory for two of them
and nothing else; rows that should be there and are not raise CorruptPage.
"""

from __future__ import annotations

import asyncio
import io
from bisect import bisect_left
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from historyd.errors import CorruptPage, StoreUnavailable
from historyd.model.rows import SCHEMAS
from historyd.model.series import Kind
from historyd.model.time_range import TimeRange, to_datetime
from historyd.stores.questdb_tables import ANSWERS
from historyd.stores.spans import UNCOUNTED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from historyd.model.series import SeriesId
    from historyd.stores.questdb_link import Link
    from historyd.stores.questdb_options import QuestDbOptions, Tables
    from historyd.stores.segments import Segment

WINDOW_ROWS: Final[Mapping[Kind, int]] = {Kind.OHLCV: 44_640, Kind.TRADES: 30_000}
"""Rows asked for at once; measured best for bars."""
BATCH_ROWS: Final[Mapping[Kind, int]] = {Kind.OHLCV: 16_384, Kind.TRADES: 8_192}
"""Most rows of a batch: about one frame on the wire."""
FEW_ROWS: Final = 1_000
"""Up to so many rows come over PostgreSQL's wire: the two are equal at 1,000, Parquet is twice as fast at 5,000."""
_CONNECT_S: Final = 5.0
_SILENCE_S: Final = 60.0
_IDLE_S: Final = 4.0
_TOO_MANY: Final = 429
_TRIES: Final = 40
_PAUSE_S: Final = 0.25
_CONNECTIONS: Final = 16
_GUESS: Final = 1_000
"""Taken for the rows of a segment that were not counted."""


@dataclass(frozen=True, slots=True)
class Window:
    """Rows to ask for at once: those of the segments, of these only what lies in `wanted`."""

    segments: tuple[Segment, ...]
    wanted: TimeRange

    @property
    def row_count(self) -> int:
        """About how many rows its segments have."""
        return sum(_guess(segment) for segment in self.segments)

    @property
    def countable(self) -> bool:
        """Whether every segment is all of an answer and its rows were counted."""
        return all(segment.whole and segment.row_count != UNCOUNTED for segment in self.segments)

    @property
    def extent(self) -> TimeRange:
        """From the first segment's start to the last one's end."""
        return TimeRange(self.segments[0].range.start, self.segments[-1].range.end)


def windows(segments: Sequence[Segment], wanted: TimeRange, most_rows: int) -> Iterator[Window]:
    """Cuts what is wanted into windows of about `most_rows` rows; segments without rows are left out."""
    group: list[Segment] = []
    rows = 0
    for segment in segments:
        if segment.row_count == 0:
            continue
        if group and rows + _guess(segment) > most_rows:
            yield _window(group, wanted)
            group, rows = [], 0
        group.append(segment)
        rows += _guess(segment)
    if group:
        yield _window(group, wanted)


def _window(group: Sequence[Segment], wanted: TimeRange) -> Window:
    part = TimeRange(group[0].range.start, group[-1].range.end).intersect(wanted)
    assert part is not None
    return Window(tuple(group), part)


def _guess(segment: Segment) -> int:
    return _GUESS if segment.row_count == UNCOUNTED else segment.row_count


class Reader:
    """Fetches windows. Made by `open_reader`."""

    def __init__(
        self, link: Link, http: aiohttp.ClientSession, url: str, sql: Mapping[str, str], tables: Tables
    ) -> None:
        self._link = link
        self._http = http
        self._url = f"{url}/exp"
        self._sql = sql
        self._names = {Kind.OHLCV: tables.bars, Kind.TRADES: tables.trades}

    async def fetch(self, series: SeriesId, window: Window) -> list[pa.RecordBatch]:
        """The rows of a window that count, in order. Raises StoreUnavailable, CorruptPage."""
        if window.row_count <= FEW_ROWS:
            table = await self._few(series, window.extent)
        elif window.countable:
            table = await self._bulk(series, window.extent, SCHEMAS[series.kind].names)
            found = await asyncio.to_thread(_counted, series, window, table)
            if found is not None:
                return found
            table = await self._bulk(series, window.extent, [*SCHEMAS[series.kind].names, "answer"])
        else:
            table = await self._bulk(series, window.extent, [*SCHEMAS[series.kind].names, "answer"])
        return await asyncio.to_thread(_chosen, series, window, table)

    async def last(self, series: SeriesId, segments: Sequence[Segment], span: TimeRange, count: int) -> pa.Table | None:
        """The last `count` bars of a span; None if too many answers, or rows that do not count, are among them."""
        answers = list({segment.answer for segment in segments})
        if len(answers) > ANSWERS:
            return None
        bounds = (_naive(span.start), _naive(span.end))
        named = answers + answers[:1] * (ANSWERS - len(answers))
        rows = await self._link.fetch(self._sql["last_bars"], str(series), *bounds, count, *named)
        table = _table(series.kind, rows[::-1])
        kept = _batches(series, Window(tuple(segments), span), _live(table, segments), table.num_rows + 1)
        whole = sum(batch.num_rows for batch in kept) == table.num_rows
        return pa.Table.from_batches(kept, SCHEMAS[series.kind]) if whole else None

    async def _few(self, series: SeriesId, span: TimeRange) -> pa.Table:
        statement = self._sql["few_bars" if series.kind is Kind.OHLCV else "few_trades"]
        rows = await self._link.fetch(statement, str(series), _naive(span.start), _naive(span.end))
        return _table(series.kind, rows)

    async def _bulk(self, series: SeriesId, span: TimeRange, columns: Sequence[str]) -> pa.Table:
        # Values cannot be bound here; a doubled quote is all that QuestDB needs inside a text.
        name = str(series).replace("'", "''")
        query = (
            f"SELECT {', '.join(columns)} FROM {self._names[series.kind]} "  # noqa: S608 -- names are checked
            f"WHERE series = '{name}' AND ts >= {span.start} AND ts < {span.end}"
        )
        content = await self._export(query)
        return await asyncio.to_thread(_parse, content)

    async def _export(self, query: str) -> bytes:
        for _ in range(_TRIES):
            try:
                async with self._http.get(self._url, params={"query": query, "fmt": "parquet"}) as answer:
                    content = await answer.read()
                    status = answer.status
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise StoreUnavailable("the store's bulk reads are away", cause="bulk reads") from error
            if status == 200:
                return content
            if status != _TOO_MANY:
                cause = "login refused" if status in {401, 403} else "bulk reads"
                raise StoreUnavailable(f"the store's bulk reads answered {status}", cause=cause)
            await asyncio.sleep(_PAUSE_S)
        raise StoreUnavailable("the store has too many bulk reads under way", cause="too many reads")


@asynccontextmanager
async def open_reader(
    options: QuestDbOptions, link: Link, sql: Mapping[str, str], tables: Tables
) -> AsyncIterator[Reader]:
    """A reader for as long as the block lasts."""
    headers = {"Authorization": aiohttp.encode_basic_auth(*options.http_login)}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
    # QuestDB keeps an idle connection for 5 s.
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_IDLE_S)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as http:
        yield Reader(link, http, options.http_url, sql, tables)


def _parse(content: bytes) -> pa.Table:
    try:
        return pq.read_table(io.BytesIO(content), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise StoreUnavailable("the store's bulk reads are broken off", cause="bulk reads") from error


def _table(kind: Kind, rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Rows of PostgreSQL's wire, their times in microseconds, as a table with the answers' numbers."""
    schema = SCHEMAS[kind].append(pa.field("answer", pa.int64()))
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    stamps = pa.array(columns[0], pa.int64()).cast(schema.field("ts").type)
    values = [pa.array(column, field.type) for column, field in zip(columns[1:], list(schema)[1:], strict=True)]
    return pa.Table.from_arrays([stamps, *values], schema=schema)


def _naive(instant: int) -> Any:
    return to_datetime(instant).replace(tzinfo=None)


def _counted(series: SeriesId, window: Window, table: pa.Table) -> list[pa.RecordBatch] | None:
    """The rows, if every segment has as many as its answer; None if not."""
    batch = _one_batch(table)
    stamps = _stamps(batch)
    kept: list[tuple[int, int]] = []
    for segment in window.segments:
        first = bisect_left(stamps, segment.range.start, kept[-1][1] if kept else 0)
        last = bisect_left(stamps, segment.range.end, first, min(len(stamps), first + segment.row_count + 1))
        if last - first != segment.row_count:
            return None
        kept.append((first, last))
    return _batches(series, window, _pieces(batch, kept), BATCH_ROWS[series.kind])


def _chosen(series: SeriesId, window: Window, table: pa.Table) -> list[pa.RecordBatch]:
    """The rows that bear their segment's number. Raises CorruptPage if some are missing."""
    live = _live(table, window.segments)
    for segment, piece in zip(window.segments, live, strict=True):
        if segment.row_count not in {UNCOUNTED, piece.num_rows}:
            raise CorruptPage(str(series), str(segment.range))
    return _batches(series, window, live, BATCH_ROWS[series.kind])


def _live(table: pa.Table, segments: Sequence[Segment]) -> list[pa.RecordBatch]:
    """For each segment its rows."""
    batch = _one_batch(table)
    stamps = _stamps(batch)
    answers = batch.column("answer")
    live: list[pa.RecordBatch] = []
    for segment in segments:
        first = bisect_left(stamps, segment.range.start)
        last = bisect_left(stamps, segment.range.end, first)
        piece = batch.slice(first, last - first)
        mine = pc.equal(answers.slice(first, last - first), segment.answer)
        live.append(piece if pc.all(mine, min_count=0).as_py() else piece.filter(mine))
    return live


def _pieces(batch: pa.RecordBatch, bounds: Sequence[tuple[int, int]]) -> list[pa.RecordBatch]:
    """The rows between the bounds, neighbours joined, without a copy."""
    joined: list[list[int]] = []
    for first, last in bounds:
        if joined and joined[-1][1] == first:
            joined[-1][1] = last
        else:
            joined.append([first, last])
    return [batch.slice(first, last - first) for first, last in joined]


def _batches(
    series: SeriesId, window: Window, pieces: Sequence[pa.RecordBatch], most_rows: int
) -> list[pa.RecordBatch]:
    """The pieces' rows in the wanted part, in key order, with the kind's schema, cut into batches."""
    schema = SCHEMAS[series.kind]
    filled = [piece.select(schema.names) for piece in pieces if piece.num_rows]
    if not filled:
        return []
    columns = _one_batch(pa.Table.from_batches(filled))
    whole = pa.RecordBatch.from_arrays(
        [column.cast(field.type) for column, field in zip(columns.columns, schema, strict=True)], schema=schema
    )
    if series.kind is Kind.TRADES:
        # Within one instant the table keeps no order of its own.
        whole = whole.take(pc.sort_indices(whole, [("ts", "ascending"), ("seq", "ascending")]))
    stamps = _stamps(whole)
    first, last = bisect_left(stamps, window.wanted.start), bisect_left(stamps, window.wanted.end)
    return [
        _compact(whole.slice(at, min(most_rows, last - at)), whole.num_rows) for at in range(first, last, most_rows)
    ]


def _compact(piece: pa.RecordBatch, of: int) -> pa.RecordBatch:
    """A small piece of much keeps only its own bytes alive; texts of a piece are always its own."""
    if piece.num_rows * 2 >= of or "id" not in piece.schema.names:
        return piece
    return pa.ipc.read_record_batch(piece.serialize(), piece.schema)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _stamps(batch: pa.RecordBatch) -> memoryview:
    """The batch's `ts` in microseconds, without a copy."""
    if batch.num_rows == 0:
        return memoryview(b"").cast("q")
    column = batch.column(0)
    return memoryview(column.buffers()[1]).cast("q")[column.offset : column.offset + len(column)]
