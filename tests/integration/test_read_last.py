"""ReadLast on a real store: the rows, the range and the summary that ReadRange gives for `last`, in one answer."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import pyarrow as pa
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
from markethistory.v1 import series_pb2
from tests.e2e.serving import stub_of
from tests.rows import BTC_TRADES, trades

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from markethistory.v1.history_service_pb2_grpc import HistoryServiceAsyncStub

STORED = 5_000
SERIES = series_of(STORED)
LONG_ID = 200
"""Characters of a trade's id; venues use up to 36."""


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[HistoryServiceAsyncStub]:
    """A server whose store was filled by small pages, so that rows lie in many blocks."""
    series = SeriesId.parse(SERIES)
    async with open_embedded(tmp_path / "bars.db") as store, HistoryEngine(store, None) as engine:
        await store.open_series(series, Origin("planted"), Layout(300))
        for batch in batches(STORED, 300):
            first, last = batch.column(0)[0].value, batch.column(0)[-1].value
            fact = Fact(TimeRange(first, last + 60 * MICROS_PER_S), from_datetime(END), batch.num_rows)
            await store.commit(series, fact, batch)
        await store.open_series(BTC_TRADES, Origin("planted"), Layout(60_000))
        sold = trades((ms, 0) for ms in range(1_000, 2_200))
        sold = sold.set_column(2, "id", pa.array([f"{number:0{LONG_ID}}" for number in range(sold.num_rows)]))
        await store.commit(BTC_TRADES, Fact(TimeRange(0, 60 * MICROS_PER_S), from_datetime(END), sold.num_rows), sold)
        async with HistoryServer(engine, "127.0.0.1:0") as server, grpc.aio.insecure_channel(server.address) as opened:
            yield stub_of(opened)


def by_stream(stub: HistoryServiceAsyncStub, request: pb.ReadLastRequest) -> AsyncIterator[pb.ReadRangeResponse]:
    read = pb.ReadRangeRequest(
        series=request.series,
        range=series_pb2.TimeRange(end=request.end) if request.HasField("end") else None,
        last=request.count,
        columns=request.columns,
        ensure=request.ensure,
    )
    return aiter(stub.ReadRange(read))


def table_of(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()


@pytest.mark.parametrize(
    ("back", "ensure"),
    [(0, False), (0, True), (90, True), (4_900, False)],
    ids=["at the end", "at the end, ensured", "inside a page, ensured", "near the beginning"],
)
@pytest.mark.parametrize("count", [1, 120, 777, 1_000])
async def test_the_answer_is_that_of_a_stream(
    stub: HistoryServiceAsyncStub, count: int, back: int, *, ensure: bool
) -> None:
    request = pb.ReadLastRequest(series=SERIES, count=count, ensure=ensure, columns=["close"] if back else ())
    request.end.FromDatetime(END - timedelta(minutes=back))
    answer = await stub.ReadLast(request)
    messages = [message async for message in by_stream(stub, request)]
    assert table_of(answer.arrow_ipc).equals(table_of(b"".join(message.arrow_ipc for message in messages)))
    assert answer.row_count == answer.summary.row_count == min(count, STORED - back)
    assert (answer.range, answer.summary) == (messages[0].range, messages[-1].summary)


async def test_no_rows_at_all_are_an_answer_with_a_schema(stub: HistoryServiceAsyncStub) -> None:
    answer = await stub.ReadLast(pb.ReadLastRequest(series="ohlcv:binance:NOT/THERE:1m", count=120))
    assert (answer.row_count, table_of(answer.arrow_ipc).num_rows) == (0, 0)
    assert not answer.summary.complete


async def test_a_thousand_trades_with_long_ids_are_one_answer(stub: HistoryServiceAsyncStub) -> None:
    answer = await stub.ReadLast(pb.ReadLastRequest(series=str(BTC_TRADES), count=1_000))
    ids = table_of(answer.arrow_ipc)["id"].to_pylist()
    assert [len(one) for one in ids] == [LONG_ID] * 1_000
