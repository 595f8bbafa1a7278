"""Times as they are typed: ISO 8601, dates, and spans such as `7d` that mean so long before now."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from markethistory.cli.running import WrongUsage
from markethistory.times import to_utc

_SPAN: Final = re.compile(r"(\d{1,9})([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def moment(text: str, name: str, now: datetime) -> datetime:
    """The instant that was typed. A span that reaches before 1970 means 1970. Raises ValueError."""
    span = _SPAN.fullmatch(text)
    if span is None:
        return to_utc(text, name)
    seconds = int(span[1]) * _SECONDS[span[2]]
    return now - timedelta(seconds=seconds) if seconds < (now - _EPOCH).total_seconds() else _EPOCH


def window(start: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    """Both ends of a range, by one clock; None stays None. Raises WrongUsage."""
    now = datetime.now(UTC)
    try:
        first = moment(start, "--start", now) if start is not None else None
        behind = moment(end, "--end", now) if end is not None else None
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    if first is not None and first >= (behind or now):
        raise WrongUsage(f"--start {start} must be earlier than --end {end or '(now)'}")
    return first, behind
