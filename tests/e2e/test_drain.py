"""Stopping: calls under way may end, new ones are refused, and there is a bound to it."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from historyd.demo.exchange import serve_exchange
from historyd.engine.events import ReadSummary
from markethistory.v1 import history_service_pb2 as pb
from tests.e2e.serving import SERVICE, serve_engine, serve_process, stub_of
from tests.e2e.test_service import BTC, ScriptedEngine, span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from aiohttp import web
    from aiohttp.typedefs import Handler

    from historyd.engine.events import ReadRequest
    from historyd.engine.reading import ReadEvent
    from historyd.stores.base import Packer

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVING = health_pb2.HealthCheckResponse.SERVING
READ = pb.ReadRangeRequest(series=BTC, range=span(0, 10))


class EndingEngine(ScriptedEngine):
    """Its read ends with a summary once it may go on."""

    async def read(self, request: ReadRequest, packer: Packer | None = None) -> AsyncGenerator[ReadEvent, None]:
        async for event in super().read(request, packer):
            yield event
        yield ReadSummary(0, 1, (), 0, complete=True)


async def test_a_read_under_way_ends_well_while_new_calls_are_refused() -> None:
    """During the drain health watchers hear NOT_SERVING, and the engine begins no page."""
    engine = EndingEngine()
    async with serve_engine(engine) as local:
        watch = health_pb2_grpc.HealthStub(local.channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == SERVING
        call = local.stub.ReadRange(READ)
        first = asyncio.create_task(call.read())
        await engine.reading.wait()

        draining = asyncio.create_task(local.server.drain(60))
        assert (await watch.read()).status == NOT_SERVING
        assert engine.drained
        async with grpc.aio.insecure_channel(local.server.address) as late:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub_of(late).Coverage(pb.CoverageRequest(series=BTC))
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not draining.done()
        engine.go_on.set()
        last = await first
        assert isinstance(last, pb.ReadRangeResponse)
        assert last.summary.complete
        await draining


async def test_a_read_that_does_not_end_is_cancelled_at_the_bound() -> None:
    engine = ScriptedEngine()
    async with serve_engine(engine) as local:
        call = local.stub.ReadRange(READ)
        reading = asyncio.create_task(call.read())
        await engine.reading.wait()
        await local.server.drain(0.05)
        assert engine.closed.is_set()
        with pytest.raises(grpc.aio.AioRpcError):
            await reading


async def test_a_health_watch_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """The drain is over at once although a watcher is connected and the bound is a minute: else the test times out."""
    async with serve_process(tmp_path) as serving:
        watch = health_pb2_grpc.HealthStub(serving.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        assert await serving.stop() == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_stops_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """A call to the exchange that never returns holds up the first signal for the bound of an hour, not the second."""
    asked = asyncio.Event()

    async def hang(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.endswith("/klines"):
            return await handler(request)
        asked.set()
        await asyncio.Event().wait()
        return await handler(request)

    hang.__middleware_version__ = 1  # type: ignore[attr-defined]  # what aiohttp's decorator sets
    async with serve_exchange(middlewares=[hang]) as exchange:
        (tmp_path / "historyd.yaml").write_text(
            f"drain_s: 3600\nexchanges: {{binance: {{base_url: '{exchange.url}', max_retries: 1}}}}\n"
        )
        async with serve_process(tmp_path, "--config", "historyd.yaml") as serving:
            health = health_pb2_grpc.HealthStub(serving.channel)
            watch = health.Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == SERVING
            call = serving.stub.EnsureRange(pb.EnsureRangeRequest(series=BTC, range=span(0, 10)))
            ensuring = asyncio.create_task(_until_broken(call))
            await asked.wait()
            serving.process.send_signal(number)
            assert (await watch.read()).status == NOT_SERVING
            assert serving.process.returncode is None
            assert await serving.stop(number) == 0
            assert await ensuring in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


async def _until_broken(
    call: grpc.aio.UnaryStreamCall[pb.EnsureRangeRequest, pb.EnsureRangeResponse],
) -> grpc.StatusCode:
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
