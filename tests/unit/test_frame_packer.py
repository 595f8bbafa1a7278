"""Which rows are made ready as a message of their own: those that fill one, and those that take long to compress."""

from __future__ import annotations

import pytest

from historyd.arrow.ipc import Compression
from historyd.engine.events import ReadRequest
from historyd.model.rows import BARS
from historyd.service.frames import FramePacker
from historyd.service.requests import Reading
from markethistory.v1 import history_service_pb2 as pb
from tests.rows import BTC, MINUTE, bars, minutes

ALL = tuple(BARS.names)


def packer(columns: tuple[str, ...], most_bytes: int, compression: Compression = Compression.NONE) -> FramePacker:
    return FramePacker(Reading(ReadRequest(BTC, minutes(0, 20_000)), columns, most_bytes, compression))


@pytest.mark.parametrize(
    ("columns", "most_bytes", "compression", "is_packed"),
    [
        (ALL, 1 << 20, Compression.NONE, True),
        (ALL, 1 << 19, Compression.NONE, False),  # it has to be cut
        (("ts", "close"), 1 << 20, Compression.NONE, False),  # several blocks make one message
        (("ts", "close"), 1 << 20, Compression.ZSTD, True),
    ],
)
def test_rows_are_packed_where_that_pays(
    columns: tuple[str, ...], most_bytes: int, compression: Compression, is_packed: bool
) -> None:
    frame = packer(columns, most_bytes, compression).pack(bars(range(16_384)))
    assert (frame is not None) == is_packed
    if frame is not None:
        message = pb.ReadRangeResponse.FromString(frame.message)
        assert (message.row_count, message.last_key.ts.ToMicroseconds()) == (16_384, 16_383 * MINUTE)
        assert not message.HasField("range")
        assert not message.HasField("summary")
        assert frame.nbytes == len(frame.message)


def test_packers_of_one_name_pack_alike() -> None:
    assert packer(ALL, 1 << 20).name == packer(ALL, 1 << 20).name
    others = [packer(ALL, 1 << 19), packer(("ts", "close"), 1 << 20), packer(ALL, 1 << 20, Compression.LZ4)]
    assert len({packer(ALL, 1 << 20).name, *(other.name for other in others)}) == 4
