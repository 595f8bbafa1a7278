"""Coverage: what is known about a series, as sorted disjoint spans of time.

Theory of operation. A *fact* says: at `asked_at` the exchange was asked for this range and answered with so
many rows. Facts only ever add knowledge; where two overlap, the newer answer holds (a store cuts the older one).
`merge` folds a store's disjoint facts into maximal covered spans; `tile` lays covered, pending, unreachable and
missing spans over a window without holes or overlaps; `subtract` and `union` are the set operations under both.

An empty answer is provisional if it was given within a day of the end of its range (a venue may publish late):
it covers, but `recheck_after` says when it should be asked for once more. Provisional spans are never merged.

Pure: no clock, no I/O. All ranges half-open, all instants in microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from historyd.model.time_range import MICROS_PER_DAY, TimeRange, between

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RECHECK_DELAY: Final = MICROS_PER_DAY
"""How long after its end an empty range must have been asked for to be believed for good."""


class State(StrEnum):
    """What is known about an instant; each outranks the ones below it."""

    COVERED = "covered"
    PENDING = "pending"
    UNREACHABLE = "unreachable"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Fact:
    """At `asked_at` the exchange was asked for `range` and answered with `row_count` good rows."""

    range: TimeRange
    asked_at: int
    row_count: int

    @property
    def recheck_after(self) -> int | None:
        """When an empty answer given too early should be asked for once more; None if it holds for good."""
        settled = self.range.end + RECHECK_DELAY
        return settled if self.row_count == 0 and self.asked_at < settled else None


@dataclass(frozen=True, slots=True)
class Covered:
    """A maximal covered span. `checked_at` is the oldest answer in it; empty spans stand on their own."""

    range: TimeRange
    row_count: int
    checked_at: int
    recheck_after: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """One tile of a window. `row_count` and `checked_at` belong to COVERED, `reason` to UNREACHABLE."""

    range: TimeRange
    state: State
    row_count: int = 0
    checked_at: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A range that the venue cannot serve now, and why."""

    range: TimeRange
    reason: str


def merge(facts: Iterable[Fact]) -> list[Covered]:
    """Folds disjoint facts, ascending, into maximal spans."""
    spans: list[Covered] = []
    for fact in facts:
        append(spans, Covered(fact.range, fact.row_count, fact.asked_at, fact.recheck_after))
    return spans


def append(spans: list[Covered], later: Covered) -> None:
    """Adds a span that begins at or after the end of the last one, merging the two if they may be merged."""
    if spans and _mergeable(spans[-1], later):
        last = spans[-1]
        spans[-1] = Covered(
            TimeRange(last.range.start, later.range.end),
            last.row_count + later.row_count,
            min(last.checked_at, later.checked_at),
        )
    else:
        spans.append(later)


def _mergeable(left: Covered, right: Covered) -> bool:
    touching = left.range.end == right.range.start
    alike = (left.row_count == 0) == (right.row_count == 0)
    return touching and alike and left.recheck_after is None and right.recheck_after is None


def subtract(window: TimeRange, taken: Iterable[TimeRange]) -> list[TimeRange]:
    """What of the window is in none of `taken` (ascending, may overlap), ascending and maximal."""
    rest: list[TimeRange] = []
    cursor = window.start
    for span in taken:
        if span.start > cursor:
            gap = between(cursor, min(span.start, window.end))
            if gap is not None:
                rest.append(gap)
        cursor = max(cursor, span.end)
    tail = between(cursor, window.end)
    return [*rest, tail] if tail is not None else rest


def union(ranges: Iterable[TimeRange]) -> list[TimeRange]:
    """The ranges as maximal disjoint ones, ascending; touching ones are joined."""
    joined: list[TimeRange] = []
    for span in sorted(ranges):
        if joined and span.start <= joined[-1].end:
            joined[-1] = TimeRange(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined


def disjoin(unreachable: Iterable[Unreachable]) -> list[Unreachable]:
    """The same ranges, ascending and disjoint.

    Where two overlap the earlier one's reason holds; neighbours of one reason are joined.
    """
    joined: list[Unreachable] = []
    for hit in sorted(unreachable, key=lambda hit: (hit.range.start, hit.range.end)):
        last = joined[-1] if joined else None
        if last is not None and last.reason == hit.reason and hit.range.start <= last.range.end:
            joined[-1] = Unreachable(TimeRange(last.range.start, max(last.range.end, hit.range.end)), hit.reason)
            continue
        rest = between(max(hit.range.start, last.range.end), hit.range.end) if last is not None else hit.range
        if rest is not None:
            joined.append(Unreachable(rest, hit.reason))
    return joined


def tile(
    window: TimeRange,
    covered: Sequence[Covered],
    closed_through: int,
    unreachable: Sequence[Unreachable] = (),
) -> list[Span]:
    """Tiles the window with the four states, ascending, maximal, without holes or overlaps.

    Args:
        window: what to tile.
        covered: disjoint spans inside the window, ascending, their row counts those of exactly the span.
        closed_through: first instant that has not settled; what is not covered from there on is PENDING.
        unreachable: ranges that the venue cannot serve, ascending and disjoint.
    """
    tiles = [Span(span.range, State.COVERED, span.row_count, span.checked_at) for span in _remerge(covered)]
    gaps = subtract(window, (span.range for span in covered))
    for gap in gaps:
        tiles.extend(_tile_gap(gap, closed_through, unreachable))
    return sorted(tiles, key=lambda span: span.range.start)


def _remerge(covered: Sequence[Covered]) -> list[Covered]:
    """Provisional spans look like any other from outside."""
    spans: list[Covered] = []
    for span in covered:
        append(spans, replace(span, recheck_after=None))
    return spans


def _tile_gap(gap: TimeRange, closed_through: int, unreachable: Sequence[Unreachable]) -> list[Span]:
    tiles: list[Span] = []
    closed = between(gap.start, min(gap.end, closed_through))
    if closed is not None:
        cut = [(part, hit.reason) for hit in unreachable if (part := closed.intersect(hit.range))]
        tiles += [Span(part, State.UNREACHABLE, reason=reason) for part, reason in cut]
        tiles += [Span(part, State.MISSING) for part in subtract(closed, (part for part, _ in cut))]
    pending = between(max(gap.start, closed_through), gap.end)
    if pending is not None:
        tiles.append(Span(pending, State.PENDING))
    return tiles
