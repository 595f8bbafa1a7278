"""Reads the messages of a ReadRange stream without copying their rows.

Theory of operation. A message is a protobuf envelope of which almost all is one bytes field, the Arrow IPC data.
Generated code would copy that field out of the message; here the envelope's fields are walked by hand, the IPC field
becomes a view of the bytes that were delivered, the few other bytes are parsed by the generated class. Record batches
then point straight into the message, and chunks are never joined.

Never does: judge whether a stream is complete (reading.py does).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa
from google.protobuf.message import DecodeError

from markethistory.errors import ServerError
from markethistory.v1.history_service_pb2 import ReadRangeResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_ARROW_IPC: Final = ReadRangeResponse.ARROW_IPC_FIELD_NUMBER << 3 | _LEN
_FIXED_SIZES: Final = {_I64: 8, _I32: 4}


class BatchDecoder:
    """Turns messages of one ReadRange call into record batches; it keeps the schema between messages."""

    def __init__(self) -> None:
        self.schema: pa.Schema | None = None

    def decode(self, message: bytes | memoryview) -> tuple[ReadRangeResponse, list[pa.RecordBatch]]:
        """The message without its Arrow data, and the batches of that data, which share the message's memory.

        Raises ServerError if the message cannot be read, or holds other than `row_count` rows.
        """
        try:
            envelope, arrow_ipc = split_envelope(message)
            batches = list(self._batches(arrow_ipc)) if arrow_ipc is not None else []
        except (DecodeError, IndexError, pa.ArrowInvalid, OSError) as unreadable:
            raise ServerError("the server sent a message that cannot be read") from unreadable
        rows = sum(batch.num_rows for batch in batches)
        if rows != envelope.row_count:
            raise ServerError(f"the server sent {rows} rows in a message and counted {envelope.row_count}")
        return envelope, batches

    def _batches(self, arrow_ipc: memoryview) -> Iterator[pa.RecordBatch]:
        source = pa.BufferReader(pa.py_buffer(arrow_ipc))
        size = arrow_ipc.nbytes
        while source.tell() < size:
            try:
                message = pa.ipc.read_message(source)
            except EOFError:  # the end-of-stream marker
                return
            if message.type == "schema":
                self.schema = pa.ipc.read_schema(message)
            elif self.schema is None:
                raise DecodeError("a batch before its schema")
            else:
                yield pa.ipc.read_record_batch(message, self.schema)


def split_envelope(message: bytes | memoryview) -> tuple[ReadRangeResponse, memoryview | None]:
    """The message without `arrow_ipc`, and a view of that field; None if the message has none.

    Fields may come in any order. Raises DecodeError or IndexError if the message is no protobuf.
    """
    view = memoryview(message)
    rest: list[memoryview] = []
    arrow_ipc = None
    position, size = 0, len(message)
    while position < size:
        tag, content = _varint(message, position)
        start, end = _extent(message, tag & 7, content)
        if end > size:
            raise DecodeError("a field is longer than its message")
        if tag == _ARROW_IPC:
            arrow_ipc = view[start:end]
        else:
            rest.append(view[position:end])
        position = end
    return ReadRangeResponse.FromString(b"".join(rest)), arrow_ipc


def _extent(message: bytes | memoryview, wire_type: int, position: int) -> tuple[int, int]:
    """Where the content of a field starts and ends, its tag being behind."""
    if wire_type == _LEN:
        length, start = _varint(message, position)
        return start, start + length
    if wire_type == _VARINT:
        return position, _varint(message, position)[1]
    if wire_type in _FIXED_SIZES:
        return position, position + _FIXED_SIZES[wire_type]
    raise DecodeError(f"wire type {wire_type}")


def _varint(message: bytes | memoryview, position: int) -> tuple[int, int]:
    """The number at a position, and the position behind it."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
