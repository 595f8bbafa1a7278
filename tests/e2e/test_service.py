"""The real service over gRPC, in this process: on an engine with a scripted venue, or on a scripted engine."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from historyd.coverage import Fact
from historyd.engine.events import ReadStart
from historyd.engine.history import HistoryEngine
from historyd.errors import StoreUnavailable
from historyd.model.page import Layout
from historyd.model.rows import BARS
from historyd.model.series import SeriesId
from historyd.model.time_range import MICROS_PER_S, TimeRange
from historyd.model.venue import Origin
from historyd.stores.embedded import open_embedded
from markethistory.v1 import coverage_pb2, series_pb2
from markethistory.v1 import history_service_pb2 as pb
from tests.e2e.serving import Local, serve_engine
from tests.rows import bars
from tests.scripted import MINUTE, START_OF_2024, ScriptedSource, VirtualClock, bars_at

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from historyd.engine.events import ReadRequest
    from historyd.engine.reading import ReadEvent
    from historyd.stores.base import Packer

BTC = "ohlcv:binance:BTC/USDT:1m"
NOW = START_OF_2024 + 10_000 * MINUTE


def stamp(instant: int) -> Timestamp:
    return Timestamp(seconds=instant // MICROS_PER_S)


def span(first: int, after: int) -> series_pb2.TimeRange:
    """Minutes of 2024."""
    return series_pb2.TimeRange(start=stamp(START_OF_2024 + first * MINUTE), end=stamp(START_OF_2024 + after * MINUTE))


@dataclass
class House:
    local: Local
    source: ScriptedSource

    async def read(self, **fields: Any) -> list[pb.ReadRangeResponse]:
        return [message async for message in self.local.stub.ReadRange(pb.ReadRangeRequest(series=BTC, **fields))]


@asynccontextmanager
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = VirtualClock(NOW)
    source = ScriptedSource(clock)
    async with (
        open_embedded(tmp_path / "history.db") as store,
        HistoryEngine(store, source, clock=clock, sleep=clock.sleep) as engine,
        serve_engine(engine) as local,
    ):
        yield House(local, source)


def table_of(messages: list[pb.ReadRangeResponse]) -> pa.Table:
    return pa.ipc.open_stream(b"".join(message.arrow_ipc for message in messages)).read_all()


def expected(first: int, after: int) -> pa.Table:
    return pa.Table.from_batches([bars_at(START_OF_2024 + minute * MINUTE for minute in range(first, after))])


async def failure(call: Any) -> tuple[grpc.StatusCode, ErrorInfo, RetryInfo | None, str]:
    """What a failing call says: its code, its details, its message."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call if not hasattr(call, "read") else call.read())
    status = rpc_status.from_call(caught.value)
    info, retry = ErrorInfo(), RetryInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    has_retry = any(detail.Unpack(retry) for detail in status.details)
    return caught.value.code(), info, retry if has_retry else None, caught.value.details() or ""


async def test_a_range_is_made_covered_read_and_told(tmp_path: Path) -> None:
    """Ensure, read and coverage agree; the second ensure makes no call."""
    async with house(tmp_path) as it:
        request = pb.EnsureRangeRequest(series=BTC, range=span(0, 1000))
        events = [event async for event in it.local.stub.EnsureRange(request)]
        kinds = [event.WhichOneof("event") for event in events]
        assert (kinds[0], kinds[-1], set(kinds[1:-1])) == ("plan", "result", {"progress"})
        assert events[0].plan.page_count == events[-1].result.page_count > 5
        assert events[-1].result.row_count >= 1000
        again = [event async for event in it.local.stub.EnsureRange(request)]
        assert [event.WhichOneof("event") for event in again] == ["plan", "result"]
        assert again[-1].result.call_count == 0

        messages = await it.read(range=span(10, 990))
        assert len(messages) == 1
        assert table_of(messages).equals(expected(10, 990))
        assert messages[-1].summary.complete
        for window, state, rows in (
            (span(1, 1000), coverage_pb2.COVERAGE_STATE_COVERED, 999),
            (span(2000, 2001), coverage_pb2.COVERAGE_STATE_MISSING, 0),
        ):
            told = await it.local.stub.Coverage(pb.CoverageRequest(series=BTC, range=window))
            assert told.range == window
            assert [(one.range, one.state, one.row_count) for one in told.spans] == [(window, state, rows)]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"columns": ["close"]},
        {"compression": pb.COMPRESSION_LZ4},
        {"compression": pb.COMPRESSION_ZSTD, "columns": ["open", "volume"]},
        {"max_chunk_bytes": 65_536},
    ],
)
async def test_a_long_range_reads_the_same_each_time(tmp_path: Path, how: dict[str, Any]) -> None:
    """The store gives its blocks as they are, then ready to be sent; the stream stays one, in chunks of the size."""
    async with open_embedded(tmp_path / "history.db") as store:
        series, rows = SeriesId.parse(BTC), bars(range(70_000))
        await store.open_series(series, Origin("planted"), Layout(1_000))
        await store.commit(series, Fact(TimeRange(0, 70_000 * MINUTE), NOW, 70_000), rows)
        async with HistoryEngine(store, None) as engine, serve_engine(engine) as local:
            window = series_pb2.TimeRange(start=stamp(0), end=stamp(69_990 * MINUTE))
            request = pb.ReadRangeRequest(series=BTC, range=window, **how)
            wanted = pa.Table.from_batches([rows.slice(0, 69_990)]).select(["ts", *how.get("columns", BARS.names[1:])])
            for _ in range(4):
                messages = [message async for message in local.stub.ReadRange(request)]
                assert table_of(messages).equals(wanted)
                assert max(len(message.arrow_ipc) for message in messages) <= how.get("max_chunk_bytes", 1 << 20)
                assert [message.HasField("range") for message in messages] == [True] + [False] * (len(messages) - 1)
                assert sum(message.row_count for message in messages) == messages[-1].summary.row_count == 69_990
                keys = [message.last_key.ts.ToMicroseconds() for message in messages if message.row_count]
                assert keys == sorted(keys)
                assert keys[-1] == 69_989 * MINUTE
                key = pb.RowKey(ts=stamp(20_000 * MINUTE))
                after = pb.ReadRangeRequest(series=BTC, range=window, resume_after=key, **how)
                rest = [message async for message in local.stub.ReadRange(after)]
                assert table_of(rest).equals(wanted.slice(20_001))


