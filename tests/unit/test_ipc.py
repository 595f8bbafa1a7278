"""Chunks of Arrow IPC and ReadRange frames, against pyarrow's own reader and the generated protobuf class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historyd.arrow.ipc import EOS, Chunk, Chunker, Compression, encoder_for
from historyd.engine.events import ReadRequest, ReadStart, ReadSummary, ReadWaiting
from historyd.model.rows import BARS, EMPTY, SCHEMAS, TRADES, RowKey
from historyd.model.series import Kind, SeriesId
from historyd.model.time_range import TimeRange
from historyd.service.frames import frames
from historyd.service.requests import MIN_CHUNK_BYTES, Reading
from markethistory.v1 import history_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from historyd.engine.reading import ReadEvent

MINUTE = 60_000_000
WINDOW = TimeRange(0, 10**15)
SUMMARY = ReadSummary(0, 10**15, (), 0, complete=True)
SERIES = {
    Kind.OHLCV: SeriesId.parse("ohlcv:binance:BTC/USDT:1m"),
    Kind.TRADES: SeriesId.parse("trades:binance:BTC/USDT"),
}


def bars(rows: int, *, first: int = 0, null_at: int | None = None) -> pa.RecordBatch:
    """Bars with a different number in every cell; one volume may be null."""
    stamps = pa.array([(first + row) * MINUTE for row in range(rows)], pa.timestamp("us", tz="UTC"))
    cells = [pa.array([(first + row) * 5.0 + column for row in range(rows)]) for column in range(4)]
    volume = pa.array([None if row == null_at else row * 1.5 for row in range(rows)], pa.float64())
    return pa.record_batch([stamps, *cells, volume], schema=BARS)


def trades(rows: int, *, first: int = 0, id_length: int = 8) -> pa.RecordBatch:
    """Trades, two in each microsecond, every seventh without an id."""
    return pa.record_batch(
        [
            pa.array([(first + row) // 2 for row in range(rows)], pa.timestamp("us", tz="UTC")),
            pa.array([(first + row) % 2 for row in range(rows)], pa.int32()),
            pa.array([None if row % 7 == 0 else f"{row}".rjust(id_length, "x") for row in range(rows)]),
            pa.array([float(row) for row in range(rows)]),
            pa.array([row / 3 for row in range(rows)]),
            pa.array(["buy" if row % 3 else "sell" for row in range(rows)]),
        ],
        schema=TRADES,
    )


@st.composite
def streams(draw: st.DrawFn) -> tuple[Kind, list[pa.RecordBatch]]:
    """A kind, and batches of it: slices of larger ones, some with nulls, some without rows."""
    kind = draw(st.sampled_from(list(Kind)))
    batches = []
    for _ in range(draw(st.integers(0, 5))):
        rows = draw(st.sampled_from([0, 1, 2, 63, 120, 999, 1_000, 2_500]))
        before, after = draw(st.integers(0, 9)), draw(st.integers(0, 3))
        whole = rows + before + after
        if kind is Kind.OHLCV:
            null_at = draw(st.none() | st.integers(0, max(0, whole - 1)))
            batch = bars(whole, null_at=null_at)
        else:
            batch = trades(whole, id_length=draw(st.sampled_from([8, 60])))
        batches.append(batch.slice(before, rows))
    return kind, batches


def chunks_of(chunker: Chunker, batches: Iterable[pa.RecordBatch]) -> list[Chunk]:
    chunks = [chunk for batch in batches for chunk in chunker.add(batch)]
    return [*chunks, chunker.finish()]


def joined(chunk: Chunk) -> bytes:
    return b"".join(chunk.parts)


def joined_parts(parts: list[bytes | pa.Buffer]) -> bytes:
    return b"".join(parts)


@settings(deadline=None, max_examples=80)
@given(streams(), st.data())
def test_concatenated_chunks_are_one_ipc_stream_of_the_same_rows(
    stream: tuple[Kind, list[pa.RecordBatch]], data: st.DataObject
) -> None:
    """Whatever the batches, columns, bound and compression: one stream, nothing after its end, no chunk too large."""
    kind, batches = stream
    names = SCHEMAS[kind].names
    kept = data.draw(st.sets(st.sampled_from(names)))
    columns = tuple(name for name in names if name == "ts" or name in kept or not kept)
    bound = data.draw(st.sampled_from([MIN_CHUNK_BYTES, 100_000, 1 << 20]))
    compression = data.draw(st.sampled_from(list(Compression)))
    chunks = chunks_of(Chunker(encoder_for(kind, columns, compression), bound), batches)

    source = pa.BufferReader(b"".join(map(joined, chunks)))
    table = pa.ipc.open_stream(source).read_all()
    assert source.read() == b""
    assert table.equals(pa.Table.from_batches(batches, SCHEMAS[kind]).select(list(columns)))
    assert table.schema.equals(pa.schema([SCHEMAS[kind].field(name) for name in columns]))
    for chunk in chunks:
        assert len(joined(chunk)) == chunk.byte_count <= bound
    assert sum(chunk.row_count for chunk in chunks) == table.num_rows


@pytest.mark.parametrize("kind", list(Kind))
def test_a_chunk_says_how_many_rows_it_has_and_the_key_of_the_last(kind: Kind) -> None:
    make = bars if kind is Kind.OHLCV else trades
    chunks = chunks_of(Chunker(encoder_for(kind, tuple(SCHEMAS[kind].names)), MIN_CHUNK_BYTES), [make(5_001)])
    assert len(chunks) > 2
    seen = 0
    for chunk in chunks:
        seen += chunk.row_count
        last = seen - 1
        assert chunk.last == (RowKey(last * MINUTE) if kind is Kind.OHLCV else RowKey(last // 2, last % 2))
    assert seen == 5_001


def test_a_row_larger_than_the_bound_is_sent_alone() -> None:
    batch = trades(8, id_length=MIN_CHUNK_BYTES)
    chunks = chunks_of(Chunker(encoder_for(Kind.TRADES, tuple(TRADES.names)), MIN_CHUNK_BYTES), [batch])
    assert [chunk.row_count for chunk in chunks if chunk.byte_count > MIN_CHUNK_BYTES] == [1] * 6
    assert pa.ipc.open_stream(b"".join(map(joined, chunks))).read_all().equals(pa.Table.from_batches([batch]))


def test_metadata_made_for_one_batch_fits_every_other_of_as_many_rows() -> None:
    """Slices whose buffers go on behind their rows, by a little or by much, come out like one that ends there."""
    encoder = encoder_for(Kind.TRADES, ("ts", "seq", "price"))
    sent = {joined_parts(encoder.encode(trades(999 + more).slice(0, 999))[0]) for more in (1, 0, 2, 70)}
    assert len(sent) == 1


def test_values_without_nulls_are_not_copied_before_they_are_joined() -> None:
    encoder = encoder_for(Kind.OHLCV, tuple(BARS.names))
    batch = bars(800).slice(11, 777)
    parts, _ = encoder.encode(batch)
    addresses = [part.address for part in parts if isinstance(part, pa.Buffer)]
    assert addresses == [column.buffers()[1].address + 11 * 8 for column in batch.columns]


async def _replay(events: Iterable[ReadEvent]) -> AsyncIterator[ReadEvent]:
    for event in events:
        yield event


async def messages(kind: Kind, events: Iterable[ReadEvent], bound: int = 1 << 20) -> list[pb.ReadRangeResponse]:
    """The messages of a read, parsed by the generated class from the bytes that go over the wire."""
    reading = Reading(ReadRequest(SERIES[kind], WINDOW), tuple(SCHEMAS[kind].names), bound, Compression.NONE)
    parsed = []
    async for raw, row_count in frames(_replay(events), reading):
        message = pb.ReadRangeResponse.FromString(raw)
        assert message.row_count == row_count
        assert message.SerializeToString(deterministic=True) == raw
        parsed.append(message)
    return parsed


async def test_a_short_read_is_one_message() -> None:
    """Range, schema, rows, key, end of stream and summary ride together."""
    (only,) = await messages(Kind.OHLCV, [ReadStart(WINDOW), bars(120), SUMMARY])
    assert (only.range.end.seconds, only.row_count, only.last_key.ts.seconds) == (10**9, 120, 119 * 60)
    assert only.summary.complete
    assert pa.ipc.open_stream(only.arrow_ipc).read_all().equals(pa.Table.from_batches([bars(120)]))


async def test_a_read_without_rows_is_one_message_with_a_schema() -> None:
    (only,) = await messages(Kind.TRADES, [ReadStart(WINDOW), SUMMARY])
    assert only.row_count == 0
    assert not only.HasField("last_key")
    assert pa.ipc.open_stream(only.arrow_ipc).read_all().schema.equals(TRADES)


async def test_a_long_read_has_its_range_first_and_its_summary_last() -> None:
    batches = [bars(1_000, first=1_000 * n) for n in range(9)]
    found = await messages(Kind.OHLCV, [ReadStart(WINDOW), *batches, SUMMARY], MIN_CHUNK_BYTES)
    assert len(found) > 3
    assert [message.HasField("range") for message in found] == [True, *[False] * (len(found) - 1)]
    assert [message.HasField("summary") for message in found] == [*[False] * (len(found) - 1), True]
    table = pa.ipc.open_stream(b"".join(message.arrow_ipc for message in found)).read_all()
    assert table.equals(pa.Table.from_batches(batches))
    assert found[-1].arrow_ipc.endswith(EOS)


async def test_rows_are_sent_before_a_wait_for_more() -> None:
    """What is buffered goes out when the next page has to be fetched first, the range even without rows."""
    found = await messages(
        Kind.OHLCV, [ReadStart(WINDOW), ReadWaiting(), bars(10), ReadWaiting(), ReadWaiting(), bars(5), SUMMARY]
    )
    assert [message.row_count for message in found] == [0, 10, 5]
    assert [bool(message.arrow_ipc) for message in found] == [False, True, True]
    assert found[0].HasField("range")
    assert not found[1].HasField("range")


async def test_an_empty_batch_changes_nothing() -> None:
    (only,) = await messages(Kind.OHLCV, [ReadStart(WINDOW), EMPTY[Kind.OHLCV], SUMMARY])
    assert only.row_count == 0
