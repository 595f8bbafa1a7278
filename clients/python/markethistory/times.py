"""Moments as people give them -> instants that leave no doubt.

Accepted: aware datetimes (pandas' Timestamps are some), dates (midnight UTC), ISO 8601 strings with an offset or Z,
ISO dates. Refused: naive datetimes and strings (whose midnight?), numbers (of what unit?), anything finer than
microseconds.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from typing import Final, TypeAlias

Moment: TypeAlias = datetime | date | str
"""An aware datetime, a date (midnight UTC), or an ISO 8601 string."""

_TOO_FINE: Final = re.compile(r"[.,]\d{6}\d*[1-9]")
_DATE_ONLY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def to_utc(moment: Moment, name: str) -> datetime:
    """The moment as an aware datetime in UTC.

    Raises ValueError, which begins with `name`, if it is naive, finer than microseconds or no ISO 8601; TypeError if
    it is none of the accepted types.
    """
    if isinstance(moment, str):
        moment = _parse(moment, name)
    if isinstance(moment, datetime):
        return _aware(moment, name)
    if isinstance(moment, date):
        return datetime.combine(moment, time(), UTC)
    raise TypeError(
        f"{name}: {type(moment).__name__} {moment!r} is ambiguous, "
        "give an aware datetime, a date or an ISO 8601 string such as '2024-01-01T00:00:00Z'"
    )


def _parse(text: str, name: str) -> datetime | date:
    try:
        if _DATE_ONLY.fullmatch(text):
            return date.fromisoformat(text)
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name}: {text!r} is no ISO 8601 time such as '2024-01-01T00:00:00Z'") from None
    if _TOO_FINE.search(text):
        raise ValueError(f"{name}: {text!r} is finer than a microsecond")
    return parsed


def _aware(moment: datetime, name: str) -> datetime:
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ValueError(
            f"{name}: {moment.isoformat()} has no time zone, "
            "say which one: '...Z' in a string, tzinfo=datetime.UTC in a datetime"
        )
    if getattr(moment, "nanosecond", 0):  # pandas' Timestamp
        raise ValueError(f"{name}: {moment.isoformat()} is finer than a microsecond")
    utc = moment.astimezone(UTC)
    return datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, UTC)
