"""Blocks: rows as one Arrow IPC record batch message, and the cutting of them by time.

Promises: decoding copies nothing, the batch lies over the bytes it came from; a batch is only ever cut between two
instants, so that rows of one instant stay together. Never does: know where blocks are kept.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from historyd.model.rows import EMPTY, SCHEMAS
from historyd.model.series import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from historyd.model.rows import RowKey

_MICROS: Final = "q"
"""The format of a timestamp's memory: signed, 8 bytes."""


@dataclass(frozen=True, slots=True)
class BlockForm:
    """How rows are laid down; the defaults are what docs/embedded-store.md found best.

    Attributes:
        full_rows: rows of a full block. One block is one frame on the wire, so it stays under 1 MiB.
        small_rows: a block of fewer rows is joined at once with a small neighbour, so that a series that grows bar
            by bar does not fall into single rows.
    """

    full_rows: Mapping[Kind, int] = field(default_factory=lambda: {Kind.OHLCV: 16_384, Kind.TRADES: 8_192})
    small_rows: int = 256


def encode(batch: pa.RecordBatch) -> pa.Buffer:
    """The batch as one encapsulated IPC message, without its schema, not compressed."""
    return batch.serialize()


def decode(content: bytes, kind: Kind) -> pa.RecordBatch:
    """The batch of a message, however its buffers are compressed. Raises ValueError if it is none."""
    try:
        return pa.ipc.read_record_batch(pa.py_buffer(content), SCHEMAS[kind])
    except (pa.ArrowException, OSError, EOFError) as cause:
        raise ValueError("not a record batch") from cause


def checksum(content: bytes | pa.Buffer) -> int:
    """CRC-32 of the bytes."""
    return zlib.crc32(content)


def times(batch: pa.RecordBatch) -> memoryview[int]:
    """The batch's `ts` in microseconds, without a copy."""
    if batch.num_rows == 0:
        return memoryview(b"").cast(_MICROS)
    column = batch.column(0)
    return memoryview(column.buffers()[1]).cast(_MICROS)[column.offset : column.offset + len(column)]


def before(batch: pa.RecordBatch, instant: int) -> int:
    """How many rows are earlier than the instant."""
    return bisect_left(times(batch), instant)


def cut(batch: pa.RecordBatch, start: int, end: int) -> pa.RecordBatch:
    """The rows in `[start, end)`, without a copy."""
    first = before(batch, start)
    return batch.slice(first, before(batch, end) - first)


def drop_through(batch: pa.RecordBatch, key: RowKey) -> pa.RecordBatch:
    """The rows after `key`, without a copy. Bars have no ordinal: all rows of the key's instant are dropped."""
    stamps = times(batch)
    first = bisect_left(stamps, key.ts)
    if "seq" not in batch.schema.names:
        return batch.slice(bisect_left(stamps, key.ts + 1))
    ordinals = batch.column(1)
    while first < len(stamps) and stamps[first] == key.ts and ordinals[first].as_py() <= key.seq:
        first += 1
    return batch.slice(first)


def join(batches: Sequence[pa.RecordBatch], kind: Kind) -> pa.RecordBatch:
    """The rows of all batches, in order; copied if there are several."""
    if len(batches) == 1:
        return batches[0]
    return pa.concat_batches(batches) if batches else EMPTY[kind]


def split(batch: pa.RecordBatch, rows: int) -> list[pa.RecordBatch]:
    """The batch in pieces of `rows` rows, the last one shorter; one instant is never split, so some are longer."""
    stamps = times(batch)
    pieces: list[pa.RecordBatch] = []
    start = 0
    while start < len(stamps):
        end = start + rows
        if end < len(stamps):
            end = bisect_left(stamps, stamps[end], start, end + 1)
            end = end if end > start else bisect_left(stamps, stamps[start] + 1, start)
        pieces.append(batch.slice(start, end - start))
        start = end
    return pieces
