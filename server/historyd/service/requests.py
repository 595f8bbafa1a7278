"""Requests of the contract -> values of the model. Every bound that the contract states is checked here.

Promises: InvalidField names the field as the contract does (`range.end`) and says what it must be. An absent end is
`now`, which the caller reads once per call. Never does: I/O, or read a clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from historyd.arrow.ipc import Compression
from historyd.engine.events import ReadRequest
from historyd.errors import InvalidField
from historyd.model.rows import SCHEMAS, RowKey
from historyd.model.series import SeriesId
from historyd.model.time_range import EARLIEST, LATEST, MICROS_PER_DAY, MICROS_PER_S, TimeRange, iso
from historyd.service import paging
from markethistory.v1 import history_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from google.protobuf.timestamp_pb2 import Timestamp

    from markethistory.v1 import quality_pb2, series_pb2

MAX_LAST: Final = 10_000_000
"""Most rows that `last` may ask for."""
MAX_COUNT: Final = 1_000
"""Most rows of a ReadLast."""
MIN_CHUNK_BYTES: Final = 65_536
MAX_CHUNK_BYTES: Final = 3_145_728
DEFAULT_CHUNK_BYTES: Final = 1_048_576
MAX_PAGE_SIZE: Final = 1_000
DEFAULT_PAGE_SIZE: Final = 100
MAX_DAYS: Final = 366
DEFAULT_DAYS: Final = 31
MAX_LISTED: Final = 10_000
"""Most quarantined rows that a Quality lists."""
MAX_PATTERN: Final = 200
"""Most characters of a pattern."""
_EXCHANGE: Final = re.compile(r"[a-z0-9_]{1,40}")
_COMPRESSIONS: Final[Mapping[int, Compression]] = {
    pb.COMPRESSION_UNSPECIFIED: Compression.NONE,
    pb.COMPRESSION_LZ4: Compression.LZ4,
    pb.COMPRESSION_ZSTD: Compression.ZSTD,
}


series_id: Final = lru_cache(maxsize=4_096)(SeriesId.parse)
"""Reads a series id; the same few are asked for again and again. Raises InvalidSeries."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a ReadRange or a ReadLast asks of the engine, and how its rows are sent."""

    request: ReadRequest
    columns: tuple[str, ...]
    max_chunk_bytes: int
    compression: Compression = Compression.NONE


@dataclass(frozen=True, slots=True)
class QualityPage:
    """A page of a Quality: the range of all pages, the days of this one, rows to list, the token of the next page."""

    series: SeriesId
    window: TimeRange
    days: TimeRange
    row_limit: int
    next_token: str


def coverage_window(request: pb.CoverageRequest, now: int) -> TimeRange:
    """The window of a CoverageRequest; all of time up to now if it has none."""
    return _time_range(request.range, now)


def ensure_window(request: pb.EnsureRangeRequest, now: int) -> TimeRange:
    """The range of an EnsureRangeRequest, whose start is required."""
    if not request.range.HasField("start"):
        raise InvalidField("range.start", "nothing", "must be given")
    return _time_range(request.range, now)


def deadline(patience_s: float | None, now: int) -> int | None:
    """Until when a caller waits who does so for so many seconds from now on; None if it waits for ever."""
    return None if patience_s is None else now + round(patience_s * MICROS_PER_S)


def reading(request: pb.ReadRangeRequest, now: int, patience_s: float | None = None) -> Reading:
    """What a ReadRangeRequest asks for, whose caller waits for so many seconds."""
    series = series_id(request.series)
    return Reading(
        ReadRequest(
            series,
            _window_to_read(request, now),
            last=_bounded("last", request.last, MAX_LAST),
            ensure=request.ensure,
            require_complete=request.require_complete,
            after=_row_key(request.resume_after) if request.HasField("resume_after") else None,
            deadline=deadline(patience_s, now),
        ),
        _columns(SCHEMAS[series.kind], request.columns),
        _chunk_bytes(request.max_chunk_bytes),
        _compression(request.compression),
    )


def last_reading(request: pb.ReadLastRequest, now: int, patience_s: float | None = None) -> Reading:
    """What a ReadLastRequest asks for, whose caller waits for so many seconds."""
    series = series_id(request.series)
    if not 1 <= request.count <= MAX_COUNT:
        raise InvalidField("count", request.count, f"must be from 1 to {MAX_COUNT}")
    end = _instant("end", request.end) if request.HasField("end") else now
    return Reading(
        ReadRequest(
            series,
            _all_before("end", end),
            last=request.count,
            ensure=request.ensure,
            require_complete=request.require_complete,
            deadline=deadline(patience_s, now),
        ),
        _columns(SCHEMAS[series.kind], request.columns),
        MAX_CHUNK_BYTES,
    )


