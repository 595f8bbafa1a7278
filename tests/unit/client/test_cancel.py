"""Leaving a read early reaches the server, in both clients; memory stays bounded meanwhile."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import grpc
import pytest

import markethistory
import markethistory.aio
from markethistory.v1 import history_service_pb2 as pb
from tests.fake_history import MINUTE, SERIES, START, FakeHistory, bars, frames, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Endless:
    """A read that never ends by itself; notes how many messages were made and when it was left."""

    def __init__(self) -> None:
        self.made = 0
        self.left = threading.Event()
        self.started = threading.Event()

    def __call__(self, request: pb.ReadRangeRequest) -> Iterator[pb.ReadRangeResponse]:
        first = START
        try:
            while True:
                message = frames(bars(10_000, first), pb.ReadRangeRequest(range=request.range), chunk=10_000)[0]
                message.ClearField("summary")
                self.made += 1
                yield message
                self.started.set()
                first += 10_000 * MINUTE
        finally:
            self.left.set()


clients = pytest.mark.parametrize(
    "connect",
    [markethistory.connect, lambda target: markethistory.Client(grpc.insecure_channel(target))],
    ids=["direct", "channel"],
)


@clients
def test_closing_a_sync_stream_cancels_the_call(connect: Callable[[str], markethistory.Client]) -> None:
    endless = Endless()
    with serving(FakeHistory({"ReadRange": endless})) as target, connect(target) as history:
        with history.read_batches(SERIES, START) as stream:
            assert next(stream).num_rows == 10_000
            assert not endless.left.is_set()
        assert endless.left.wait(10)
        with pytest.raises(RuntimeError, match="the summary comes at the end"):
            _ = stream.summary


async def test_closing_an_aio_stream_cancels_the_call() -> None:
    endless = Endless()
    with serving(FakeHistory({"ReadRange": endless})) as target:
        async with markethistory.aio.connect(target) as history, history.read_batches(SERIES, START) as stream:
            assert (await anext(stream)).num_rows == 10_000
        assert await asyncio.to_thread(endless.left.wait, 10)


async def test_cancelling_a_task_cancels_its_read_and_no_other() -> None:
    endless = Endless()
    with serving(FakeHistory({"ReadRange": endless})) as target:
        async with markethistory.aio.connect(target) as history:
            task = asyncio.create_task(history.read(SERIES, START))
            await asyncio.to_thread(endless.started.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(endless.left.wait, 10)


@clients
def test_a_reader_that_stalls_stops_the_server(connect: Callable[[str], markethistory.Client]) -> None:
    """Flow control, or TCP alone, holds the server after a few messages: nothing is read ahead without bound."""
    endless = Endless()
    with (
        serving(FakeHistory({"ReadRange": endless})) as target,
        connect(target) as history,
        history.read_batches(SERIES, START) as stream,
    ):
        next(stream)
        made = -1
        while made != endless.made:  # until it stands still
            made = endless.made
            endless.left.wait(0.5)
        assert made < 100


def test_a_connect_outside_of_an_event_loop_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        markethistory.aio.connect()


def test_a_closed_client_says_so() -> None:
    with markethistory.connect("127.0.0.1:1") as history:
        pass
    with pytest.raises((ValueError, grpc.RpcError)):
        history.read(SERIES, START)
