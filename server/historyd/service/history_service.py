"""The RPCs of markethistory.v1.HistoryService, each a thin layer over the engine.

A method reads its request, asks the engine, and answers in the contract's words. Errors, logging and cancelling are
the business of `interceptors`; ReadRange and ReadLast send bytes that `frames` has made ready.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import grpc

from historyd.service import convert, paging, requests
from historyd.service.frames import FramePacker, frames, single_frame
from historyd.service.interceptors import stream, unary
from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1 import quality_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from historyd.engine.history import HistoryEngine
    from historyd.service.calls import Call, Calls

SERVICE: Final = pb.DESCRIPTOR.services_by_name["HistoryService"].full_name
"""The full name of the service."""


class HistoryService:
    """Answers the RPCs for one engine."""

    def __init__(self, engine: HistoryEngine) -> None:
        self._engine = engine

    async def coverage(self, request: pb.CoverageRequest, _: Call) -> pb.CoverageResponse:
        """Tiles a window of a series with what is known."""
        series = requests.series_id(request.series)
        window = requests.coverage_window(request, self._engine.now())
        return convert.coverage(await self._engine.coverage(series, window), window)

    async def ensure_range(
        self, request: pb.EnsureRangeRequest, write: Callable[[pb.EnsureRangeResponse], Awaitable[None]], call: Call
    ) -> None:
        """Makes a range covered, telling how far it is."""
        series = requests.series_id(request.series)
        now = self._engine.now()
        window = requests.ensure_window(request, now)
        deadline = requests.deadline(call.patience_s, now)
        events = self._engine.ensure(
            series, window, refresh=request.refresh, plan_only=request.plan_only, deadline=deadline
        )
        async with aclosing(events):
            async for event in events:
                await write(convert.ensure_event(event))

    async def read_range(
        self, request: pb.ReadRangeRequest, write: Callable[[bytes], Awaitable[None]], call: Call
    ) -> None:
        """Streams rows as Arrow, in messages that are serialised already."""
        reading = requests.reading(request, self._engine.now(), call.patience_s)
        events = self._engine.read(reading.request, FramePacker(reading))
        async with aclosing(events):
            async for message, row_count in frames(events, reading):
                await write(message)
                call.rows += row_count

    async def read_last(self, request: pb.ReadLastRequest, call: Call) -> bytes:
        """A few last rows as Arrow, in one answer that is serialised already."""
        reading = requests.last_reading(request, self._engine.now(), call.patience_s)
        async with aclosing(self._engine.read(reading.request)) as events:
            message, call.rows = await single_frame(events, reading)
        return message

    async def list_series(self, request: pb.ListSeriesRequest, call: Call) -> pb.ListSeriesResponse:
        """A page of the series stored."""
        pattern = requests.pattern(request.pattern)
        size = requests.page_size(request.page_size)
        after = paging.after_of(request.page_token, "series", pattern)
        found = await self._engine.list_series(pattern, after, size + 1)
        call.rows = min(size, len(found))
        token = paging.page_token(str(found[size - 1].series), "series", pattern) if len(found) > size else ""
        return pb.ListSeriesResponse(series=map(convert.stored_series, found[:size]), next_page_token=token)

    async def list_markets(self, request: pb.ListMarketsRequest, call: Call) -> pb.ListMarketsResponse:
        """A page of the markets of an exchange."""
        exchange = requests.exchange_id(request.exchange)
        pattern = requests.pattern(request.pattern)
        size = requests.page_size(request.page_size)
        after = paging.after_of(request.page_token, "markets", exchange, pattern)
        known = await self._engine.markets(exchange)
        matches = paging.matcher(pattern).fullmatch
        found = [market for market in known.markets if market.symbol > after and matches(market.symbol)]
        found.sort(key=lambda market: market.symbol)
        call.rows = min(size, len(found))
        token = paging.page_token(found[size - 1].symbol, "markets", exchange, pattern) if len(found) > size else ""
        return pb.ListMarketsResponse(
            markets=map(convert.market, found[:size]), timeframes=known.timeframes, next_page_token=token
        )

    async def quality(self, request: quality_pb2.QualityRequest, call: Call) -> quality_pb2.QualityResponse:
        """How good the stored rows are, a page of days."""
        page = requests.quality_page(request, self._engine.now())
        report = await self._engine.quality(page.series, page.days)
        call.rows = sum(day.rows for day in report.days)
        return convert.quality(report, page.window, page.row_limit, page.next_token)


def handlers(engine: HistoryEngine, calls: Calls) -> grpc.GenericRpcHandler:
    """The handlers of all RPCs, for a `grpc.aio` server. What ReadRange and ReadLast send is serialised already."""
    service = HistoryService(engine)
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Coverage": grpc.unary_unary_rpc_method_handler(
            unary("Coverage", service.coverage, calls),
            request_deserializer=pb.CoverageRequest.FromString,
            response_serializer=pb.CoverageResponse.SerializeToString,
        ),
        "EnsureRange": grpc.unary_stream_rpc_method_handler(
            stream("EnsureRange", service.ensure_range, calls),
            request_deserializer=pb.EnsureRangeRequest.FromString,
            response_serializer=pb.EnsureRangeResponse.SerializeToString,
        ),
        "ReadRange": grpc.unary_stream_rpc_method_handler(
            stream("ReadRange", service.read_range, calls),
            request_deserializer=pb.ReadRangeRequest.FromString,
            response_serializer=None,
        ),
        "ReadLast": grpc.unary_unary_rpc_method_handler(
            unary("ReadLast", service.read_last, calls),
            request_deserializer=pb.ReadLastRequest.FromString,
            response_serializer=None,
        ),
        "ListSeries": grpc.unary_unary_rpc_method_handler(
            unary("ListSeries", service.list_series, calls),
            request_deserializer=pb.ListSeriesRequest.FromString,
            response_serializer=pb.ListSeriesResponse.SerializeToString,
        ),
        "ListMarkets": grpc.unary_unary_rpc_method_handler(
            unary("ListMarkets", service.list_markets, calls),
            request_deserializer=pb.ListMarketsRequest.FromString,
            response_serializer=pb.ListMarketsResponse.SerializeToString,
        ),
        "Quality": grpc.unary_unary_rpc_method_handler(
            unary("Quality", service.quality, calls),
            request_deserializer=quality_pb2.QualityRequest.FromString,
            response_serializer=quality_pb2.QualityResponse.SerializeToString,
        ),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)
