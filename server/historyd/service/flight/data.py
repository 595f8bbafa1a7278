"""The events of a read -> the bytes of FlightData messages, copied once.

The first message is the schema, each further one a record batch: the metadata and the body of the same IPC messages
that ReadRange sends. The last batch, which may have no rows, carries how the read ended as its `app_metadata`: a JSON
object with the `range` and the `summary` of the contract, in protobuf's JSON.
Promises: a message without `app_metadata` is never the last one of a read that ended well. Never does: hold more than
one batch.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from google.protobuf import json_format

from historyd.arrow.ipc import divided, encoder_for, pieces
from historyd.engine.events import ReadStart, ReadSummary
from historyd.model.rows import EMPTY
from historyd.service import convert
from historyd.service.flight.messages import FlightData
from historyd.service.frames import varint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from historyd.arrow.ipc import Bytes
    from historyd.engine.reading import ReadEvent
    from historyd.model.time_range import TimeRange
    from historyd.service.requests import Reading

_FIELDS: Final = FlightData.DESCRIPTOR.fields_by_name
_HEADER_TAG, _METADATA_TAG, _BODY_TAG = (
    varint(_FIELDS[name].number << 3 | 2) for name in ("data_header", "app_metadata", "data_body")
)


async def flight_data(events: AsyncIterator[ReadEvent], reading: Reading) -> AsyncIterator[tuple[bytes, int]]:
    """Yields each message and its row count. Rows that are there are sent before a wait for more."""
    kind = reading.request.series.kind
    encoder = encoder_for(kind, reading.columns, reading.compression)
    window = reading.request.window
    held: pa.RecordBatch | None = None
    async for event in events:
        if isinstance(event, pa.RecordBatch):
            for piece in pieces(encoder, event, reading.max_chunk_bytes):
                if held is not None:
                    yield _message(encoder.encode(held)[0]), held.num_rows
                held = piece
        elif isinstance(event, ReadStart):
            window = event.range
            yield _message([encoder.schema_message]), 0
        elif isinstance(event, ReadSummary):
            last = EMPTY[kind] if held is None else held
            yield _message(encoder.encode(last)[0], _ending(window, event)), last.num_rows
        elif held is not None:
            yield _message(encoder.encode(held)[0]), held.num_rows
            held = None


def _message(message: Sequence[Bytes], app_metadata: bytes = b"") -> bytes:
    """An IPC message as FlightData."""
    header, body = divided(message)
    parts: list[Bytes] = [_HEADER_TAG, varint(len(header)), header]
    if app_metadata:
        parts += (_METADATA_TAG, varint(len(app_metadata)), app_metadata)
    return b"".join((*parts, _BODY_TAG, varint(sum(map(len, body))), *body))


def _ending(window: TimeRange, summary: ReadSummary) -> bytes:
    """How a read ended, as JSON."""
    told = json_format.MessageToDict(
        convert.summary(summary), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return json.dumps({"range": json_format.MessageToDict(convert.time_range(window)), "summary": told}).encode()
