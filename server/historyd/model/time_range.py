"""Time: integer microseconds since 1970 in UTC, and half-open spans of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

MICROS_PER_MS: Final = 1_000
MICROS_PER_S: Final = 1_000_000
MICROS_PER_DAY: Final = 86_400 * MICROS_PER_S

EARLIEST: Final = 0
"""1970-01-01T00:00:00Z, the first instant that can be asked for."""
LATEST: Final = 253_402_214_400 * MICROS_PER_S
"""9999-12-31T00:00:00Z, the end of the last range that can be asked for."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class TimeRange:
    """A half-open span `[start, end)` in microseconds since 1970 UTC; never empty.

    Raises ValueError if `start >= end`.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(f"empty time range [{self.start}, {self.end})")

    def __contains__(self, instant: int) -> bool:
        return self.start <= instant < self.end

    def __str__(self) -> str:
        return f"{iso(self.start)}/{iso(self.end)}"

    @property
    def width(self) -> int:
        """Microseconds from start to end."""
        return self.end - self.start

    def contains(self, other: TimeRange) -> bool:
        """Whether all of `other` lies in this range."""
        return self.start <= other.start and other.end <= self.end

    def overlaps(self, other: TimeRange) -> bool:
        """Whether the two share an instant."""
        return self.start < other.end and other.start < self.end

    def intersect(self, other: TimeRange) -> TimeRange | None:
        """What the two share, None if nothing."""
        return between(max(self.start, other.start), min(self.end, other.end))


def between(start: int, end: int) -> TimeRange | None:
    """The range `[start, end)`, None if it would be empty."""
    return TimeRange(start, end) if start < end else None


def iso(instant: int) -> str:
    """ISO 8601 in UTC, with a fraction only if there is one: `2024-01-01T00:00:00Z`."""
    return to_datetime(instant).isoformat().replace("+00:00", "Z")


def to_datetime(instant: int) -> datetime:
    """The instant as an aware datetime in UTC."""
    return _EPOCH + timedelta(microseconds=instant)


def from_datetime(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime. Raises ValueError if it is naive."""
    if moment.tzinfo is None:
        raise ValueError(f"naive datetime {moment!r}: say which time zone, for example datetime.UTC")
    return (moment - _EPOCH) // timedelta(microseconds=1)
