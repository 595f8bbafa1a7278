"""The sync client driven message by message over grpcio-testing's channel: no server, no timing."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc_testing
import pyarrow as pa
import pytest
from google.rpc.status_pb2 import Status

from markethistory import Client, EnsureResult, NotFound, RetryPolicy
from markethistory.v1 import history_service_pb2 as pb
from tests.fake_history import MINUTE, SERIES, START, bars, frames, window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Starter: TypeAlias = "Callable[..., Future[Any]]"
METHODS = pb.DESCRIPTOR.services_by_name["HistoryService"].methods_by_name
END = START + 300 * MINUTE
ROWS = bars(300)


@pytest.fixture
def channel() -> grpc_testing.Channel:
    return grpc_testing.channel(pb.DESCRIPTOR.services_by_name.values(), grpc_testing.strict_real_time())


@pytest.fixture
def start(channel: grpc_testing.Channel) -> Iterator[Starter]:
    """Starts a method of a client on the channel; gives its future."""
    with ThreadPoolExecutor(1) as pool:
        client = Client(channel, retry=RetryPolicy(attempts=3, backoff_s=0))
        yield lambda method, *args, **kwargs: pool.submit(getattr(client, method), *args, **kwargs)


def taken(channel: grpc_testing.Channel, method: str) -> tuple[Any, Any]:
    """The next call of a method: its request and the far end of it."""
    _, request, rpc = channel.take_unary_stream(METHODS[method])
    return request, rpc


def send(rpc: Any, messages: Iterable[pb.ReadRangeResponse]) -> None:
    for message in messages:
        rpc.send_response(message.SerializeToString())


def test_a_read_takes_raw_bytes_and_returns_the_table(channel: grpc_testing.Channel, start: Starter) -> None:
    reading = start("read", SERIES, START, END)
    request, rpc = taken(channel, "ReadRange")
    send(rpc, frames(ROWS, request))
    rpc.terminate((), grpc.StatusCode.OK, "")
    assert reading.result(10).equals(pa.Table.from_batches([ROWS]))


def test_a_reset_is_resumed_by_a_second_call_after_the_last_key(channel: grpc_testing.Channel, start: Starter) -> None:
    batches = start("read_batches", SERIES, START, END).result(10)
    request, rpc = None, None
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(list, batches)
        request, rpc = taken(channel, "ReadRange")
        send(rpc, frames(ROWS, request)[:1])
        while not channel_is_drained(rpc):
            pass
        rpc.terminate((), grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2")
        request, rpc = taken(channel, "ReadRange")
        assert request.resume_after == pb.RowKey(ts=frames(ROWS, pb.ReadRangeRequest())[0].last_key.ts)
        assert request.range == window(START, END)
        send(rpc, frames(ROWS, request))
        rpc.terminate((), grpc.StatusCode.OK, "")
        assert pa.Table.from_batches(reading.result(10)) == pa.Table.from_batches([ROWS])


def channel_is_drained(rpc: Any) -> bool:
    """Whether the client took all responses: an error overtakes what it has not taken."""
    return not rpc._rpc_state._responses


def test_an_error_without_details_is_typed_by_its_status(channel: grpc_testing.Channel, start: Starter) -> None:
    reading = start("read", SERIES, START, END)
    _, rpc = taken(channel, "ReadRange")
    unreadable = (("grpc-status-details-bin", b"\xff\xff"),)
    rpc.terminate(unreadable, grpc.StatusCode.NOT_FOUND, "no such symbol")
    with pytest.raises(NotFound, match="no such symbol") as caught:
        reading.result(10)
    assert (caught.value.reason, caught.value.metadata) == ("", {})


def test_details_of_another_kind_are_passed_over(channel: grpc_testing.Channel, start: Starter) -> None:
    status = Status()
    status.details.add().Pack(Status(message="not ours"))
    reading = start("read", SERIES, START, END)
    _, rpc = taken(channel, "ReadRange")
    rpc.terminate(
        (("grpc-status-details-bin", status.SerializeToString()),), grpc.StatusCode.NOT_FOUND, "no such symbol"
    )
    with pytest.raises(NotFound):
        reading.result(10)


def test_an_ensure_returns_its_result(channel: grpc_testing.Channel, start: Starter) -> None:
    ensuring = start("ensure", SERIES, START, END)
    _, rpc = taken(channel, "EnsureRange")
    rpc.send_response(pb.EnsureRangeResponse(plan=pb.EnsurePlan(range=window(START, END))))
    rpc.send_response(pb.EnsureRangeResponse(result=pb.EnsureResult()))
    rpc.terminate((), grpc.StatusCode.OK, "")
    answer = ensuring.result(10)
    assert isinstance(answer, EnsureResult)
    assert answer.call_count == 0
