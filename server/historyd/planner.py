"""What has to be asked of an exchange to cover a range: gaps, and the pages that fill them.

A page of bars of which anything is missing is asked for whole (up to what has closed): one call either way, the layout
of facts stays page by page however often a caller polls, and bars stored early in the page's life are seen again. A
page of trades takes as many calls as there are trades in it: of that only what is missing is asked for.

Pure: no clock, no I/O. All ranges half-open, all instants in microseconds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from historyd.coverage import Covered, Unreachable, subtract
from historyd.model.time_range import EARLIEST, MICROS_PER_DAY, TimeRange, between

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from historyd.model.page import Pages
    from historyd.model.series import SeriesId
    from historyd.model.timeframe import Grid
    from historyd.model.venue import Venue


@dataclass(frozen=True, slots=True)
class Horizon:
    """What of a series can be asked for at one moment: `[reachable_from, closed_through)`."""

    reachable_from: int
    closed_through: int

    @classmethod
    def of(cls, venue: Venue, series: SeriesId, grid: Grid, venue_now: int) -> Horizon:
        """What had settled by `venue_now`, as deep as the venue serves: bars by their close, trades by their time."""
        settle = venue.trade_settle if series.timeframe is None else venue.bar_settle
        closed_through = grid.floor(venue_now - settle)
        if series.timeframe is None:
            depth = venue.trade_depth
            return cls(EARLIEST if depth is None else max(EARLIEST, grid.floor(venue_now - depth)), closed_through)
        if venue.depth_bars is None:
            return cls(EARLIEST, closed_through)
        oldest = grid.time_of(grid.index_of(venue_now) - venue.depth_bars + 1)
        return cls(max(EARLIEST, oldest), closed_through)

    def unreachable(self, venue: Venue, series: SeriesId) -> list[Unreachable]:
        """The range that lies beyond the venue's depth, with the reason; nothing if it has no such limit."""
        beyond = between(EARLIEST, self.reachable_from)
        if beyond is None:
            return []
        reason = f"{venue.exchange} serves only the last {venue.depth_bars} bars of {series.timeframe}"
        if series.timeframe is None and venue.trade_depth is not None:
            reason = f"{venue.exchange} serves trades of the last {venue.trade_depth // MICROS_PER_DAY} days only"
        return [Unreachable(beyond, reason)]

    def clip(self, window: TimeRange) -> TimeRange | None:
        """What of the window can be asked for."""
        return between(max(window.start, self.reachable_from), min(window.end, self.closed_through))


@dataclass(frozen=True, slots=True)
class Plan:
    """The gaps of a wanted range, ascending and disjoint, and the pages that fill them."""

    gaps: tuple[TimeRange, ...]
    pages: Pages
    horizon: Horizon

    def windows(self) -> Iterator[TimeRange]:
        """The windows to ask for, ascending, at most one a page and none twice.

        Of bars whole pages, cut only by the horizon; of trades from the first gap in the page to the last one's end,
        in whole milliseconds.
        """
        for first, last in self._runs():
            for number in range(first, last + 1):
                window = self.horizon.clip(self._wanted_of(self.pages.at(number)))
                if window is not None:
                    yield window

    def _wanted_of(self, page: TimeRange) -> TimeRange:
        """What to ask for of a page that a gap touches."""
        if self.pages.whole:
            return page
        first = bisect_right(self.gaps, page.start, key=lambda gap: gap.end)
        last = bisect_left(self.gaps, page.end, key=lambda gap: gap.start) - 1
        start, end = max(page.start, self.gaps[first].start), min(page.end, self.gaps[last].end)
        return TimeRange(self.pages.grid.floor(start), self.pages.grid.ceil(end))

    @property
    def page_count(self) -> int:
        """How many windows there are; costs as much as there are gaps."""
        return sum(last - first + 1 for first, last in self._runs())

    def _runs(self) -> Iterator[tuple[int, int]]:
        """First and last page number of each gap; a page shared by two gaps belongs to the first."""
        done = None
        for gap in self.gaps:
            first, last = self.pages.number_of(gap.start), self.pages.number_of(gap.end - 1)
            first = first if done is None else max(first, done + 1)
            if first <= last:
                yield first, last
                done = last


def plan(
    covered: Sequence[Covered],
    wanted: TimeRange,
    pages: Pages,
    horizon: Horizon,
    *,
    venue_now: int,
    believed_since: int | None = None,
    unreachable: Sequence[Unreachable] = (),
) -> Plan:
    """What to ask for so that `wanted` is covered as far as the horizon allows.

    Args:
        covered: what is covered of `wanted`, disjoint and ascending.
        wanted: the range to cover.
        pages: the pages of the series.
        horizon: what can be asked for now.
        venue_now: the exchange's clock; an empty answer that was given too early is asked for once more.
        believed_since: answers older than this are not believed (a refresh); None believes all.
        unreachable: ranges that are not asked for, ascending.
    """
    reachable = horizon.clip(wanted)
    if reachable is None:
        return Plan((), pages, horizon)
    gaps = missing(covered, reachable, venue_now=venue_now, believed_since=believed_since)
    skipped = [hit.range for hit in unreachable]
    return Plan(tuple(part for gap in gaps for part in subtract(gap, skipped)), pages, horizon)


def missing(
    covered: Sequence[Covered], wanted: TimeRange, *, venue_now: int, believed_since: int | None = None
) -> list[TimeRange]:
    """The parts of `wanted` that no believed answer covers, ascending; arguments as for `plan`."""
    believed = (span.range for span in covered if _is_believed(span, believed_since, venue_now))
    return subtract(wanted, believed)


def _is_believed(span: Covered, believed_since: int | None, venue_now: int) -> bool:
    if believed_since is not None and span.checked_at < believed_since:
        return False
    return span.recheck_after is None or venue_now < span.recheck_after
