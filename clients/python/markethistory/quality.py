"""Reports on the quality of stored rows: their values, as a table, and the asking for all pages of one. No I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from markethistory.convert import moment_of, range_of, time_range
from markethistory.v1 import quality_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from markethistory.times import Moment
    from markethistory.values import TimeRange

_DAYS: Final = 366
"""Days that are asked for in one call, the most that the contract allows."""
_ROWS: Final = 10_000
"""Rows that one call lists at most."""


@dataclass(frozen=True, slots=True)
class QualityDay:
    """What is known of one UTC day of a series, clipped to the range asked for.

    Of bars: `expected_count` is `row_count + spoiled_count + missing_count + unreachable_count`, and all bars of the
    grid are `expected_count + empty_count + pending_count`.

    Attributes:
        range: the day.
        row_count: rows stored.
        expected_count: bars that should be there: all that have settled, less those confirmed empty. 0 for trades.
        empty_count: bars for which the exchange gave no row when it was asked. 0 for trades.
        spoiled_count: bars of which only quarantined rows are there. 0 for trades.
        missing_count: bars never asked for; for trades milliseconds.
        pending_count: bars that have not settled; for trades milliseconds.
        unreachable_count: bars that the exchange cannot serve; for trades milliseconds.
        quarantined: rows set aside, by the rule that they break.
        revised_count: bars that a later answer of the exchange changed, added or took away; for trades instants.
        zero_volume_count: bars whose volume is 0. 0 for trades.
        zero_volume_run_count: runs of such bars without another bar or a gap between. 0 for trades.
        longest_zero_volume_run: bars of the longest run. 0 for trades.
        outlier_count: bars whose close is implausibly far from the one before; the contract has the rule. 0 for trades.
    """

    range: TimeRange
    row_count: int
    expected_count: int = 0
    empty_count: int = 0
    spoiled_count: int = 0
    missing_count: int = 0
    pending_count: int = 0
    unreachable_count: int = 0
    quarantined: Mapping[str, int] = field(default_factory=dict)
    revised_count: int = 0
    zero_volume_count: int = 0
    zero_volume_run_count: int = 0
    longest_zero_volume_run: int = 0
    outlier_count: int = 0

    @property
    def quarantined_count(self) -> int:
        """Rows set aside, for whatever reason."""
        return sum(self.quarantined.values())


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """A row set aside: where it is counted, the rule that it breaks, the row as a JSON object in text."""

    at: datetime
    reason: str
    row: str


@dataclass(frozen=True, slots=True)
class QualityReport:
    """How good the stored rows of a range are: its days, ascending, and quarantined rows if they were asked for."""

    series: str
    range: TimeRange
    days: tuple[QualityDay, ...]
    quarantined_rows: tuple[QuarantinedRow, ...] = ()

    def to_table(self) -> pa.Table:
        """A row for each day: `series`, `day` timestamp[us, UTC], the counts int64, `quarantined` a JSON object."""
        return table_of([self])


def table_of(reports: Iterable[QualityReport]) -> pa.Table:
    """All reports as one table; see QualityReport.to_table."""
    rows = [
        {
            **{name: getattr(day, name) for name in _COUNTS},
            "series": report.series,
            "day": day.range.start,
            "quarantined": json.dumps(dict(day.quarantined)),
        }
        for report in reports
        for day in report.days
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


_COUNTS: Final = [name for one in fields(QualityDay) if (name := one.name) not in {"range", "quarantined"}] + [
    "quarantined_count"
]
_SCHEMA: Final = pa.schema(
    [
        pa.field("series", pa.string(), nullable=False),
        pa.field("day", pa.timestamp("us", "UTC"), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in _COUNTS),
        pa.field("quarantined", pa.string(), nullable=False),
    ]
)


class QualitySession:
    """Asks for all pages of a report: send `request()`, give the answer to `receive`, until `done`."""

    def __init__(self, series: str, start: Moment, end: Moment | None, row_limit: int) -> None:
        if row_limit < 0:
            raise ValueError(f"row_limit: must not be negative, got {row_limit}")
        self._request = quality_pb2.QualityRequest(series=series, range=time_range(start, end), page_size=_DAYS)
        self._row_limit = row_limit
        self._range: TimeRange | None = None
        self._days: list[QualityDay] = []
        self._rows: list[QuarantinedRow] = []
        self.done = False

    def request(self) -> quality_pb2.QualityRequest:
        """What to ask next."""
        self._request.row_limit = min(_ROWS, self._row_limit - len(self._rows))
        return self._request

    def receive(self, page: quality_pb2.QualityResponse) -> None:
        """Takes a page."""
        self._range = range_of(page.range)
        self._days += map(_day, page.days)
        self._rows += (QuarantinedRow(moment_of(row.at), row.reason, row.row) for row in page.quarantined_rows)
        self._request.page_token = page.next_page_token
        self.done = not page.next_page_token

    def report(self) -> QualityReport:
        """The report, once `done`."""
        assert self._range is not None
        return QualityReport(self._request.series, self._range, tuple(self._days), tuple(self._rows))


def _day(message: quality_pb2.QualityDay) -> QualityDay:
    return QualityDay(
        range_of(message.range),
        message.row_count,
        message.expected_count,
        message.empty_count,
        message.spoiled_count,
        message.missing_count,
        message.pending_count,
        message.unreachable_count,
        {one.reason: one.row_count for one in message.quarantined},
        message.revised_count,
        message.zero_volume_count,
        message.zero_volume_run_count,
        message.longest_zero_volume_run,
        message.outlier_count,
    )
