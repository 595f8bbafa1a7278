"""The events of a read -> the bytes of ReadRangeResponse and ReadLastResponse messages, copied once.

A message is the protobuf bytes of its small fields, the tag and length of `arrow_ipc`, and the Arrow buffers where
they lie, joined in one go: any generated client reads it. Message n is sent when message n+1 is known to exist, so
that a short read is a single message which has the range, the rows and the summary.
Messages of blocks that are read again and again come from the store as they were made before (`FramePacker`).
Never does: hold more than one chunk of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from historyd.arrow.ipc import Chunk, Chunker, encoder_for, whole_chunk
from historyd.engine.events import ReadStart, ReadSummary
from historyd.service import convert
from markethistory.v1 import history_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable

    from historyd.engine.reading import ReadEvent
    from historyd.model.time_range import TimeRange
    from historyd.service.requests import Reading

_ARROW_IPC_TAG: Final = bytes([pb.ReadRangeResponse.ARROW_IPC_FIELD_NUMBER << 3 | 2])
"""Field number, the same in both, and wire type 2: a length and so many bytes."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A message of the rows of one batch: neither the first one of a read, which has the schema, nor the last."""

    message: bytes
    num_rows: int

    @property
    def nbytes(self) -> int:
        """Bytes of the message."""
        return len(self.message)


class FramePacker:
    """Makes frames as a reading wants them. Implements stores.base.Packer."""

    def __init__(self, reading: Reading) -> None:
        self._encoder = encoder_for(reading.request.series.kind, reading.columns, reading.compression)
        self._max_bytes = reading.max_chunk_bytes

    @property
    def name(self) -> Hashable:
        """Frames differ by how their rows are encoded, and by how large they may be."""
        return self._encoder, self._max_bytes

    def pack(self, batch: pa.RecordBatch) -> Frame | None:
        """The frame of a batch; None if it has to be cut, or is cheaper to send as part of a larger one."""
        chunk = whole_chunk(self._encoder, batch, self._max_bytes)
        if chunk is None or (2 * chunk.byte_count < self._max_bytes and not self._encoder.compresses):
            return None
        return Frame(_frame(chunk, None), chunk.row_count)


async def frames(events: AsyncIterator[ReadEvent], reading: Reading) -> AsyncIterator[tuple[bytes, int]]:
    """Yields each message and its row count. Rows that are there are sent before a wait for more."""
    encoder = encoder_for(reading.request.series.kind, reading.columns, reading.compression)
    chunker = Chunker(encoder, reading.max_chunk_bytes)
    window: TimeRange | None = None
    async for event in events:
        if isinstance(event, Frame):
            before = chunker.clear()
            if before is not None:
                yield _frame(before, window), before.row_count
                window = None
            yield event.message, event.num_rows
        elif isinstance(event, pa.RecordBatch):
            for chunk in chunker.add(event):
                yield _frame(chunk, window), chunk.row_count
                window = None
        elif isinstance(event, ReadSummary):
            last = chunker.finish()
            yield _frame(last, window, event), last.row_count
        elif isinstance(event, ReadStart):
            window = event.range
        else:
            waiting = chunker.flush()
            if waiting is not None or window is not None:
                chunk = waiting or Chunk()
                yield _frame(chunk, window), chunk.row_count
                window = None


async def single_frame(events: AsyncIterator[ReadEvent], reading: Reading) -> tuple[bytes, int]:
    """The one ReadLastResponse of a read whose rows fit in a message, and its row count."""
    encoder = encoder_for(reading.request.series.kind, reading.columns, reading.compression)
    chunker = Chunker(encoder, reading.max_chunk_bytes)
    head = pb.ReadLastResponse()
    async for event in events:
        if isinstance(event, pa.RecordBatch):
            full = list(chunker.add(event))
            assert not full, "the rows of a ReadLast do not fit in one message"
        elif isinstance(event, ReadSummary):
            head.summary.CopyFrom(convert.summary(event))
        elif isinstance(event, ReadStart):
            head.range.CopyFrom(convert.time_range(event.range))
    chunk = chunker.finish()
    head.row_count = chunk.row_count
    return _with_rows(head.SerializeToString(), chunk), chunk.row_count


def _frame(chunk: Chunk, window: TimeRange | None, summary: ReadSummary | None = None) -> bytes:
    head = pb.ReadRangeResponse(
        range=None if window is None else convert.time_range(window),
        row_count=chunk.row_count,
        last_key=None if chunk.last is None else convert.row_key(chunk.last),
        summary=None if summary is None else convert.summary(summary),
    ).SerializeToString()
    return _with_rows(head, chunk)


def _with_rows(head: bytes, chunk: Chunk) -> bytes:
    """A whole message: its small fields, then `arrow_ipc`, if there is any."""
    if not chunk.byte_count:
        return head
    return b"".join((head, _ARROW_IPC_TAG, varint(chunk.byte_count), *chunk.parts))


def varint(value: int) -> bytes:
    """Protobuf's base-128 number: seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
