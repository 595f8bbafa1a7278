"""Record batches as Arrow IPC bytes, cut into chunks of bounded size, copied once.

Owns: which bytes make an IPC stream out of batches, and where it is cut. A chunk holds whole encapsulated messages as
a list of buffers that lie where the batch's columns lie; whoever sends it joins them, which is the one copy.
The concatenation of all chunks of a `Chunker` is one valid IPC stream: the schema rides in the first chunk, the
end-of-stream marker in the last. What is sent of a batch without nulls whose columns have fixed widths depends on its
row count alone but for the values, so its metadata is made once per row count; all other batches are serialised.
Promises: no chunk is larger than its bound unless a single row is. Never does: know gRPC or protobuf.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

import pyarrow as pa

from historyd.model.rows import SCHEMAS, RowKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from historyd.model.series import Kind

Bytes: TypeAlias = "bytes | pa.Buffer"
"""What `bytes.join` takes."""
EOS: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""Ends an IPC stream: a continuation marker and a metadata length of 0."""
_ALIGNMENT: Final = 8
_PREFIX: Final = 8
"""Bytes before a message's metadata: a continuation marker and the metadata's length, four each."""
_HEADERS_KEPT: Final = 512
"""Most row counts whose metadata is kept, per schema; about half a kilobyte each."""
_OVERHEAD: Final = 2_048
"""More than the metadata, padding and compression frames of one batch of our schemas add to its columns."""


class Compression(StrEnum):
    """How the buffers of a batch are compressed."""

    NONE = "none"
    LZ4 = "lz4"
    ZSTD = "zstd"


@dataclass(slots=True)
class Chunk:
    """Whole IPC messages as buffers to be joined. `last` is the key of the last row, None if there are no rows."""

    parts: list[Bytes] = field(default_factory=list)
    byte_count: int = 0
    row_count: int = 0
    last: RowKey | None = None


