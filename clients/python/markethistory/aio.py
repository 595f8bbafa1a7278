"""The client for asyncio programs, the twin of client.py.

    async with markethistory.aio.connect() as history:
        table = await history.read("ohlcv:binance:BTC/USDT:1m", "2024-01-01", "2024-02-01")

Promises as client.py; cancelling a task cancels its call at the server. Never does: block the event loop, but for
the decoding of a chunk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Self, Unpack

import grpc

from markethistory import channels, requests
from markethistory.convert import market_of, series_of, spans_of
from markethistory.ensuring import EnsureSession
from markethistory.errors import MarketHistoryError
from markethistory.few import LastSession, table_of
from markethistory.many import SeriesPattern, SeriesResult, as_many, check_jobs
from markethistory.quality import QualityReport, QualitySession
from markethistory.reads import READ_LAST, READ_RANGE
from markethistory.retry import RetryPolicy
from markethistory.status import error_of, pause_after
from markethistory.streams import AsyncBatchStream
from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1.history_service_pb2_grpc import HistoryServiceStub
from markethistory.values import CoverageSpan, EnsurePlan, EnsureResult, Market, Markets, StoredSeries

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable
    from types import TracebackType

    import pyarrow as pa

    from markethistory.channels import Tls
    from markethistory.ensuring import EnsureEvent, ProgressCallback
    from markethistory.requests import ReadOptions
    from markethistory.streams import AsyncReadRange
    from markethistory.times import Moment


def connect(
    target: str = requests.DEFAULT_TARGET,
    *,
    tls: Tls | bool = False,
    token: str | None = None,
    retry: RetryPolicy | None = None,
) -> AsyncClient:
    """A client of the server at `target` (`host:port`), for the running event loop. Nothing is sent yet.

    `tls` and `token` as in `markethistory.connect`, and what it raises. Raises RuntimeError if no event loop runs.
    """
    channels.check_token(token, target, tls)
    asyncio.get_running_loop()
    return AsyncClient(channels.open_aio_channel(target, tls), token=token, retry=retry)


class AsyncClient:
    """Asks one server; a context manager that owns its channel.

    Every method raises a MarketHistoryError for what goes wrong at the server or on the way, ValueError or TypeError
    for arguments that cannot be right; `asyncio.timeout` bounds a call. Times are aware datetimes, dates (midnight UTC)
    or ISO 8601 strings; ranges are half-open, an absent end is now.
    """

    def __init__(
        self, channel: grpc.aio.Channel, *, token: str | None = None, retry: RetryPolicy | None = None
    ) -> None:
        self._channel = channel
        self._stub = HistoryServiceStub(channel)
        read_range: grpc.aio.UnaryStreamMultiCallable[pb.ReadRangeRequest, bytes] = channel.unary_stream(
            READ_RANGE, request_serializer=pb.ReadRangeRequest.SerializeToString, response_deserializer=None
        )
        self._metadata = channels.metadata_of(token)
        self._read_range: AsyncReadRange = partial(read_range, metadata=self._metadata)
        self._read_last: grpc.aio.UnaryUnaryMultiCallable[pb.ReadLastRequest, bytes] = channel.unary_unary(
            READ_LAST, request_serializer=pb.ReadLastRequest.SerializeToString, response_deserializer=None
        )
        self._retry = retry or RetryPolicy()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the channel; calls under way fail."""
        await self._channel.close()

    async def read(
        self,
        series: str,
        start: Moment,
        end: Moment | None = None,
        **options: Unpack[ReadOptions],
    ) -> pa.Table:
        """The rows of `[start, end)` as a table, in key order.

        Args:
            series: such as `ohlcv:binance:BTC/USDT:1m`.
            start: first instant, inclusive.
            end: first instant after the range; now if absent.
            options: `columns`, `ensure`, `require_complete`, `compression`; see ReadOptions.

        Returns:
            Bars: `ts` timestamp[us, UTC], `open`, `high`, `low`, `close`, `volume` float64. The schema's metadata
            has the summary as JSON under `markethistory`.
        """
        return await self._table(requests.read_request(series, start, end, options))

    async def last(
        self,
        series: str,
        count: int,
        *,
        end: Moment | None = None,
        **options: Unpack[ReadOptions],
    ) -> pa.Table:
        """The last `count` rows before `end` (now if absent), ascending; else as `read`."""
        few = requests.few_request(series, count, end, options)
        if few is not None:
            return await self._few(few)
        return await self._table(requests.last_request(series, count, end, options))

    async def expand(self, series: str | Iterable[str]) -> list[str]:
        """Series ids for ids and patterns, in order, each once. Asks for the markets of each pattern's exchange.

        Raises NotFound for a pattern that no active market matches, ValueError for one that is none.
        """
        names: list[str] = []
        for one in as_many(series):
            if isinstance(one, SeriesPattern):
                names += one.ids(await self.markets(one.exchange, one.symbols))
            else:
                names.append(one)
        return list(dict.fromkeys(names))

    async def read_many(
        self,
        series: str | Iterable[str],
        start: Moment,
        end: Moment | None = None,
        *,
        jobs: int = 4,
        **options: Unpack[ReadOptions],
    ) -> AsyncGenerator[SeriesResult, None]:
        """Reads the rows of `[start, end)` of several series, up to `jobs` at once; they come in the order asked for.

        `series` are ids and patterns such as `ohlcv:binance:*/USDT:1m`, see `expand`. One that fails stops no other:
        its result has the error. No more than `jobs` tables wait to be taken. Nothing warns of a table that is
        incomplete: its schema's metadata tells, and `require_complete=True` makes it an error. Leaving early cancels
        the reads.
        """
        check_jobs(jobs)
        asked = [requests.read_request(name, start, end, options) for name in await self.expand(series)]
        under_way: deque[asyncio.Task[SeriesResult]] = deque()
        try:
            for request in asked:
                stream = AsyncBatchStream(self._read_range, request, self._retry, warn=False)
                under_way.append(asyncio.create_task(_result_of(stream)))
                if len(under_way) == jobs:
                    yield await under_way[0]
                    under_way.popleft()
            while under_way:
                yield await under_way[0]
                under_way.popleft()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    def read_batches(
        self,
        series: str,
        start: Moment,
        end: Moment | None = None,
        **options: Unpack[ReadOptions],
    ) -> AsyncBatchStream:
        """The rows of `[start, end)` as they come, in bounded memory; else as `read`.

        If the stream breaks for good, what was taken from it is incomplete: iteration raises.
        """
        request = requests.read_request(series, start, end, options)
        return AsyncBatchStream(self._read_range, request, self._retry)

    def last_batches(
        self,
        series: str,
        count: int,
        *,
        end: Moment | None = None,
        **options: Unpack[ReadOptions],
    ) -> AsyncBatchStream:
        """The last `count` rows before `end` (now if absent) as they come; else as `read_batches`."""
        request = requests.last_request(series, count, end, options)
        return AsyncBatchStream(self._read_range, request, self._retry)

    async def plan(
        self,
        series: str,
        start: Moment,
        end: Moment | None = None,
        *,
        refresh: bool = False,
    ) -> EnsurePlan:
        """What `ensure` would do. Nothing is fetched."""
        session = EnsureSession(
            requests.ensure_request(series, start, end, refresh=refresh, plan_only=True), self._retry
        )
        await self._run_ensure(session, None)
        assert session.plan is not None
        return session.plan

    async def ensure(
        self,
        series: str,
        start: Moment,
        end: Moment | None = None,
        *,
        refresh: bool = False,
        on_progress: ProgressCallback | None = None,
    ) -> EnsureResult:
        """Makes `[start, end)` covered and says what that took; `refresh` asks again for what is covered already.

        `on_progress` is called with the EnsurePlan, then with an EnsureProgress at least once a second.
        """
        session = EnsureSession(requests.ensure_request(series, start, end, refresh=refresh), self._retry)
        await self._run_ensure(session, on_progress)
        assert session.result is not None
        return session.result

    async def coverage(
        self,
        series: str,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> list[CoverageSpan]:
        """Spans that tile `[start, end)`, ascending, without holes or overlaps. Never asks the exchange.

        Default: all of time up to now.
        """
        request = requests.coverage_request(series, start, end)
        return list(spans_of((await self._unary(self._stub.Coverage, request)).spans))

    async def quality(
        self,
        series: str,
        start: Moment,
        end: Moment | None = None,
        *,
        row_limit: int = 0,
    ) -> QualityReport:
        """Reports how good the stored rows of `[start, end)` are, by UTC day. Never asks the exchange.

        Counts what is there and what should be, what was set aside and why, what was revised. With `row_limit` it
        lists so many of the quarantined rows too, the first ones.
        """
        session = QualitySession(series, start, end, row_limit)
        while not session.done:
            session.receive(await self._unary(self._stub.Quality, session.request()))
        return session.report()

    async def series(self, pattern: str = "") -> list[StoredSeries]:
        """The series stored whose id matches `pattern` (`*` any text, `?` one character; default all), by id."""
        request = pb.ListSeriesRequest(pattern=pattern, page_size=requests.PAGE_SIZE)
        found: list[StoredSeries] = []
        while True:
            page = await self._unary(self._stub.ListSeries, request)
            found.extend(map(series_of, page.series))
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found

    async def markets(self, exchange: str, pattern: str = "") -> Markets:
        """The markets of an exchange whose symbol matches `pattern`, and its timeframes. May ask the exchange."""
        request = pb.ListMarketsRequest(exchange=exchange, pattern=pattern, page_size=requests.PAGE_SIZE)
        found: list[Market] = []
        while True:
            page = await self._unary(self._stub.ListMarkets, request)
            found.extend(map(market_of, page.markets))
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return Markets(tuple(found), tuple(page.timeframes))

    async def _unary(self, method: grpc.aio.UnaryUnaryMultiCallable[Any, Any], request: object) -> Any:
        try:
            return await method(request, metadata=self._metadata)
        except grpc.RpcError as failure:
            raise error_of(failure) from failure

    async def _table(self, request: pb.ReadRangeRequest) -> pa.Table:
        stream = AsyncBatchStream(self._read_range, request, self._retry, warn=False)
        table = await stream.table()
        requests.warn_if_incomplete(request.series, stream.summary, stacklevel=3)
        return table

    async def _few(self, request: pb.ReadLastRequest) -> pa.Table:
        session = LastSession(self._retry)
        while True:
            try:
                answer = await self._read_last(request, metadata=self._metadata)
            except grpc.RpcError as failure:
                await asyncio.sleep(pause_after(session, failure))
            else:
                return table_of(request.series, answer, stacklevel=3)

    async def _run_ensure(self, session: EnsureSession, on_progress: ProgressCallback | None) -> None:
        async with aclosing(self._ensure_events(session)) as events:
            async for event in events:
                if on_progress is not None:
                    on_progress(event)

    async def _ensure_events(self, session: EnsureSession) -> AsyncGenerator[EnsureEvent, None]:
        while not session.done:
            call = self._stub.EnsureRange(session.request(), metadata=self._metadata)
            try:
                async for message in call:
                    for item in session.receive(message):
                        yield item
                session.finish()
            except (grpc.RpcError, MarketHistoryError) as failure:
                if not session.done:
                    await asyncio.sleep(pause_after(session, failure))
            finally:
                call.cancel()


async def _result_of(stream: AsyncBatchStream) -> SeriesResult:
    try:
        return SeriesResult(stream.series, await stream.table())
    except MarketHistoryError as error:
        return SeriesResult(stream.series, error=error)
