"""Covered spans kept in memory: added to, and clipped to a window with exact counts where these need no look-up.

A span of bars is *full* if it has a row for every slot of its grid. Rows are unique and on the grid, so a part of a
full span has as many rows as it has slots, and a part of an empty one has none. Only a part of a span with gaps has
to be counted. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from historyd.coverage import Covered, Fact, append
from historyd.model.time_range import TimeRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from historyd.model.timeframe import Grid

UNCOUNTED = -1
"""Stands for the row count of a part that has to be counted."""


def folded(facts: Iterable[tuple[int, int, int, int]]) -> list[Covered]:
    """`coverage.merge` of (since, until, asked_at, row_count), for any number of facts in little time.

    Touching facts with rows always merge, and there are most of these: no object is made for each.
    """
    spans: list[Covered] = []
    start = end = oldest = total = 0
    for since, until, asked_at, row_count in facts:
        if total and row_count and since == end:
            end, total = until, total + row_count
            oldest = min(oldest, asked_at)
            continue
        if total:
            append(spans, Covered(TimeRange(start, end), total, oldest))
        start, end, oldest, total = since, until, asked_at, row_count
        if not row_count:
            recheck_after = Fact(TimeRange(since, until), asked_at, 0).recheck_after
            append(spans, Covered(TimeRange(since, until), 0, asked_at, recheck_after))
    if total:
        append(spans, Covered(TimeRange(start, end), total, oldest))
    return spans


def added(spans: Sequence[Covered], fact: Fact) -> list[Covered]:
    """The spans with a fact that overlaps none of them; as `coverage.merge` of all facts gives them."""
    place = bisect_left(spans, fact.range.start, key=lambda span: span.range.start)
    near = slice(max(0, place - 1), place + 1)
    joined: list[Covered] = []
    for span in sorted(
        [*spans[near], Covered(fact.range, fact.row_count, fact.asked_at, fact.recheck_after)],
        key=lambda span: span.range.start,
    ):
        append(joined, span)
    return [*spans[: near.start], *joined, *spans[near.stop :]]


def clipped(spans: Sequence[Covered], window: TimeRange, grid: Grid | None) -> list[Covered]:
    """The parts of the spans in the window; `row_count` is UNCOUNTED where it has to be looked up.

    Args:
        spans: disjoint, ascending.
        window: what to clip them to.
        grid: the grid of bars; None for rows without one.
    """
    first = bisect_left(spans, window.start + 1, key=lambda span: span.range.end)
    last = bisect_left(spans, window.end, key=lambda span: span.range.start)
    return [_clip(span, window, grid) for span in spans[first:last]]


def _clip(span: Covered, window: TimeRange, grid: Grid | None) -> Covered:
    if window.contains(span.range):
        return span
    part = span.range.intersect(window)
    assert part is not None
    return Covered(part, _count(span, part, grid), span.checked_at, span.recheck_after)


def _count(span: Covered, part: TimeRange, grid: Grid | None) -> int:
    if span.row_count == 0:
        return 0
    if grid is not None and span.row_count == grid.count(span.range.start, span.range.end):
        return grid.count(part.start, part.end)
    return UNCOUNTED
