"""Values of the model -> messages of the contract. Requests are read in `requests.py`.

Promises: what the model leaves out (None) is absent in the message. An answer of more spans than clients take raises
InvalidField (see `bounds.py`). Never does: I/O, validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from historyd.coverage import State
from historyd.engine.events import EnsurePlan, EnsureProgress, EnsureResult
from historyd.model.time_range import MICROS_PER_S
from historyd.model.wait import WaitCause
from historyd.service.bounds import bounded, bounded_ranges
from markethistory.v1 import coverage_pb2, quality_pb2, series_pb2
from markethistory.v1 import history_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from historyd.coverage import Span
    from historyd.engine.events import QualityReport, ReadSummary
    from historyd.model.rows import Quarantined, RowKey
    from historyd.model.time_range import TimeRange
    from historyd.model.venue import Market
    from historyd.model.wait import Wait
    from historyd.quality.report import Day
    from historyd.stores.base import StoredSeries

_STATES: Final[Mapping[State, coverage_pb2.CoverageState.ValueType]] = {
    State.COVERED: coverage_pb2.COVERAGE_STATE_COVERED,
    State.PENDING: coverage_pb2.COVERAGE_STATE_PENDING,
    State.UNREACHABLE: coverage_pb2.COVERAGE_STATE_UNREACHABLE,
    State.MISSING: coverage_pb2.COVERAGE_STATE_MISSING,
}
_CAUSES: Final[Mapping[WaitCause, pb.EnsureWait.Cause.ValueType]] = {
    WaitCause.QUOTA: pb.EnsureWait.CAUSE_QUOTA,
    WaitCause.PENALTY: pb.EnsureWait.CAUSE_PENALTY,
    WaitCause.RETRY: pb.EnsureWait.CAUSE_RETRY,
}


def timestamp(instant: int) -> Timestamp:
    """A timestamp of microseconds since 1970."""
    seconds, micros = divmod(instant, MICROS_PER_S)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def duration(seconds: float) -> Duration:
    """A duration, to the microsecond."""
    whole, micros = divmod(round(seconds * MICROS_PER_S), MICROS_PER_S)
    return Duration(seconds=whole, nanos=micros * 1000)


def time_range(value: TimeRange) -> series_pb2.TimeRange:
    """A half-open range."""
    return series_pb2.TimeRange(start=timestamp(value.start), end=timestamp(value.end))


def row_key(value: RowKey) -> pb.RowKey:
    """The key of a row."""
    return pb.RowKey(ts=timestamp(value.ts), seq=value.seq)


def span(value: Span) -> coverage_pb2.CoverageSpan:
    """One tile of coverage."""
    return coverage_pb2.CoverageSpan(
        range=time_range(value.range),
        state=_STATES[value.state],
        row_count=value.row_count,
        checked_at=None if value.checked_at is None else timestamp(value.checked_at),
        reason=value.reason,
    )


def coverage(spans: Sequence[Span], window: TimeRange) -> pb.CoverageResponse:
    """The tiles of a window."""
    return pb.CoverageResponse(spans=map(span, bounded(spans)), range=time_range(window))


def ensure_event(event: EnsurePlan | EnsureProgress | EnsureResult) -> pb.EnsureRangeResponse:
    """One message of the EnsureRange stream."""
    match event:
        case EnsurePlan():
            return pb.EnsureRangeResponse(plan=_plan(event))
        case EnsureProgress():
            return pb.EnsureRangeResponse(progress=_progress(event))
        case EnsureResult():
            return pb.EnsureRangeResponse(result=_result(event))


def summary(value: ReadSummary) -> pb.ReadSummary:
    """How a read ended."""
    return pb.ReadSummary(
        row_count=value.row_count,
        closed_through=timestamp(value.closed_through),
        uncovered=map(span, bounded(value.uncovered)),
        quarantined_count=value.quarantined_count,
        complete=value.complete,
    )


def stored_series(value: StoredSeries) -> series_pb2.Series:
    """One stored series."""
    return series_pb2.Series(
        series=str(value.series),
        first_time=None if value.first is None else timestamp(value.first),
        last_time=None if value.last is None else timestamp(value.last),
        row_count=value.row_count,
        byte_count=value.byte_count,
        covered=None if value.covered is None else time_range(value.covered),
    )


def market(value: Market) -> series_pb2.Market:
    """One market of an exchange."""
    return series_pb2.Market(
        symbol=value.symbol,
        type=value.type,
        active=value.active,
        listed_time=None if value.listed_at is None else timestamp(value.listed_at),
    )


def quality(report: QualityReport, window: TimeRange, row_limit: int, next_token: str) -> quality_pb2.QualityResponse:
    """A page of a report, with the first `row_limit` of its quarantined rows."""
    return quality_pb2.QualityResponse(
        days=map(_day, report.days),
        range=time_range(window),
        quarantined_rows=map(_quarantined, report.set_aside[:row_limit]),
        next_page_token=next_token,
    )


def _day(value: Day) -> quality_pb2.QualityDay:
    return quality_pb2.QualityDay(
        range=time_range(value.range),
        row_count=value.rows,
        expected_count=value.expected,
        empty_count=value.empty,
        spoiled_count=value.spoiled,
        missing_count=value.missing,
        pending_count=value.pending,
        unreachable_count=value.unreachable,
        quarantined=[
            quality_pb2.QuarantineCount(reason=reason, row_count=rows) for reason, rows in value.quarantined.items()
        ],
        revised_count=value.revised,
        zero_volume_count=value.zero_volume,
        zero_volume_run_count=value.zero_volume_runs,
        longest_zero_volume_run=value.longest_zero_volume_run,
        outlier_count=value.outliers,
    )


def _quarantined(value: Quarantined) -> quality_pb2.QuarantinedRow:
    assert value.at is not None
    return quality_pb2.QuarantinedRow(at=timestamp(value.at), reason=value.reason, row=value.row)


def _plan(value: EnsurePlan) -> pb.EnsurePlan:
    return pb.EnsurePlan(
        range=time_range(value.range),
        missing=map(time_range, bounded_ranges(value.missing)),
        page_count=value.page_count,
        call_count=value.call_count,
        byte_count=value.byte_count,
        least_duration=duration(value.least_s),
    )


def _progress(value: EnsureProgress) -> pb.EnsureProgress:
    return pb.EnsureProgress(
        pages_done=value.pages_done,
        rows_done=value.rows_done,
        calls_done=value.calls_done,
        remaining=None if value.remaining_s is None else duration(value.remaining_s),
        page=None if value.page is None else time_range(value.page),
        wait=None if value.wait is None else _wait(value.wait),
    )


def _wait(value: Wait) -> pb.EnsureWait:
    return pb.EnsureWait(cause=_CAUSES[value.cause], until=timestamp(value.until), detail=value.detail)


def _result(value: EnsureResult) -> pb.EnsureResult:
    return pb.EnsureResult(
        row_count=value.row_count,
        page_count=value.page_count,
        call_count=value.call_count,
        uncovered=map(span, bounded(value.uncovered)),
        quarantined_count=value.quarantined_count,
    )
