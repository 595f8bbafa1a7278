"""Segments: which answer counts in which part of a series' time. Sorted and disjoint, kept in memory.

A newer answer is laid over older ones and cuts them. How many rows are left of a cut one is known at once if it had a
row for every slot of its grid or none at all; else it is UNCOUNTED until somebody who can look has counted it. Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from historyd.coverage import Fact, subtract
from historyd.stores.spans import UNCOUNTED, added, folded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from historyd.coverage import Covered
    from historyd.model.time_range import TimeRange
    from historyd.model.timeframe import Grid


@dataclass(frozen=True, slots=True)
class Segment:
    """A range in which one answer counts.

    Attributes:
        range: where it counts.
        asked_at: when the exchange was asked.
        row_count: its rows in the range, or UNCOUNTED.
        answer: the number that its rows bear.
        set_aside: rows of the whole answer that were set aside.
        whole: nothing was cut off, so that all rows of the answer lie in the range.
    """

    range: TimeRange
    asked_at: int
    row_count: int
    answer: int
    set_aside: int = 0
    whole: bool = True

    def part(self, window: TimeRange, grid: Grid | None) -> Segment:
        """What is left of it in a window inside its range."""
        return replace(self, range=window, row_count=part_count(self, window, grid), whole=False)


def part_count(segment: Segment, window: TimeRange, grid: Grid | None) -> int:
    """Rows of a segment in a window inside its range, UNCOUNTED if one has to look."""
    if segment.row_count == 0 or window == segment.range:
        return segment.row_count
    if grid is not None and segment.row_count == grid.count(segment.range.start, segment.range.end):
        return grid.count(window.start, window.end)
    return UNCOUNTED


class Segments:
    """The segments of one series; `grid` is that of its bars, None for trades."""

    def __init__(self, grid: Grid | None) -> None:
        self.grid = grid
        self._kept: list[Segment] = []
        self._spans: Sequence[Covered] | None = []

    def restore(self, kept: Sequence[Segment]) -> None:
        """Begins anew with these, which were all of some series' at one time."""
        self._kept = list(kept)
        self._spans = None

    def lay(self, new: Segment) -> None:
        """Lays an answer over the others; where one that was asked later counts already, that one stays."""
        old = self.touching(new.range)
        if not old:
            self._kept.insert(self._place(new.range.start), new)
            if self._spans is not None:
                self._spans = added(self._spans, Fact(new.range, new.asked_at, new.row_count))
            return
        newer = [segment.range for segment in old if segment.asked_at > new.asked_at]
        parts = [new.range] if not newer else subtract(new.range, newer)
        for part in parts:
            self.erase(part)
            self._kept.insert(self._place(part.start), new if part == new.range else new.part(part, self.grid))

    def erase(self, window: TimeRange) -> None:
        """Nothing counts in the window any more."""
        first, last = self._bounds(window)
        left = [
            segment.part(rest, self.grid)
            for segment in self._kept[first:last]
            for rest in subtract(segment.range, [window])
        ]
        self._kept[first:last] = left
        self._spans = None

    def touching(self, window: TimeRange) -> list[Segment]:
        """Segments that share an instant with the window, ascending."""
        first, last = self._bounds(window)
        return self._kept[first:last]

    def all(self) -> Sequence[Segment]:
        """All of them, ascending; not to be changed."""
        return self._kept

    def uncounted(self) -> list[Segment]:
        """Those whose rows have to be counted."""
        return [] if self._spans is not None else [one for one in self._kept if one.row_count == UNCOUNTED]

    def counted(self, segment: Segment, row_count: int) -> None:
        """Says how many rows a segment has, if it still is as it was."""
        place = self._place(segment.range.start)
        if place < len(self._kept) and self._kept[place] is segment:
            self._kept[place] = replace(segment, row_count=row_count)

    def spans(self) -> Sequence[Covered]:
        """Maximal covered spans; everything must have been counted."""
        if self._spans is None:
            self._spans = folded((s.range.start, s.range.end, s.asked_at, s.row_count) for s in self._kept)
        return self._spans

    def _place(self, start: int) -> int:
        return bisect_left(self._kept, start, key=_start)

    def _bounds(self, window: TimeRange) -> tuple[int, int]:
        return bisect_right(self._kept, window.start, key=_end), bisect_left(self._kept, window.end, key=_start)


def _start(segment: Segment) -> int:
    return segment.range.start


def _end(segment: Segment) -> int:
    return segment.range.end
