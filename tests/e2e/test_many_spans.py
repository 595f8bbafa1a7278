"""Answers of very many spans: what fits comes through a client with gRPC's own limit, what does not says what would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from historyd.coverage import Span, State
from historyd.engine.events import EnsurePlan, ReadSummary
from historyd.errors import InvalidField
from historyd.service import convert
from historyd.service.bounds import MAX_SPANS
from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1 import series_pb2
from tests.e2e.serving import serve_engine
from tests.rows import BTC, MINUTE, minutes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from historyd.model.time_range import TimeRange

YEARS = 10 * 365 * 24 * 60
REASON = "binance answered with bars of another time than the one asked for"
FAR = 10**18


def spans(count: int) -> list[Span]:
    """As large as spans are: each with a reason and a count."""
    return [Span(minutes(n, n + 1), State.UNREACHABLE, FAR, FAR, reason=REASON) for n in range(count)]


@dataclass
class Scattered:
    """An engine that knows of so many spans, or of ranges to fetch."""

    count: int
    fetched: bool = False

    def now(self) -> int:
        return YEARS * MINUTE

    async def coverage(self, _: object, window: TimeRange) -> list[Span]:
        return [span for span in spans(self.count) if window.contains(span.range)]

    async def ensure(self, _: object, window: TimeRange, **__: Any) -> AsyncGenerator[EnsurePlan, None]:
        yield EnsurePlan(window, tuple(span.range for span in spans(self.count)), 1, 1, 1, 0.0)
        self.fetched = True


def asked(end: Timestamp | None = None) -> pb.CoverageRequest:
    window = series_pb2.TimeRange(start=Timestamp(), end=end or Timestamp(seconds=YEARS * 60))
    return pb.CoverageRequest(series=str(BTC), range=window)


async def test_the_largest_answer_fits_into_what_grpc_takes() -> None:
    async with serve_engine(Scattered(MAX_SPANS)) as served:
        assert len((await served.stub.Coverage(asked())).spans) == MAX_SPANS


async def test_a_larger_answer_is_refused_and_the_range_that_it_names_is_not() -> None:
    async with serve_engine(Scattered(MAX_SPANS + 5)) as served:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.stub.Coverage(asked())
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        status = rpc_status.from_call(refused.value)
        bad = error_details_pb2.BadRequest()
        assert any(detail.Unpack(bad) for detail in status.details)
        assert bad.field_violations[0].field == "range"
        until = Timestamp()
        until.FromJsonString(str(refused.value.details()).partition("up to ")[2].partition(" ")[0])
        assert len((await served.stub.Coverage(asked(until))).spans) == MAX_SPANS


async def test_a_plan_that_is_too_large_is_refused_before_anything_is_fetched() -> None:
    engine = Scattered(MAX_SPANS + 1)
    async with serve_engine(engine) as served:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in served.stub.EnsureRange(pb.EnsureRangeRequest(series=str(BTC), range=asked().range)):
                pass
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not engine.fetched


def test_a_summary_is_told_whole_or_not_at_all() -> None:
    fits = ReadSummary(0, 0, tuple(spans(MAX_SPANS)), 0, complete=False)
    assert len(convert.summary(fits).uncovered) == MAX_SPANS
    with pytest.raises(InvalidField, match="ask for it up to 1970-01-18T08:40:00Z first"):
        convert.summary(ReadSummary(0, 0, tuple(spans(MAX_SPANS + 1)), 0, complete=False))