def quality_page(request: quality_pb2.QualityRequest, now: int) -> QualityPage:
    """The range of a QualityRequest and the days of it that are asked for now."""
    if not request.range.HasField("start"):
        raise InvalidField("range.start", "nothing", "must be given")
    question = ("quality", request.series, str(request.range.SerializeToString(deterministic=True)))
    days = _bounded("page_size", request.page_size, MAX_DAYS) or DEFAULT_DAYS
    rows = _bounded("row_limit", request.row_limit, MAX_LISTED)
    window = first_page = _time_range(request.range, now)
    after = paging.after_of(request.page_token, *question)
    if after:
        first_page = TimeRange(*map(int, after.split("/")))
        window = TimeRange(window.start, first_page.end)
    first = first_page.start
    days_end = min(window.end, (first // MICROS_PER_DAY + days) * MICROS_PER_DAY)
    token = paging.page_token(f"{days_end}/{window.end}", *question) if days_end < window.end else ""
    return QualityPage(series_id(request.series), window, TimeRange(first, days_end), rows, token)


def exchange_id(text: str) -> str:
    """A CCXT id in lower case."""
    if _EXCHANGE.fullmatch(text) is None:
        raise InvalidField("exchange", text, "must be a CCXT id in lower case")
    return text


def pattern(text: str) -> str:
    """A pattern of `*` and `?`; `*` if it is empty."""
    if len(text) > MAX_PATTERN:
        raise InvalidField("pattern", text, f"must have at most {MAX_PATTERN} characters")
    return text or "*"


def page_size(size: int) -> int:
    """How many items a page may have."""
    return _bounded("page_size", size, MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE


def _window_to_read(request: pb.ReadRangeRequest, now: int) -> TimeRange:
    """The range to read; with `last` all that is before its end."""
    if not request.last:
        if not request.HasField("range"):
            raise InvalidField("range", "nothing", "must be given unless last is")
        return _time_range(request.range, now)
    end = _instant("range.end", request.range.end) if request.range.HasField("end") else now
    return _all_before("range.end", end)


def _all_before(field: str, end: int) -> TimeRange:
    if end <= EARLIEST:
        raise InvalidField(field, iso(end), f"must be later than {iso(EARLIEST)}")
    return TimeRange(EARLIEST, end)


def _time_range(asked: series_pb2.TimeRange, now: int) -> TimeRange:
    start = _instant("range.start", asked.start) if asked.HasField("start") else EARLIEST
    if not asked.HasField("end"):
        if start >= now:
            raise InvalidField("range.start", iso(start), f"must be before now ({iso(now)}) if no end is given")
        return TimeRange(start, now)
    end = _instant("range.end", asked.end)
    if start >= end:
        raise InvalidField("range.end", iso(end), f"must be later than the start {iso(start)}")
    return TimeRange(start, end)


def _instant(field: str, stamp: Timestamp) -> int:
    """Microseconds of a timestamp."""
    if not 0 <= stamp.nanos < 1_000_000_000:
        raise InvalidField(field, f"nanos {stamp.nanos}", "must have 0 to 999,999,999 nanoseconds")
    if stamp.nanos % 1000:
        raise InvalidField(field, f"nanos {stamp.nanos}", "must be whole microseconds")
    instant = stamp.seconds * MICROS_PER_S + stamp.nanos // 1000
    if not EARLIEST <= instant <= LATEST:
        raise InvalidField(field, f"seconds {stamp.seconds}", f"must be from {iso(EARLIEST)} to {iso(LATEST)}")
    return instant


def _row_key(key: pb.RowKey) -> RowKey:
    if not key.HasField("ts"):
        raise InvalidField("resume_after.ts", "nothing", "must be given")
    if key.seq < 0:
        raise InvalidField("resume_after.seq", key.seq, "must not be negative")
    return RowKey(_instant("resume_after.ts", key.ts), key.seq)


def _columns(schema: pa.Schema, wanted: Sequence[str]) -> tuple[str, ...]:
    """The columns to send, in the schema's order; `ts` always."""
    if not wanted:
        return tuple(schema.names)
    asked = {"ts", *wanted}
    unknown = sorted(asked.difference(schema.names))
    if unknown:
        raise InvalidField("columns", unknown[0], f"must be of {', '.join(schema.names)}")
    return tuple(name for name in schema.names if name in asked)


def _chunk_bytes(asked: int) -> int:
    if asked == 0:
        return DEFAULT_CHUNK_BYTES
    if not MIN_CHUNK_BYTES <= asked <= MAX_CHUNK_BYTES:
        raise InvalidField("max_chunk_bytes", asked, f"must be 0 or from {MIN_CHUNK_BYTES} to {MAX_CHUNK_BYTES}")
    return asked


def _compression(asked: int) -> Compression:
    if asked not in _COMPRESSIONS:
        raise InvalidField("compression", asked, "must be a Compression")
    return _COMPRESSIONS[asked]


def _bounded(field: str, value: int, most: int) -> int:
    if not 0 <= value <= most:
        raise InvalidField(field, value, f"must be from 0 to {most}")
    return value
