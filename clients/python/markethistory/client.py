"""The client for synchronous programs.

    with markethistory.connect() as history:
        table = history.read("ohlcv:binance:BTC/USDT:1m", "2024-01-01", "2024-02-01")

Promises: safe to use from several threads; a broken stream is resumed without doubling or losing a row; rows are
returned completely or not at all. Never does: compute anything about series, coverage or quotas, the server does.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

import grpc
from grpc.experimental import ChannelOptions

from markethistory import channels, requests
from markethistory.convert import market_of, series_of, spans_of
from markethistory.direct import DirectChannel
from markethistory.ensuring import EnsureSession
from markethistory.errors import MarketHistoryError
from markethistory.few import LastSession, table_of
from markethistory.many import SeriesPattern, SeriesResult, as_many, check_jobs
from markethistory.quality import QualityReport, QualitySession
from markethistory.reads import Reads
from markethistory.retry import Deadline, RetryPolicy
from markethistory.status import error_of, pause_after
from markethistory.streams import BatchStream
from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1.history_service_pb2_grpc import HistoryServiceStub
from markethistory.values import CoverageSpan, EnsurePlan, EnsureResult, Market, Markets, StoredSeries

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from types import TracebackType

    import pyarrow as pa

    from markethistory.channels import Tls
    from markethistory.ensuring import EnsureEvent, ProgressCallback
    from markethistory.requests import ReadOptions
    from markethistory.times import Moment

# Reads without a second thread: a third faster in bulk, a quarter in small reads.
_OPTIONS: Final = [*channels.OPTIONS, (ChannelOptions.SingleThreadedUnaryStream, 1)]


def connect(
    target: str = requests.DEFAULT_TARGET,
    *,
    tls: Tls | bool = False,
    token: str | None = None,
    retry: RetryPolicy | None = None,
) -> Client:
    """A client of the server at `target` (`host:port`). Nothing is sent before the first call.

    `tls`: True trusts the system's authorities, a Tls says more; default plain. `token` goes with each call, if the
    server asks for one. Raises OSError if a file of `tls` cannot be read, ValueError if a token would go to another
    machine without TLS.
    """
    channels.check_token(token, target, tls)
    direct = DirectChannel.to(target) if tls is False else None
    return Client(channels.open_channel(target, tls, _OPTIONS), token=token, retry=retry, direct=direct)


class Client:
    """Asks one server; a context manager that owns its channel, and the direct one for reads if it has one.

    Every method raises a MarketHistoryError for what goes wrong at the server or on the way, ValueError or TypeError
    for arguments that cannot be right. `timeout` is in seconds, for all of a call; None: no end. Times are aware
    datetimes, dates (midnight UTC) or ISO 8601 strings; ranges are half-open, an absent end is now.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        token: str | None = None,
        retry: RetryPolicy | None = None,
        direct: DirectChannel | None = None,
    ) -> None:
        self._channel = channel
        self._stub = HistoryServiceStub(channel)
        self._metadata = channels.metadata_of(token)
        self._reads = Reads(channel, direct, self._metadata)
        self._retry = retry or RetryPolicy()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all connections; calls under way fail."""
        self._reads.close()
        self._channel.close()

    def read(
        self,
        series: str,
        start: Moment,
        end: Moment | None = None,
        *,
        timeout: float | None = None,
        **options: Unpack[ReadOptions],
    ) -> pa.Table:
        """The rows of `[start, end)` as a table, in key order.

        Args:
            series: such as `ohlcv:binance:BTC/USDT:1m`.
            start: first instant, inclusive.
            end: first instant after the range; now if absent.
            timeout: seconds for all of it.
            options: `columns`, `ensure`, `require_complete`, `compression`; see ReadOptions.

        Returns:
            Bars: `ts` timestamp[us, UTC], `open`, `high`, `low`, `close`, `volume` float64. The schema's metadata
            has the summary as JSON under `markethistory`.
        """
        return self._table(requests.read_request(series, start, end, options), timeout)

    def last(
        self,
        series: str,
        count: int,
        *,
        end: Moment | None = None,
        timeout: float | None = None,
        **options: Unpack[ReadOptions],
    ) -> pa.Table:
        """The last `count` rows before `end` (now if absent), ascending; else as `read`."""
        few = requests.few_request(series, count, end, options)
        if few is not None:
            return self._few(few, timeout)
        return self._table(requests.last_request(series, count, end, options), timeout)

    def expand(self, series: str | Iterable[str], *, timeout: float | None = None) -> list[str]:
        """Series ids for ids and patterns, in order, each once. Asks for the markets of each pattern's exchange.

        Raises NotFound for a pattern that no active market matches, ValueError for one that is none.
        """
        deadline, names = Deadline(timeout), list[str]()
        for one in as_many(series):
            if isinstance(one, SeriesPattern):
                names += one.ids(self.markets(one.exchange, one.symbols, timeout=deadline.left()))
            else:
                names.append(one)
        return list(dict.fromkeys(names))

    def read_many(
        self,
        series: str | Iterable[str],
        start: Moment,
        end: Moment | None = None,
        *,
        jobs: int = 4,
        timeout: float | None = None,
        **options: Unpack[ReadOptions],
    ) -> Generator[SeriesResult, None, None]:
        """Reads the rows of `[start, end)` of several series, up to `jobs` at once; they come in the order asked for.

        `series` are ids and patterns such as `ohlcv:binance:*/USDT:1m`, see `expand`. One that fails stops no other:
        its result has the error. No more than `jobs` tables wait to be taken. Nothing warns of a table that is
        incomplete: its schema's metadata tells, and `require_complete=True` makes it an error. Leaving early cancels
        the reads.
        """
        check_jobs(jobs)
        names = self.expand(series, timeout=timeout)
        asked = [requests.read_request(name, start, end, options) for name in names]
        return self._read_each(asked, jobs, timeout)

    def read_batches(
        self,
        series: str,
        start: Moment,
        end: Moment | None = None,
        *,
        timeout: float | None = None,
        **options: Unpack[ReadOptions],
    ) -> BatchStream:
        """The rows of `[start, end)` as they come, in bounded memory; else as `read`.

        If the stream breaks for good, what was taken from it is incomplete: iteration raises.
        """
        request = requests.read_request(series, start, end, options)
        return BatchStream(self._reads.range, request, self._retry, timeout)

    def last_batches(
        self,
        series: str,
        count: int,
        *,
        end: Moment | None = None,
        timeout: float | None = None,
        **options: Unpack[ReadOptions],
    ) -> BatchStream:
        """The last `count` rows before `end` (now if absent) as they come; else as `read_batches`."""
        request = requests.last_request(series, count, end, options)
        return BatchStream(self._reads.range, request, self._retry, timeout)

    def plan(
        self,
        series: str,
        start: Moment,
        end: Moment | None = None,
        *,
        refresh: bool = False,
        timeout: float | None = None,
    ) -> EnsurePlan:
        """What `ensure` would do. Nothing is fetched."""
        session = EnsureSession(
            requests.ensure_request(series, start, end, refresh=refresh, plan_only=True), self._retry
        )
        self._run_ensure(session, None, timeout)
        assert session.plan is not None
        return session.plan

    def ensure(
        self,
        series: str,
        start: Moment,
        end: Moment | None = None,
        *,
        refresh: bool = False,
        on_progress: ProgressCallback | None = None,
        timeout: float | None = None,
    ) -> EnsureResult:
        """Makes `[start, end)` covered and says what that took; `refresh` asks again for what is covered already.

        `on_progress` is called with the EnsurePlan, then with an EnsureProgress at least once a second.
        """
        session = EnsureSession(requests.ensure_request(series, start, end, refresh=refresh), self._retry)
        self._run_ensure(session, on_progress, timeout)
        assert session.result is not None
        return session.result

    def coverage(
        self,
        series: str,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        timeout: float | None = None,
    ) -> list[CoverageSpan]:
        """Spans that tile `[start, end)`, ascending, without holes or overlaps. Never asks the exchange.

        Default: all of time up to now.
        """
        request = requests.coverage_request(series, start, end)
        return list(spans_of(self._unary(self._stub.Coverage, request, timeout).spans))

    def quality(
        self,
        series: str,
        start: Moment,
        end: Moment | None = None,
        *,
        row_limit: int = 0,
        timeout: float | None = None,
    ) -> QualityReport:
        """Reports how good the stored rows of `[start, end)` are, by UTC day. Never asks the exchange.

        Counts what is there and what should be, what was set aside and why, what was revised. With `row_limit` it
        lists so many of the quarantined rows too, the first ones.
        """
        session, deadline = QualitySession(series, start, end, row_limit), Deadline(timeout)
        while not session.done:
            session.receive(self._unary(self._stub.Quality, session.request(), deadline.left()))
        return session.report()

    def series(self, pattern: str = "", *, timeout: float | None = None) -> list[StoredSeries]:
        """The series stored whose id matches `pattern` (`*` any text, `?` one character; default all), by id."""
        deadline = Deadline(timeout)
        request = pb.ListSeriesRequest(pattern=pattern, page_size=requests.PAGE_SIZE)
        found: list[StoredSeries] = []
        while True:
            page = self._unary(self._stub.ListSeries, request, deadline.left())
            found.extend(map(series_of, page.series))
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found

    def markets(self, exchange: str, pattern: str = "", *, timeout: float | None = None) -> Markets:
        """The markets of an exchange whose symbol matches `pattern`, and its timeframes. May ask the exchange."""
        deadline = Deadline(timeout)
        request = pb.ListMarketsRequest(exchange=exchange, pattern=pattern, page_size=requests.PAGE_SIZE)
        found: list[Market] = []
        while True:
            page = self._unary(self._stub.ListMarkets, request, deadline.left())
            found.extend(map(market_of, page.markets))
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return Markets(tuple(found), tuple(page.timeframes))

    def _unary(self, method: grpc.UnaryUnaryMultiCallable[Any, Any], request: object, timeout: float | None) -> Any:
        try:
            return method(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as failure:
            raise error_of(failure) from failure

    def _table(self, request: pb.ReadRangeRequest, timeout: float | None) -> pa.Table:
        stream = BatchStream(self._reads.range, request, self._retry, timeout, warn=False)
        table = stream.table()
        requests.warn_if_incomplete(request.series, stream.summary, stacklevel=3)
        return table

    def _read_each(
        self, asked: Sequence[pb.ReadRangeRequest], jobs: int, timeout: float | None
    ) -> Generator[SeriesResult, None, None]:
        streams = (BatchStream(self._reads.range, request, self._retry, timeout, warn=False) for request in asked)
        under_way: deque[tuple[BatchStream, Future[SeriesResult]]] = deque()
        with ThreadPoolExecutor(jobs, "markethistory") as pool:
            try:
                for stream in streams:
                    under_way.append((stream, pool.submit(_result_of, stream)))
                    if len(under_way) == jobs:
                        yield under_way.popleft()[1].result()
                while under_way:
                    yield under_way.popleft()[1].result()
            finally:
                for stream, _ in under_way:
                    stream.cancel()

    def _few(self, request: pb.ReadLastRequest, timeout: float | None) -> pa.Table:
        session, deadline = LastSession(self._retry), Deadline(timeout)
        while True:
            try:
                answer = self._reads.last(request, deadline.left())
            except grpc.RpcError as failure:
                time.sleep(pause_after(session, failure, deadline))
            else:
                return table_of(request.series, answer, stacklevel=3)

    def _run_ensure(self, session: EnsureSession, on_progress: ProgressCallback | None, timeout: float | None) -> None:
        with closing(self._ensure_events(session, Deadline(timeout))) as events:
            for event in events:
                if on_progress is not None:
                    on_progress(event)

    def _ensure_events(self, session: EnsureSession, deadline: Deadline) -> Generator[EnsureEvent, None, None]:
        while not session.done:
            call = self._stub.EnsureRange(session.request(), timeout=deadline.left(), metadata=self._metadata)
            try:
                for message in call:
                    yield from session.receive(message)
                session.finish()
            except (grpc.RpcError, MarketHistoryError) as failure:
                if not session.done:
                    time.sleep(pause_after(session, failure, deadline))
            finally:
                call.cancel()


def _result_of(stream: BatchStream) -> SeriesResult:
    try:
        return SeriesResult(stream.series, stream.table())
    except MarketHistoryError as error:
        return SeriesResult(stream.series, error=error)
