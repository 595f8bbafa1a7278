"""The envelope walker and the zero-copy decoder, against the generated class and pyarrow's own reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from markethistory.errors import ServerError
from markethistory.reader import BatchDecoder, split_envelope
from markethistory.v1 import history_service_pb2 as pb
from tests.fake_history import BARS, EOS, START, bars, frames, key_of, window

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = pb.ReadRangeRequest(series="s", range=window(START, START.replace(year=2025)))


@given(
    arrow=st.binary(max_size=300),
    rows=st.integers(-(2**63), 2**63 - 1),
    seconds=st.integers(0, 2**33),
    first=st.booleans(),
    unknown=st.binary(max_size=10),
)
def test_the_walked_envelope_equals_the_generated_parser(
    arrow: bytes, rows: int, seconds: int, first: bool, unknown: bytes
) -> None:
    message = pb.ReadRangeResponse(row_count=rows, arrow_ipc=arrow)
    message.last_key.ts.seconds = seconds
    # Fields of a later contract, of all wire types, before and behind.
    alien = bytes([0xF8, 0x07, 0x80, 0x01, 0xF5, 0x07, 1, 2, 3, 4, 0xF1, 0x07]) + bytes(8)
    alien += bytes([0xFA, 0x07, len(unknown)]) + unknown
    data = alien + message.SerializeToString() if first else message.SerializeToString() + alien
    expected = pb.ReadRangeResponse.FromString(data)
    envelope, view = split_envelope(data)
    assert bytes(view or b"") == expected.arrow_ipc
    envelope.arrow_ipc = expected.arrow_ipc
    assert envelope == expected


@given(cut=st.integers(1, 200))
def test_a_cut_envelope_raises_and_never_yields_short_data(cut: int) -> None:
    data = frames(bars(3), REQUEST)[0].SerializeToString()
    with pytest.raises((DecodeError, IndexError)):
        split_envelope(data[:-cut])


@pytest.mark.parametrize("parts", [1, 2, 7])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_rows_come_out_as_they_went_in(parts: int, compression: str | None) -> None:
    """However many IPC messages a chunk holds, and whether or not they are compressed."""
    rows = bars(21)
    options = pa.ipc.IpcWriteOptions(compression=compression)
    pieces = [rows.slice(i, 21 // parts) for i in range(0, 21, 21 // parts)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, BARS, options=options) as writer:
        for piece in pieces:
            writer.write_batch(piece)
    message = pb.ReadRangeResponse(row_count=21, last_key=key_of(rows), arrow_ipc=sink.getvalue().to_pybytes())
    _, batches = BatchDecoder().decode(message.SerializeToString())
    assert pa.Table.from_batches(batches) == pa.Table.from_batches([rows])


def test_the_schema_is_kept_between_messages() -> None:
    rows, decoder = bars(250), BatchDecoder()
    found = [batch for message in frames(rows, REQUEST) for batch in decoder.decode(message.SerializeToString())[1]]
    assert pa.Table.from_batches(found, decoder.schema) == pa.Table.from_batches([rows])


def test_columns_point_into_the_message() -> None:
    """No copy is made: the values lie inside the bytes that gRPC delivered."""
    data = frames(bars(100), REQUEST)[0].SerializeToString()
    whole = pa.py_buffer(data)
    _, [batch] = BatchDecoder().decode(data)
    address = batch.column("close").buffers()[1].address
    assert whole.address <= address < whole.address + whole.size


def test_nulls_survive() -> None:
    rows = pa.record_batch([*bars(3).columns[:5], pa.array([1.0, None, 3.0])], schema=BARS)
    _, [batch] = BatchDecoder().decode(frames(rows, REQUEST)[0].SerializeToString())
    assert batch.column("volume").to_pylist() == [1.0, None, 3.0]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda m: setattr(m, "row_count", 99), "counted 99"),
        (lambda m: setattr(m, "arrow_ipc", m.arrow_ipc[:-100]), "cannot be read"),
        (lambda m: setattr(m, "arrow_ipc", b"\xff\xff\xff\xff\x00\x01"), "cannot be read"),
        (lambda m: setattr(m, "arrow_ipc", bars(100).serialize().to_pybytes()), "cannot be read"),
        (lambda m: setattr(m, "arrow_ipc", BARS.serialize().to_pybytes() + EOS + bars(100).serialize().to_pybytes()),
         "0 rows in a message and counted 100"),
    ],
    ids=["another count", "cut data", "cut head", "no schema", "rows behind the end"],
)  # fmt: skip
def test_data_that_does_not_fit_raises(change: Callable[[pb.ReadRangeResponse], object], what: str) -> None:
    message = frames(bars(100), REQUEST)[0]
    change(message)
    with pytest.raises(ServerError, match=what):
        BatchDecoder().decode(message.SerializeToString())
