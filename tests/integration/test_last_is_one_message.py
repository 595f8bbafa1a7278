"""The contract's promise that a few last rows are one message, kept by the whole server on a real store.

A client may therefore ask for them by a unary call, which would wait for ever for a second message to go away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from benchmarks.rig.bars import END, batches
from benchmarks.rig.history import series_of
from historyd.coverage import Fact
from historyd.engine.history import HistoryEngine
from historyd.model.page import Layout
from historyd.model.series import SeriesId
from historyd.model.time_range import MICROS_PER_S, TimeRange, from_datetime
from historyd.model.venue import Origin
from historyd.service.server import HistoryServer
from historyd.stores.embedded import open_embedded
from markethistory.v1 import history_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

STORED = 40_000
SERIES = series_of(STORED)
METHOD = "/markethistory.v1.HistoryService/ReadRange"
FITTING = (2**20 - 4_096) // 48
"""Bars that fit in a message of the default size, whatever the blocks they come from."""


@pytest.fixture
async def channel(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server whose store was filled by small pages, so that rows lie in many blocks."""
    series = SeriesId.parse(SERIES)
    async with open_embedded(tmp_path / "bars.db") as store, HistoryEngine(store, None) as engine:
        await store.open_series(series, Origin("planted"), Layout(500))
        for batch in batches(STORED, 500):
            first, last = batch.column(0)[0].value, batch.column(0)[-1].value
            fact = Fact(TimeRange(first, last + 60 * MICROS_PER_S), from_datetime(END), batch.num_rows)
            await store.commit(series, fact, batch)
        async with HistoryServer(engine, "127.0.0.1:0") as server, grpc.aio.insecure_channel(server.address) as opened:
            yield opened


def last_request(series: str, count: int, *, ensure: bool = False) -> pb.ReadRangeRequest:
    request = pb.ReadRangeRequest(series=series, last=count, ensure=ensure)
    request.range.end.FromDatetime(END)
    return request


async def by_stream(channel: grpc.aio.Channel, request: pb.ReadRangeRequest) -> list[bytes]:
    read: grpc.aio.UnaryStreamMultiCallable[pb.ReadRangeRequest, bytes] = channel.unary_stream(
        METHOD, request_serializer=pb.ReadRangeRequest.SerializeToString, response_deserializer=None
    )
    return [message async for message in read(request)]


async def by_unary(channel: grpc.aio.Channel, request: pb.ReadRangeRequest) -> bytes:
    read: grpc.aio.UnaryUnaryMultiCallable[pb.ReadRangeRequest, bytes] = channel.unary_unary(
        METHOD, request_serializer=pb.ReadRangeRequest.SerializeToString, response_deserializer=None
    )
    return await read(request)


@pytest.mark.parametrize("ensure", [False, True])
@pytest.mark.parametrize("count", [1, 120, 1_000, 17_000, FITTING])
async def test_last_rows_that_fit_are_one_message(channel: grpc.aio.Channel, count: int, *, ensure: bool) -> None:
    (data,) = await by_stream(channel, last_request(SERIES, count, ensure=ensure))
    message = pb.ReadRangeResponse.FromString(data)
    assert message.row_count == message.summary.row_count == count
    assert message.HasField("range")


async def test_a_unary_call_gets_the_same_bytes_as_a_stream(channel: grpc.aio.Channel) -> None:
    request = last_request(SERIES, 120)
    assert [await by_unary(channel, request)] == await by_stream(channel, request)


async def test_no_rows_at_all_are_one_message_too(channel: grpc.aio.Channel) -> None:
    message = pb.ReadRangeResponse.FromString(await by_unary(channel, last_request("ohlcv:binance:NOT/THERE:1m", 120)))
    assert message.row_count == 0
    assert message.HasField("summary")
