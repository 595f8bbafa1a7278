"""What the client gives back: plain frozen values. Times are aware datetimes in UTC, ranges half-open.

Promises: no generated class is ever among them. Never does: read or write the wire (convert.py does).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A span of time in UTC: `start` belongs to it, `end` does not."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{iso(self.start)}/{iso(self.end)}"


class CoverageState(StrEnum):
    """What is known about a span of a series."""

    COVERED = "covered"
    """The exchange was asked for it and answered; its rows are stored."""
    PENDING = "pending"
    """Not settled yet: asking later will cover it."""
    UNREACHABLE = "unreachable"
    """The exchange cannot serve it now."""
    MISSING = "missing"
    """Never asked for: `ensure` would fetch it."""


@dataclass(frozen=True, slots=True)
class CoverageSpan:
    """One tile of a window.

    Attributes:
        range: the span.
        state: what is known about it.
        row_count: rows stored in it; 0 unless COVERED. COVERED with 0 rows is confirmed empty.
        checked_at: when the exchange was asked, the oldest answer of the span; None unless COVERED.
        reason: why it is UNREACHABLE, in one sentence; else empty.
    """

    range: TimeRange
    state: CoverageState
    row_count: int = 0
    checked_at: datetime | None = None
    reason: str = ""

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.range} is {self.state}{why}"


@dataclass(frozen=True, slots=True)
class StoredSeries:
    """One stored series. `first` and `last` are times of rows, None if there are none; `last` is inclusive."""

    series: str
    first: datetime | None
    last: datetime | None
    row_count: int
    byte_count: int
    covered: TimeRange | None


@dataclass(frozen=True, slots=True)
class Market:
    """One market of an exchange, as CCXT names it; `listed_at` is None if the exchange does not say."""

    symbol: str
    type: str
    active: bool
    listed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Markets:
    """Markets by symbol, and the timeframes that the exchange serves, shortest first."""

    markets: tuple[Market, ...]
    timeframes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EnsurePlan:
    """What an `ensure` will do.

    Attributes:
        range: the range as the server resolved it.
        missing: spans that will be fetched, ascending.
        page_count: pages to fetch, those that others are fetching already among them.
        call_count: calls to the exchange if none has to be repeated.
        byte_count: estimate of the bytes that will be stored.
        least_duration: least time that the quota allows for these calls.
    """

    range: TimeRange
    missing: tuple[TimeRange, ...]
    page_count: int
    call_count: int
    byte_count: int
    least_duration: timedelta


class WaitCause(StrEnum):
    """What a running `ensure` waits for."""

    QUOTA = "quota"
    PENALTY = "penalty"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Wait:
    """Why no call is under way: until when, and the quota's key or how the last call failed."""

    cause: WaitCause
    until: datetime
    detail: str


@dataclass(frozen=True, slots=True)
class EnsureProgress:
    """How far an `ensure` is; counters never decrease.

    Attributes:
        pages_done: pages done so far.
        rows_done: rows stored so far.
        calls_done: calls made to the exchange so far, repeated ones among them.
        remaining: estimate of the time that remains; None if not known yet.
        page: the page last completed, None if none was since the event before.
        wait: what is waited for, None while calls are under way.
    """

    pages_done: int
    rows_done: int
    calls_done: int
    remaining: timedelta | None = None
    page: TimeRange | None = None
    wait: Wait | None = None


@dataclass(frozen=True, slots=True)
class EnsureResult:
    """What an `ensure` did.

    Attributes:
        plan: what it meant to do.
        row_count: rows stored in the pages fetched.
        page_count: pages fetched, by this call or by others that it waited for.
        call_count: calls made to the exchange; 0 if all was covered.
        uncovered: spans that are still not covered, ascending, with the reason.
        quarantined_count: rows set aside because they break a rule of their kind.
    """

    plan: EnsurePlan
    row_count: int
    page_count: int
    call_count: int
    uncovered: tuple[CoverageSpan, ...]
    quarantined_count: int


@dataclass(frozen=True, slots=True)
class ReadSummary:
    """How a read ended.

    Attributes:
        range: the range as the server resolved it.
        row_count: rows read, all resumed calls together.
        closed_through: what closed before this instant is settled, what is later is PENDING.
        uncovered: spans of the range that are not covered, ascending.
        quarantined_count: rows of the range set aside because they break a rule of their kind.
        complete: whether no span of the range is MISSING or UNREACHABLE.
    """

    range: TimeRange
    row_count: int
    closed_through: datetime
    uncovered: tuple[CoverageSpan, ...]
    quarantined_count: int
    complete: bool

    @property
    def holes(self) -> tuple[CoverageSpan, ...]:
        """The spans that make it incomplete: MISSING or UNREACHABLE."""
        return tuple(span for span in self.uncovered if span.state is not CoverageState.PENDING)


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC, `2024-01-01T00:00:00Z`, with a fraction only if there is one."""
    return moment.isoformat().replace("+00:00", "Z")