class Encoder:
    """Turns batches of a kind into encapsulated IPC messages with some of its columns, in the schema's order.

    Keeps metadata by row count; holds no rows.
    """

    def __init__(self, kind: Kind, columns: tuple[str, ...], compression: Compression) -> None:
        full = SCHEMAS[kind]
        schema = pa.schema([full.field(name) for name in columns])
        self.schema_message: Final[bytes] = schema.serialize().to_pybytes()
        self._seq_column = full.get_field_index("seq")
        self._columns = None if len(columns) == len(full) else list(columns)
        self._schema = schema
        self._options = _write_options(compression)
        self._widths = _byte_widths(schema)
        self._row_width = sum(self._widths or ())
        self._headers: OrderedDict[int, bytes] = OrderedDict()

    @property
    def compresses(self) -> bool:
        """Whether a message takes much longer to make than to send."""
        return self._options is not None

    def byte_count(self, batch: pa.RecordBatch) -> int:
        """Bytes that the rows of a batch take at most, before compression and without metadata."""
        if self._widths is None:
            return int(batch.nbytes)
        rows = int(batch.num_rows)
        return rows * self._row_width + (rows // 8 + _ALIGNMENT) * len(self._widths)

    def last_key(self, batch: pa.RecordBatch) -> RowKey:
        """The key of the last row of a batch, which has all columns and is not empty."""
        seq = batch.column(self._seq_column)[-1].as_py() if self._seq_column >= 0 else 0
        return RowKey(batch.column(0)[-1].value, seq)

    def encode(self, batch: pa.RecordBatch) -> tuple[list[Bytes], int]:
        """The message of a batch, which has all columns, as buffers to be joined, and how many bytes they are."""
        if self._columns is not None:
            batch = batch.select(self._columns)
        if self._options is not None:
            message = self._compress(batch)
            return [message], message.size
        columns = batch.columns
        if self._widths is None or any(column.null_count for column in columns):
            message = batch.serialize()
            return [message], message.size
        return _gather(self._header(batch.num_rows, self._widths), columns, self._widths, batch.num_rows)

    def _header(self, rows: int, widths: list[int]) -> bytes:
        """All of the message of so many rows without nulls that stands before the first column's values."""
        header = self._headers.get(rows)
        if header is None:
            # Made of columns whose buffers end with their last value: a buffer that goes on after a batch's rows is
            # sent a little longer by pyarrow, so the metadata of such a batch is not that of another one.
            zeros = pa.py_buffer(bytes(rows * max(widths)))
            arrays = [
                pa.Array.from_buffers(field.type, rows, [None, zeros.slice(0, rows * width)])
                for field, width in zip(self._schema, widths, strict=True)
            ]
            message = pa.RecordBatch.from_arrays(arrays, schema=self._schema).serialize()
            header = message[: _PREFIX + int.from_bytes(bytes(message[4:_PREFIX]), "little")].to_pybytes()
            self._headers[rows] = header
            if len(self._headers) > _HEADERS_KEPT:
                self._headers.popitem(last=False)
        return header

    def _compress(self, batch: pa.RecordBatch) -> pa.Buffer:
        """The message of a batch with compressed columns; pyarrow offers that only as part of a stream."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema, options=self._options) as writer:
            writer.write_batch(batch)
        stream = sink.getvalue()
        return stream[len(self.schema_message) : stream.size - len(EOS)]


@lru_cache(maxsize=128)
def encoder_for(kind: Kind, columns: tuple[str, ...], compression: Compression = Compression.NONE) -> Encoder:
    """The encoder of some columns of a kind, shared by all calls so that metadata is made once."""
    return Encoder(kind, columns, compression)


class Chunker:
    """Cuts one stream of batches into chunks of at most `max_bytes`, which is at least 65,536.

    The batches have all columns of the encoder's kind. Holds at most one chunk of rows at a time.
    """

    def __init__(self, encoder: Encoder, max_bytes: int) -> None:
        schema_message = encoder.schema_message
        self._encoder = encoder
        self._limit = max_bytes - len(EOS)
        self._room = self._limit - len(schema_message)
        self._chunk = Chunk([schema_message], len(schema_message))

    def add(self, batch: pa.RecordBatch) -> Iterator[Chunk]:
        """Takes rows that follow those taken before; yields the chunks that are full by now."""
        for piece in pieces(self._encoder, batch, self._room):
            parts, byte_count = self._encoder.encode(piece)
            if self._chunk.row_count and self._chunk.byte_count + byte_count > self._limit:
                yield self._take()
            self._chunk.parts += parts
            self._chunk.byte_count += byte_count
            self._chunk.row_count += piece.num_rows
            self._chunk.last = self._encoder.last_key(piece)

    def flush(self) -> Chunk | None:
        """What was taken and not yet yielded; None if there is no row in it."""
        return self._take() if self._chunk.row_count else None

    def clear(self) -> Chunk | None:
        """What was not yet yielded, the schema too; None if nothing is left."""
        return self._take() if self._chunk.byte_count else None

    def finish(self) -> Chunk:
        """The last chunk: what was not yet yielded, and the end-of-stream marker."""
        self._chunk.parts.append(EOS)
        self._chunk.byte_count += len(EOS)
        return self._take()

    def _take(self) -> Chunk:
        taken, self._chunk = self._chunk, Chunk()
        return taken


def whole_chunk(encoder: Encoder, batch: pa.RecordBatch, max_bytes: int) -> Chunk | None:
    """All rows of a batch as a chunk between others of its stream; None if that is larger than `max_bytes`."""
    parts, byte_count = encoder.encode(batch)
    return None if byte_count > max_bytes else Chunk(parts, byte_count, batch.num_rows, encoder.last_key(batch))


def pieces(encoder: Encoder, batch: pa.RecordBatch, max_bytes: int) -> Iterator[pa.RecordBatch]:
    """Slices of a batch of which each message has at most `max_bytes`, or one row; none if it has no rows."""
    rows = batch.num_rows
    size = encoder.byte_count(batch) + _OVERHEAD
    if size <= max_bytes or rows <= 1:
        if rows:
            yield batch
        return
    # Rows of one width are cut evenly; where widths differ, a slice that came out too large is cut again.
    step = max(1, rows * (max_bytes - _OVERHEAD) // (size - _OVERHEAD))
    for start in range(0, rows, step):
        yield from pieces(encoder, batch.slice(start, step), max_bytes)


def divided(message: Sequence[Bytes]) -> tuple[Bytes, list[Bytes]]:
    """An encapsulated message's metadata, without what frames it, and its body."""
    first, *rest = message
    metadata_ends = _PREFIX + int.from_bytes(bytes(first[4:_PREFIX]), "little")
    return first[_PREFIX:metadata_ends], [first[metadata_ends:], *rest]


def _gather(header: bytes, columns: list[pa.Array], widths: list[int], rows: int) -> tuple[list[Bytes], int]:
    """The message of columns without nulls: its metadata and the columns' values where they lie."""
    parts: list[Bytes] = [header]
    byte_count = len(header)
    for column, width in zip(columns, widths, strict=True):
        length = rows * width
        parts.append(column.buffers()[1].slice(column.offset * width, length))
        padding = -length % _ALIGNMENT
        if padding:
            parts.append(bytes(padding))
        byte_count += length + padding
    return parts, byte_count


def _byte_widths(schema: pa.Schema) -> list[int] | None:
    """Bytes of one value by column; None if a column has no fixed width in whole bytes."""
    try:
        bits = [field.type.bit_width for field in schema]
    except ValueError:  # so pyarrow says that values of a type differ in width
        return None
    return [width // 8 for width in bits] if all(width % 8 == 0 for width in bits) else None


def _write_options(compression: Compression) -> pa.ipc.IpcWriteOptions | None:
    if compression is Compression.NONE:
        return None
    level = 1 if compression is Compression.ZSTD else None
    return pa.ipc.IpcWriteOptions(compression=pa.Codec(compression.value, compression_level=level))