async def test_a_read_with_ensure_streams_what_it_fetches(tmp_path: Path) -> None:
    """Rows of the first page arrive before the last page was asked for."""
    async with house(tmp_path) as it:
        messages = await it.read(range=span(0, 1000), ensure=True)
        assert len(messages) > 1
        assert table_of(messages).equals(expected(0, 1000))
        assert messages[0].range == span(0, 1000)
        assert messages[-1].summary.row_count == 1000


async def test_a_read_resumes_after_any_key(tmp_path: Path) -> None:
    """What follows the key of a message is exactly what was not in the messages up to it."""
    async with house(tmp_path) as it:
        messages = await it.read(range=span(0, 3000), ensure=True, max_chunk_bytes=65_536)
        assert len(messages) > 2
        before = 0
        for message in messages:
            before += message.row_count
            if message.row_count:
                rest = await it.read(range=span(0, 3000), resume_after=message.last_key)
                assert table_of(rest).equals(expected(before, 3000))
        assert before == 3000


async def test_the_last_rows_and_some_columns_can_be_asked_for(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        await it.read(range=span(0, 500), ensure=True)
        messages = await it.read(last=120, range=series_pb2.TimeRange(end=span(0, 500).end), columns=["close"])
        assert table_of(messages).equals(expected(380, 500).select(["ts", "close"]))
        assert messages[0].range == span(380, 500)


async def test_a_few_last_rows_are_one_answer_even_if_they_have_to_be_fetched(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        asked = pb.ReadLastRequest(series=BTC, count=500, end=span(0, 1000).end, ensure=True)
        answer = await it.local.stub.ReadLast(asked)
        assert it.source.calls
        assert pa.ipc.open_stream(answer.arrow_ipc).read_all().equals(expected(500, 1000))
        assert (answer.row_count, answer.range, answer.summary.complete) == (500, span(500, 1000), True)


async def test_a_few_last_rows_fail_if_they_must_be_complete_and_are_not(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        await it.read(range=span(0, 100), ensure=True)
        asked = pb.ReadLastRequest(series=BTC, count=200, end=span(0, 8000).end)
        assert not (await it.local.stub.ReadLast(asked)).summary.complete
        asked.require_complete = True
        code, info, _, _ = await failure(it.local.stub.ReadLast(asked))
        assert (code, info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INCOMPLETE")


async def test_too_many_last_rows_for_one_answer_are_refused(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        code, info, _, _ = await failure(it.local.stub.ReadLast(pb.ReadLastRequest(series=BTC, count=1_001)))
        assert (code, info.metadata["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, "count")


async def test_a_series_id_that_is_none_is_an_invalid_argument(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        code, info, retry, _ = await failure(it.local.stub.Coverage(pb.CoverageRequest(series="nonsense")))
        assert (code, info.reason, retry) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_SERIES", None)


async def test_an_unknown_symbol_is_not_found(tmp_path: Path) -> None:
    """In the stream of an ensure, with the symbols that are near."""
    async with house(tmp_path) as it:
        it.source.symbols = {"ETH/USDT"}
        code, info, _, _ = await failure(
            it.local.stub.EnsureRange(pb.EnsureRangeRequest(series=BTC, range=span(0, 10)))
        )
        assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SYMBOL")
        assert info.metadata["nearest"] == "ETH/USDT"


async def test_an_incomplete_range_fails_before_the_first_row_if_it_must_be_complete(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        await it.read(range=span(0, 100), ensure=True)
        request = pb.ReadRangeRequest(series=BTC, range=span(0, 300), require_complete=True)
        code, info, _, _ = await failure(it.local.stub.ReadRange(request))
        assert (code, info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INCOMPLETE")


async def test_series_are_listed_page_by_page(tmp_path: Path) -> None:
    names = sorted(f"ohlcv:binance:A{number}/USDT:1m" for number in range(7))
    async with open_embedded(tmp_path / "history.db") as store, HistoryEngine(store, None) as engine:
        for name in names:
            series = SeriesId.parse(name)
            await store.open_series(series, Origin("h"), Layout(100, None))
            await store.commit(series, Fact(TimeRange(0, MINUTE), 1, 1), bars([0]))
        async with serve_engine(engine) as local:
            found, token, pages = [], "", 0
            while pages == 0 or token:
                answer = await local.stub.ListSeries(pb.ListSeriesRequest(page_size=3, page_token=token))
                found += [entry.series for entry in answer.series]
                token, pages = answer.next_page_token, pages + 1
            assert (found, pages) == (names, 3)
            few = await local.stub.ListSeries(pb.ListSeriesRequest(pattern="*A?/USDT*", page_size=7))
            assert ([entry.row_count for entry in few.series], few.next_page_token) == ([1] * 7, "")
            first = await local.stub.ListSeries(pb.ListSeriesRequest(page_size=3))
            foreign = pb.ListSeriesRequest(pattern="*B*", page_size=3, page_token=first.next_page_token)
            code, info, _, _ = await failure(local.stub.ListSeries(foreign))
            assert (code, info.metadata["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, "page_token")


async def test_markets_are_listed_page_by_page_and_by_pattern(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.source.symbols = {"BTC/USDT", "BTC/USDT:USDT", "ETH/BTC", "ETH/USDT"}
        first = await it.local.stub.ListMarkets(pb.ListMarketsRequest(exchange="binance", page_size=3))
        rest = await it.local.stub.ListMarkets(
            pb.ListMarketsRequest(exchange="binance", page_size=3, page_token=first.next_page_token)
        )
        assert [market.symbol for market in [*first.markets, *rest.markets]] == sorted(it.source.symbols)
        assert (list(first.timeframes), rest.next_page_token) == (["1m", "1h"], "")
        some = await it.local.stub.ListMarkets(pb.ListMarketsRequest(exchange="binance", pattern="BTC/*"))
        assert [market.symbol for market in some.markets] == ["BTC/USDT", "BTC/USDT:USDT"]


@dataclass
class ScriptedEngine:
    """Plays what a test wants of an engine: a read that hangs after its first event, a coverage that raises."""

    error: Exception | None = None
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    drained: bool = False

    def now(self) -> int:
        return NOW

    def drain(self) -> None:
        self.drained = True

    async def coverage(self, series: SeriesId, window: TimeRange) -> Any:
        assert self.error is not None
        raise self.error

    async def read(self, request: ReadRequest, packer: Packer | None = None) -> AsyncGenerator[ReadEvent, None]:
        try:
            yield ReadStart(request.window)
            self.reading.set()
            await self.go_on.wait()
        finally:
            self.closed.set()


async def test_a_defect_is_told_by_its_number_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The client learns an incident number; the log has the traceback under that number."""
    engine = ScriptedEngine(error=RuntimeError("postgresql://user:secret@host"))
    async with serve_engine(engine) as local:
        code, info, retry, message = await failure(local.stub.Coverage(pb.CoverageRequest(series=BTC)))
    assert (code, info.reason, retry) == (grpc.StatusCode.INTERNAL, "INTERNAL", None)
    assert "secret" not in message
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert info.metadata["incident"] in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is engine.error


async def test_a_cause_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """What the driver said is chained to the error and never sent."""
    error = StoreUnavailable("the store is full", cause="disk full")
    error.__cause__ = OSError("/secret/path")
    async with serve_engine(ScriptedEngine(error=error)) as local:
        code, info, retry, message = await failure(local.stub.Coverage(pb.CoverageRequest(series=BTC)))
    assert (code, dict(info.metadata), message) == (grpc.StatusCode.UNAVAILABLE, {"cause": "disk full"}, str(error))
    assert retry is not None


async def test_a_cancelled_read_closes_the_engines_stream_before_the_call_is_over() -> None:
    engine = ScriptedEngine()
    async with serve_engine(engine) as local:
        call = local.stub.ReadRange(pb.ReadRangeRequest(series=BTC, range=span(0, 10)))
        reading = asyncio.create_task(call.read())
        await engine.reading.wait()
        call.cancel()
        await engine.closed.wait()
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_a_deadline_closes_the_engines_stream() -> None:
    engine = ScriptedEngine()
    async with serve_engine(engine) as local:
        call = local.stub.ReadRange(pb.ReadRangeRequest(series=BTC, range=span(0, 10)), timeout=0.2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await engine.closed.wait()


async def test_every_call_is_one_line_in_the_access_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "historyd.access")
    async with house(tmp_path) as it:
        await it.read(range=span(0, 150), ensure=True)
        await failure(it.local.stub.Coverage(pb.CoverageRequest(series="nonsense")))
    lines = [record.__dict__["fields"] for record in caplog.records if record.name == "historyd.access"]
    told = [(line["method"], line["series"], line["status"], line["rows"]) for line in lines]
    assert told == [("ReadRange", BTC, "OK", 150), ("Coverage", "nonsense", "INVALID_SERIES", 0)]
