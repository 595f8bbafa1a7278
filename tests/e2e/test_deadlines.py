"""A caller's deadline and the quota: who cannot be served in time is told so at once, and spends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from markethistory.v1 import history_service_pb2 as pb
from tests.e2e.serving import stub_of
from tests.e2e.whole import Whole, whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from markethistory.v1.history_service_pb2_grpc import HistoryServiceAsyncStub

SERIES = "ohlcv:binance:BTC/USDT:1m"
UNKNOWN_YET = "ohlcv:binance:ETH/USDT:1m"
"""Where it begins has to be asked first."""
HOUR_S, START_S = 3_600, 1_704_067_200
PAGE = 60
SPENT_S = 40
"""Markets cost 20 of a window's 26, the first bar 2 and 2, one page 2: the next page waits for the window to end."""


def quota(interval_s: float) -> dict[str, Any]:
    return {"limits": [{"weight": 26, "interval_ms": interval_s * 1_000}], "max_concurrency": 2}


def ensure(hour: int, series: str = SERIES) -> pb.EnsureRangeRequest:
    request = pb.EnsureRangeRequest(series=series)
    request.range.start.seconds, request.range.end.seconds = START_S + hour * HOUR_S, START_S + (hour + 1) * HOUR_S
    return request


def read(hour: int, series: str = SERIES) -> pb.ReadRangeRequest:
    request = pb.ReadRangeRequest(series=series, ensure=True)
    request.range.CopyFrom(ensure(hour).range)
    return request


def last(hour: int, series: str = SERIES) -> pb.ReadLastRequest:
    request = pb.ReadLastRequest(series=series, ensure=True, count=60)
    request.end.CopyFrom(ensure(hour).range.end)
    return request


async def drain(call: Any) -> list[Any]:
    return [message async for message in call]


ASKS: dict[str, Callable[[HistoryServiceAsyncStub, str, float], Any]] = {
    "EnsureRange": lambda stub, series, seconds: drain(stub.EnsureRange(ensure(5, series), timeout=seconds)),
    "ReadRange": lambda stub, series, seconds: drain(stub.ReadRange(read(5, series), timeout=seconds)),
    "ReadLast": lambda stub, series, seconds: stub.ReadLast(last(5, series), timeout=seconds),
}


async def spend(server: Whole, stub: HistoryServiceAsyncStub) -> None:
    """Fetches one page, after which the window is full."""
    await drain(stub.EnsureRange(ensure(0)))
    assert server.exchange.count("/klines") == 3


@pytest.mark.parametrize("series", [SERIES, UNKNOWN_YET])
@pytest.mark.parametrize("rpc", ASKS)
async def test_a_deadline_before_the_quota_has_room_is_told_at_once(tmp_path: Path, rpc: str, series: str) -> None:
    """RESOURCE_EXHAUSTED with the wait, instead of DEADLINE_EXCEEDED after it."""
    async with (
        whole(tmp_path, rate_limiter=quota(SPENT_S), window_size=PAGE) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = stub_of(channel)
        await spend(server, stub)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ASKS[rpc](stub, series, SPENT_S / 4)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = rpc_status.from_call(refused.value)
        assert status is not None
        retry = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(retry) for detail in status.details)
        assert SPENT_S / 4 < retry.retry_delay.seconds <= SPENT_S
        assert server.exchange.count("/klines") == 3


async def test_a_shared_fetch_does_not_die_of_one_callers_deadline(tmp_path: Path) -> None:
    """The hasty one is cut off by its own deadline, the patient one has the page."""
    async with (
        whole(tmp_path, rate_limiter=quota(4), window_size=PAGE) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = stub_of(channel)
        await spend(server, stub)
        patient = aiter(stub.EnsureRange(ensure(5)))
        told = [await anext(patient), await anext(patient)]  # the plan; then it waits
        assert [message.WhichOneof("event") for message in told] == ["plan", "progress"]
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await drain(stub.EnsureRange(ensure(5), timeout=0.5))
        assert cut.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await drain(patient))[-1].result.row_count == PAGE
        assert server.exchange.count("/klines") == 4


async def test_what_is_covered_is_served_whatever_the_quota(tmp_path: Path) -> None:
    async with (
        whole(tmp_path, rate_limiter=quota(SPENT_S), window_size=PAGE) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = stub_of(channel)
        await spend(server, stub)
        assert (await drain(stub.ReadRange(read(0), timeout=SPENT_S / 4)))[-1].summary.complete
