"""What the engine says and is asked: requests, and the events of its streams. Plain values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from historyd.coverage import Span
    from historyd.model.rows import Quarantined, RowKey
    from historyd.model.series import SeriesId
    from historyd.model.time_range import TimeRange
    from historyd.model.wait import Wait
    from historyd.quality.report import Day


@dataclass(frozen=True, slots=True)
class EnsurePlan:
    """What will be done: spans to fetch, pages, calls if none is repeated, bytes, least seconds by the quota."""

    range: TimeRange
    missing: tuple[TimeRange, ...]
    page_count: int
    call_count: int
    byte_count: int
    least_s: float


@dataclass(frozen=True, slots=True)
class EnsureProgress:
    """How far it is; counters never decrease. `page` is the last one completed since the message before."""

    pages_done: int
    rows_done: int
    calls_done: int
    remaining_s: float | None = None
    page: TimeRange | None = None
    wait: Wait | None = None


@dataclass(frozen=True, slots=True)
class EnsureResult:
    """What was done, and which spans of the range are still not covered."""

    row_count: int
    page_count: int
    call_count: int
    uncovered: tuple[Span, ...]
    quarantined_count: int


@dataclass(frozen=True, slots=True)
class EnsureRequest:
    """A range to make covered: asked for again if it is (`refresh`), or only planned.

    `deadline` is until when the caller waits (microseconds, host clock).
    """

    series: SeriesId
    window: TimeRange
    refresh: bool = False
    plan_only: bool = False
    deadline: int | None = None


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Rows of `window`, or the `last` rows before its end; only those after `after`.

    `deadline` is until when the caller waits for what has to be fetched (microseconds, host clock).
    """

    series: SeriesId
    window: TimeRange
    last: int = 0
    ensure: bool = False
    require_complete: bool = False
    after: RowKey | None = None
    deadline: int | None = None


@dataclass(frozen=True, slots=True)
class ReadStart:
    """The first event of a read: the range as it was resolved."""

    range: TimeRange


@dataclass(frozen=True, slots=True)
class ReadWaiting:
    """The next rows have to be fetched first: whatever is buffered should be sent on now."""


@dataclass(frozen=True, slots=True)
class ReadSummary:
    """The last event of a read. `complete`: no span of the range is MISSING or UNREACHABLE."""

    row_count: int
    closed_through: int
    uncovered: tuple[Span, ...]
    quarantined_count: int
    complete: bool


@dataclass(frozen=True, slots=True)
class QualityReport:
    """The days of a range, ascending, and the quarantined rows that are counted in them, ascending by `at`."""

    days: tuple[Day, ...]
    set_aside: tuple[Quarantined, ...]
