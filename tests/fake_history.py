"""A HistoryService that plays a script, on a real gRPC server: the peer of the client's tests.

It frames rows with pyarrow and the generated classes alone, so that it shares no code with the server or the client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pyarrow as pa
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from markethistory.v1 import history_service_pb2 as pb
from markethistory.v1.coverage_pb2 import COVERAGE_STATE_COVERED, CoverageSpan
from markethistory.v1.history_service_pb2_grpc import HistoryServiceServicer, add_HistoryServiceServicer_to_server
from markethistory.v1.series_pb2 import TimeRange

SERIES = "ohlcv:binance:BTC/USDT:1m"
START = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EOS = bytes.fromhex("ffffffff00000000")
BARS = pa.schema(
    [
        pa.field("ts", pa.timestamp("us", "UTC"), nullable=False),
        *(pa.field(name, pa.float64()) for name in ("open", "high", "low", "close", "volume")),
    ]
)


@dataclass(frozen=True)
class Break:
    """How a call ends before its time."""

    code: grpc.StatusCode
    text: str = "cut"
    info: ErrorInfo | None = None
    retry_after: timedelta | None = None

    def end(self, context: grpc.ServicerContext) -> None:
        details: list[AnyMessage] = []
        for message in (self.info, self._retry_info()):
            if message is not None:
                details.append(AnyMessage())
                details[-1].Pack(message)
        status = Status(code=self.code.value[0], message=self.text, details=details)
        trailers = (("grpc-status-details-bin", status.SerializeToString()),) if details else ()
        context.set_trailing_metadata(trailers)
        context.abort(self.code, self.text)

    def _retry_info(self) -> RetryInfo | None:
        if self.retry_after is None:
            return None
        delay = Duration()
        delay.FromTimedelta(self.retry_after)
        return RetryInfo(retry_delay=delay)


def error_info(reason: str, **metadata: str) -> ErrorInfo:
    return ErrorInfo(reason=reason, domain="markethistory", metadata=metadata)


Step = Any  # a message to send, or a Break
Handler = Callable[[Any], Iterable[Step]]


@dataclass
class FakeHistory(HistoryServiceServicer):
    """Answers each RPC by its handler and notes the requests."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)

    def Coverage(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._one("Coverage", request, context)

    def ListSeries(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._one("ListSeries", request, context)

    def ListMarkets(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._one("ListMarkets", request, context)

    def Quality(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._one("Quality", request, context)

    def ReadLast(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._one("ReadLast", request, context)

    def EnsureRange(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        return self._many("EnsureRange", request, context)

    def ReadRange(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        return self._many("ReadRange", request, context)

    def _many(self, name: str, request: Any, context: Any) -> Iterator[Any]:
        self.requests.append(request)
        for step in self.handlers[name](request):
            if isinstance(step, Break):
                step.end(context)
            yield step

    def _one(self, name: str, request: Any, context: Any) -> Any:
        return next(self._many(name, request, context))


@contextmanager
def serving(fake: FakeHistory) -> Iterator[str]:
    """Serves on a free port of the loopback; gives its target."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        add_HistoryServiceServicer_to_server(fake, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(0).wait()


def stamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message


def window(start: datetime, end: datetime) -> TimeRange:
    return TimeRange(start=stamp(start), end=stamp(end))


def bars(count: int, start: datetime = START) -> pa.RecordBatch:
    """So many one-minute bars, each row different from all others."""
    first = int(start.timestamp()) * 1_000_000
    ts = pa.array([first + i * 60_000_000 for i in range(count)], pa.timestamp("us", "UTC"))
    columns = [pa.array([float(i * 10 + c) for i in range(count)]) for c in range(5)]
    return pa.record_batch([ts, *columns], schema=BARS)


def key_of(batch: pa.RecordBatch) -> pb.RowKey:
    return pb.RowKey(ts=stamp(batch.column("ts")[-1].as_py()))


def frames(
    rows: pa.RecordBatch,
    request: pb.ReadRangeRequest,
    *,
    chunk: int = 100,
    uncovered: Sequence[CoverageSpan] = (),
    complete: bool = True,
    batches_per_message: int = 1,
) -> list[pb.ReadRangeResponse]:
    """The messages of one whole read of `rows`, as the contract says, honouring `last` and `resume_after`."""
    if request.last:
        rows = rows.slice(max(0, rows.num_rows - request.last))
    if request.HasField("resume_after"):
        after = pa.scalar(request.resume_after.ts.ToDatetime(UTC), pa.timestamp("us", "UTC"))
        rows = rows.filter(pa.compute.greater(rows.column("ts"), after))
    if request.columns:
        rows = rows.select([name for name in rows.schema.names if name == "ts" or name in request.columns])
    messages = [_message(rows.slice(i, chunk), batches_per_message) for i in range(0, rows.num_rows, chunk)]
    messages = messages or [pb.ReadRangeResponse()]
    messages[0].arrow_ipc = rows.schema.serialize().to_pybytes() + messages[0].arrow_ipc
    messages[0].range.CopyFrom(request.range if not request.last else window(START, START + timedelta(days=1)))
    messages[-1].arrow_ipc += EOS
    messages[-1].summary.CopyFrom(
        pb.ReadSummary(
            row_count=rows.num_rows, closed_through=request.range.end, uncovered=uncovered, complete=complete
        )
    )
    return messages


def last_answer(
    rows: pa.RecordBatch,
    request: pb.ReadLastRequest,
    *,
    uncovered: Sequence[CoverageSpan] = (),
    complete: bool = True,
) -> pb.ReadLastResponse:
    """The answer of a ReadLast of `rows`: what the messages of the same read by ReadRange say together."""
    read = pb.ReadRangeRequest(
        range=TimeRange(end=request.end), last=min(request.count, rows.num_rows), columns=request.columns
    )
    (message,) = frames(rows, read, chunk=1000, uncovered=uncovered, complete=complete)
    return pb.ReadLastResponse(
        range=message.range, row_count=message.row_count, summary=message.summary, arrow_ipc=message.arrow_ipc
    )


def covered(start: datetime, end: datetime, rows: int) -> CoverageSpan:
    return CoverageSpan(
        range=window(start, end), state=COVERAGE_STATE_COVERED, row_count=rows, checked_at=stamp(end + MINUTE)
    )


def _message(batch: pa.RecordBatch, parts: int) -> pb.ReadRangeResponse:
    size = -(-batch.num_rows // parts)
    pieces = [batch.slice(i, size) for i in range(0, batch.num_rows, size)]
    data = b"".join(piece.serialize().to_pybytes() for piece in pieces)
    return pb.ReadRangeResponse(row_count=batch.num_rows, last_key=key_of(batch), arrow_ipc=data)
