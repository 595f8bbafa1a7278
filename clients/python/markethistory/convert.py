"""The only place where the wire's messages become the client's values, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from markethistory.times import Moment, to_utc
from markethistory.v1 import coverage_pb2, series_pb2
from markethistory.v1 import history_service_pb2 as pb
from markethistory.values import (
    CoverageSpan,
    CoverageState,
    EnsurePlan,
    EnsureProgress,
    Market,
    ReadSummary,
    StoredSeries,
    TimeRange,
    Wait,
    WaitCause,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

Compression: TypeAlias = Literal["lz4", "zstd"]

_COMPRESSIONS: Final[dict[str | None, pb.Compression.ValueType]] = {
    None: pb.COMPRESSION_UNSPECIFIED,
    "lz4": pb.COMPRESSION_LZ4,
    "zstd": pb.COMPRESSION_ZSTD,
}
_STATES: Final = {
    coverage_pb2.COVERAGE_STATE_COVERED: CoverageState.COVERED,
    coverage_pb2.COVERAGE_STATE_PENDING: CoverageState.PENDING,
    coverage_pb2.COVERAGE_STATE_UNREACHABLE: CoverageState.UNREACHABLE,
    coverage_pb2.COVERAGE_STATE_MISSING: CoverageState.MISSING,
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CAUSES: Final = {
    pb.EnsureWait.CAUSE_QUOTA: WaitCause.QUOTA,
    pb.EnsureWait.CAUSE_PENALTY: WaitCause.PENALTY,
    pb.EnsureWait.CAUSE_RETRY: WaitCause.RETRY,
}


def timestamp(moment: Moment, name: str) -> Timestamp:
    """A time for a request. Raises ValueError and TypeError as `to_utc`."""
    since = to_utc(moment, name) - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def time_range(start: Moment | None, end: Moment | None) -> series_pb2.TimeRange:
    """A range for a request; None leaves the field absent. Raises ValueError and TypeError as `to_utc`."""
    message = series_pb2.TimeRange()
    if start is not None:
        message.start.CopyFrom(timestamp(start, "start"))
    if end is not None:
        message.end.CopyFrom(timestamp(end, "end"))
    if start is not None and end is not None and _key(message.start) >= _key(message.end):
        raise ValueError(f"end: {end} must be later than start {start}")
    return message


def compression(name: Compression | None) -> pb.Compression.ValueType:
    """The contract's value. Raises ValueError if there is no such compression."""
    if name not in _COMPRESSIONS:
        raise ValueError(f"compression: {name!r} is none of lz4, zstd, None")
    return _COMPRESSIONS[name]


def range_of(message: series_pb2.TimeRange) -> TimeRange:
    """A range that the server sent."""
    return TimeRange(moment_of(message.start), moment_of(message.end))


def spans_of(messages: Iterable[coverage_pb2.CoverageSpan]) -> tuple[CoverageSpan, ...]:
    """Coverage spans, in the order sent."""
    return tuple(
        CoverageSpan(
            range_of(message.range),
            _STATES[message.state],
            message.row_count,
            moment_of(message.checked_at) if message.HasField("checked_at") else None,
            message.reason,
        )
        for message in messages
    )


def series_of(message: series_pb2.Series) -> StoredSeries:
    """One stored series."""
    return StoredSeries(
        message.series,
        moment_of(message.first_time) if message.HasField("first_time") else None,
        moment_of(message.last_time) if message.HasField("last_time") else None,
        message.row_count,
        message.byte_count,
        range_of(message.covered) if message.HasField("covered") else None,
    )


def market_of(message: series_pb2.Market) -> Market:
    """One market."""
    listed_at = moment_of(message.listed_time) if message.HasField("listed_time") else None
    return Market(message.symbol, message.type, message.active, listed_at)


def plan_of(message: pb.EnsurePlan) -> EnsurePlan:
    """What an ensure will do."""
    return EnsurePlan(
        range_of(message.range),
        tuple(range_of(gap) for gap in message.missing),
        message.page_count,
        message.call_count,
        message.byte_count,
        message.least_duration.ToTimedelta(),
    )


def progress_of(message: pb.EnsureProgress) -> EnsureProgress:
    """How far an ensure is."""
    return EnsureProgress(
        message.pages_done,
        message.rows_done,
        message.calls_done,
        message.remaining.ToTimedelta() if message.HasField("remaining") else None,
        range_of(message.page) if message.HasField("page") else None,
        _wait_of(message.wait) if message.HasField("wait") else None,
    )


def summary_of(message: pb.ReadSummary, resolved: series_pb2.TimeRange, row_count: int) -> ReadSummary:
    """How a read ended; `row_count` counts the rows of all its calls."""
    return ReadSummary(
        range_of(resolved),
        row_count,
        moment_of(message.closed_through),
        spans_of(message.uncovered),
        message.quarantined_count,
        message.complete,
    )


def _wait_of(message: pb.EnsureWait) -> Wait:
    return Wait(_CAUSES[message.cause], moment_of(message.until), message.detail)


def moment_of(message: Timestamp) -> datetime:
    """An instant that the server sent."""
    # ToDatetime does the same in three times the time.
    return _EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def _key(message: Timestamp) -> tuple[int, int]:
    return message.seconds, message.nanos
