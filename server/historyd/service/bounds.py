"""The bound on how much one answer tells: gRPC's clients take 4 MiB unless told otherwise.

Never does: cut an answer short. What would be too large is refused, with the range that would not be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from historyd.errors import InvalidField
from historyd.model.time_range import iso

if TYPE_CHECKING:
    from collections.abc import Sequence

    from historyd.coverage import Span
    from historyd.model.time_range import TimeRange

MAX_SPANS: Final = 25_000
"""Spans of one answer: at most about 150 bytes each, 60 as a rule."""


def bounded(spans: Sequence[Span]) -> Sequence[Span]:
    """The spans, ascending, if they are no more than an answer holds. Raises InvalidField."""
    _check([span.range for span in spans[: MAX_SPANS + 1]], len(spans))
    return spans


def bounded_ranges(ranges: Sequence[TimeRange]) -> Sequence[TimeRange]:
    """The same of ranges."""
    _check(ranges, len(ranges))
    return ranges


def _check(ranges: Sequence[TimeRange], count: int) -> None:
    if count > MAX_SPANS:
        until = iso(ranges[MAX_SPANS].start)
        must = f"must hold at most {MAX_SPANS:,} spans of coverage for one answer, ask for it up to {until} first"
        raise InvalidField("range", f"{count:,} spans", must)
