"""Builds the requests of the contract from Python's arguments, and what a read adds to its table.

Shared by the sync and the asyncio client. Raises ValueError or TypeError for what is wrong before anything is sent.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Final, TypedDict

from markethistory.convert import Compression, compression, time_range, timestamp
from markethistory.errors import IncompleteHistoryWarning
from markethistory.v1 import history_service_pb2 as pb
from markethistory.values import ReadSummary, iso

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markethistory.times import Moment
    from markethistory.v1.series_pb2 import TimeRange
    from markethistory.values import CoverageSpan

DEFAULT_TARGET: Final = "127.0.0.1:50051"
METADATA_KEY: Final = b"markethistory"
"""Where the schema of a table that was read keeps its summary, as JSON."""
PAGE_SIZE: Final = 1000
"""Entries of a list that are asked for in one call."""
MOST_LAST: Final = 10_000_000
MOST_FEW: Final = 1_000
"""Rows that ReadLast gives at most."""
_NAMED_HOLES: Final = 3


class ReadOptions(TypedDict, total=False):
    """What can be chosen for a read.

    Attributes:
        columns: columns to read, `ts` always comes; default all.
        ensure: fetch first what the server does not have; default True.
        require_complete: raise Incomplete if a span cannot be had; default False: an IncompleteHistoryWarning names it.
        compression: of the rows on the wire; default None, the fastest on one machine.
    """

    columns: Sequence[str] | None
    ensure: bool
    require_complete: bool
    compression: Compression | None


_OPTIONS: Final = frozenset(ReadOptions.__annotations__)


def read_request(series: str, start: Moment, end: Moment | None, options: ReadOptions) -> pb.ReadRangeRequest:
    """A request for the rows of `[start, end)`. Raises TypeError for an option that there is not."""
    return _read_request(series, time_range(start, end), options)


def last_request(series: str, count: int, end: Moment | None, options: ReadOptions) -> pb.ReadRangeRequest:
    """A request for the last `count` rows before `end`. Raises ValueError if that is none or too many."""
    if not 1 <= count <= MOST_LAST:
        raise ValueError(f"count: must be from 1 to {MOST_LAST:,}, got {count}")
    request = _read_request(series, time_range(None, end), options)
    request.last = count
    return request


def few_request(series: str, count: int, end: Moment | None, options: ReadOptions) -> pb.ReadLastRequest | None:
    """A request for the last `count` rows in one answer. None if a stream has to be asked for them.

    Many rows have to, and compressed ones.
    """
    if not 1 <= count <= MOST_FEW or options.get("compression") is not None:
        return None
    request = pb.ReadLastRequest(
        series=series,
        count=count,
        columns=_columns(options),
        ensure=options.get("ensure", True),
        require_complete=options.get("require_complete", False),
    )
    if end is not None:
        request.end.CopyFrom(timestamp(end, "end"))
    return request


def _read_request(series: str, window: TimeRange, options: ReadOptions) -> pb.ReadRangeRequest:
    return pb.ReadRangeRequest(
        series=series,
        range=window,
        columns=_columns(options),
        ensure=options.get("ensure", True),
        require_complete=options.get("require_complete", False),
        compression=compression(options.get("compression")),
    )


def _columns(options: ReadOptions) -> Sequence[str]:
    """The columns to read, none for all. Raises TypeError for an option that there is not."""
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise TypeError(f"no option {', '.join(sorted(unknown))}; there are {', '.join(ReadOptions.__annotations__)}")
    columns = options.get("columns")
    if isinstance(columns, str):
        raise TypeError(f"columns: give a sequence of names, not the string {columns!r}")
    return columns or ()


def ensure_request(
    series: str, start: Moment, end: Moment | None, *, refresh: bool = False, plan_only: bool = False
) -> pb.EnsureRangeRequest:
    """A request to cover `[start, end)`."""
    return pb.EnsureRangeRequest(series=series, range=time_range(start, end), refresh=refresh, plan_only=plan_only)


def coverage_request(series: str, start: Moment | None, end: Moment | None) -> pb.CoverageRequest:
    """A request for the coverage of `[start, end)`."""
    return pb.CoverageRequest(series=series, range=time_range(start, end))


def summary_metadata(series: str, summary: ReadSummary) -> dict[bytes, bytes]:
    """The summary as schema metadata: one JSON document under METADATA_KEY, times in ISO 8601."""
    document = {
        "series": series,
        "start": iso(summary.range.start),
        "end": iso(summary.range.end),
        "row_count": summary.row_count,
        "closed_through": iso(summary.closed_through),
        "complete": summary.complete,
        "quarantined_count": summary.quarantined_count,
        "uncovered": [_span_document(span) for span in summary.uncovered],
    }
    return {METADATA_KEY: json.dumps(document).encode()}


def warn_if_incomplete(series: str, summary: ReadSummary, *, stacklevel: int) -> None:
    """Warns of the spans that a read could not give, unless the caller asked for completeness."""
    if summary.complete:
        return
    holes = summary.holes
    named = "; ".join(str(span) for span in holes[:_NAMED_HOLES])
    more = f"; and {len(holes) - _NAMED_HOLES} more" if len(holes) > _NAMED_HOLES else ""
    warnings.warn(f"{series}: {named}{more}", IncompleteHistoryWarning, stacklevel=stacklevel + 1)


def _span_document(span: CoverageSpan) -> dict[str, str]:
    return {
        "start": iso(span.range.start),
        "end": iso(span.range.end),
        "state": str(span.state),
        "reason": span.reason,
    }
